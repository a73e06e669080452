"""The same results on a Dask cluster, bit for bit."""

import os
import time
from pathlib import Path

import pytest

import habitat
from habitat.cohort._dask import DaskRunner, DaskStore
from habitat.cohort._work import Task
from habitat.errors import CohortError, ConfigError
from habitat.population._learn import FileStore
from tests.test_batch import digests, phantoms, table

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


def succeed(value, room):
    assert room is None
    return value


def fail(room):
    raise ValueError("this one")


def die(room):
    os._exit(7)


def die_once(mark, room):
    if not Path(mark).exists():
        Path(mark).touch()
        time.sleep(0.2)
        os._exit(7)
    return "second time"


def test_tasks_fail_and_die_alone(client, tmp_path):
    calls = [(succeed, (i,)) for i in range(20)]
    calls += [(fail, ()), (die_once, (str(tmp_path / "mark"),))]
    tasks = [Task(i, f"t{i}", *one) for i, one in enumerate(calls)]
    done = {d.key: d for d in DaskRunner(client).run(tasks)}
    assert [done[i].value for i in range(20)] == list(range(20))
    assert done[20].failure.message == "ValueError: this one"
    assert done[21].value == "second time"


def test_batch_and_fit_are_those_of_local_processes(client, cluster, tmp_path):
    rows = phantoms(tmp_path, 3)
    rows.insert(1, {**rows[0], "case_id": "bad", "pet": "none.nii", "group": "p0"})
    rows[0]["group"] = "p0"
    cases = habitat.read_cohort(table(tmp_path, rows))
    local = habitat.batch(cases, tmp_path / "local", k=2, jobs=2)
    other = habitat.batch(cases, tmp_path / "dask", k=2, client=client)
    assert other.status == local.status
    assert other.exit_code == 1
    mine, theirs = digests(local.out), digests(other.out)
    traceback = "tracebacks/bad.txt"
    assert mine.pop(traceback) != ""
    assert theirs.pop(traceback) != ""
    assert mine == theirs
    model = habitat.fit_cohort(cases, tmp_path / "m1", 3, jobs=1)
    address = cluster.scheduler_address
    again = habitat.fit_cohort(cases, tmp_path / "m2", 3, client=address)
    assert again.model.sha256 == model.model.sha256
    assert list(again.failures["case_id"]) == ["bad"]
    assert (tmp_path / "m1" / "centres.csv").read_bytes() == (
        tmp_path / "m2" / "centres.csv"
    ).read_bytes()


def test_a_lost_worker_loses_no_voxel(client, cluster, tmp_path):
    cases = list(habitat.read_cohort(table(tmp_path, phantoms(tmp_path, 3))))
    model = habitat.HabitatModel(3)
    settings = model.settings_for(["pet", "ct"])
    store = DaskStore(DaskRunner(client), cases, settings)
    first = store.each(count)
    worker = next(iter(client.scheduler_info()["workers"]))
    client.restart_workers([worker])
    assert store.each(count) == first
    model.fit_store(store, settings)
    (tmp_path / "v").mkdir()
    plain = FileStore(cases, settings, tmp_path / "v")
    assert habitat.HabitatModel(3).fit_store(plain, settings).sha256 == model.sha256


def count(voxels):
    return len(voxels.X)


def test_what_cannot_be_is_said(client, tmp_path):
    case = habitat.Case("a", {"pet": "a", "ct": "b"}, "c")
    with pytest.raises(ConfigError, match=r"`jobs`.*no effect on a Dask"):
        habitat.batch([case], tmp_path / "o", client=client, jobs=2)
    with pytest.raises(ConfigError, match=r"must be a distributed\.Client"):
        DaskRunner(3)


def test_a_worker_that_is_killed_again_and_again_costs_its_case(client):
    done = {d.key: d for d in DaskRunner(client).run([Task(0, "a", die, ())])}
    assert done[0].failure.kind == "crashed"


def test_no_scheduler(monkeypatch):
    monkeypatch.setattr("habitat.cohort._dask._WAIT", 1)
    with pytest.raises(CohortError, match="no Dask scheduler answers"):
        DaskRunner("tcp://127.0.0.1:9")
