"""The same results on a Dask cluster, bit for bit."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import habitat
from habitat.cohort._dask import DaskRunner, DaskStore
from habitat.cohort._work import Task
from habitat.errors import CohortError, ConfigError, HabitatWarning
from habitat.population._learn import FileStore
from habitat.saving import PART
from habitat.segmentation import versions
from tests.test_batch import QUICK, digests, phantoms, table

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    patient = {"distributed.deploy.lost-worker-timeout": "300s"}  # on a busy machine
    with (
        dask.config.set(patient),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
    ):
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


def pause(room):
    time.sleep(3)


def die_once(mark, room):
    if not Path(mark).exists():
        Path(mark).touch()
        time.sleep(0.2)
        os._exit(7)
    return "second time"


@pytest.mark.slow  # workers start again
def test_tasks_fail_and_die_alone(client, tmp_path):
    calls = [(succeed, (i,)) for i in range(20)]
    calls += [(fail, ()), (die_once, (str(tmp_path / "mark"),))]
    calls += [(succeed, (threading.Lock(),))]
    tasks = [Task(i, f"t{i}", *one) for i, one in enumerate(calls)]
    done = {d.key: d for d in DaskRunner(client).run(tasks)}
    assert [done[i].value for i in range(20)] == list(range(20))
    assert done[20].failure.message == "ValueError: this one"
    assert done[21].value == "second time"
    assert "cannot be sent to a worker" in done[22].failure.message


def kill_workers_after_one(client, monkeypatch):
    """Kill all workers of the cluster when the first case of the next run is done."""
    run, pids = DaskRunner.run, list(client.run(os.getpid).values())

    def killing(self, tasks):
        for done in run(self, tasks):
            while pids:
                os.kill(pids.pop(), signal.SIGKILL)
            yield done

    monkeypatch.setattr(DaskRunner, "run", killing)


def test_batch_and_fit_are_those_of_local_processes(
    client, cluster, tmp_path, monkeypatch
):
    rows = phantoms(tmp_path, 3)
    rows.insert(1, {**rows[0], "case_id": "bad", "pet": "none.nii", "group": "p0"})
    rows[0]["group"] = "p0"
    cases = habitat.read_cohort(table(tmp_path, rows))
    local = habitat.batch(cases, tmp_path / "local", k=2, families=QUICK, jobs=2)
    kill_workers_after_one(client, monkeypatch)
    other = habitat.batch(cases, tmp_path / "dask", k=2, families=QUICK, client=client)
    assert other.status == local.status
    assert other.exit_code == 1
    mine, theirs = digests(local.out), digests(other.out)
    theirs = {n: sha256 for n, sha256 in theirs.items() if PART not in n}
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


@pytest.mark.slow  # workers start again
def test_a_lost_worker_loses_no_voxel(client, cluster, tmp_path):
    cases = list(habitat.read_cohort(table(tmp_path, phantoms(tmp_path, 3))))
    model = habitat.HabitatModel(3)
    settings = model.settings_for(["pet", "ct"])
    store = DaskStore(DaskRunner(client), cases, settings)
    first = store.each(count)
    pids = client.run(os.getpid)
    os.kill(next(iter(pids.values())), signal.SIGKILL)
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


@pytest.mark.slow  # workers start again and again
def test_a_task_that_kills_its_worker_costs_no_other(client, cluster, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    calls = [(succeed, (i,)) for i in range(8)]
    calls[1] = (die, ())
    tasks = [Task(i, f"t{i}", *one) for i, one in enumerate(calls)]
    done = {d.key: d for d in DaskRunner(client).run(tasks)}
    assert done[1].failure.kind == "crashed"
    assert [d.key for d in done.values() if d.failure] == [1]
    assert len(done) == 8


def test_other_versions_are_refused(client, monkeypatch):
    mine = versions()
    monkeypatch.setattr(
        "habitat.cohort._dask.versions", lambda: {**mine, "habitat": "9"}
    )
    with pytest.raises(ConfigError, match=r"its workers have habitat .* \(here 9\)"):
        DaskRunner(client)
    monkeypatch.setattr("habitat.cohort._dask.versions", lambda: {**mine, "numpy": "0"})
    with pytest.warns(HabitatWarning, match=r"numpy .* \(here 0\): last digits"):
        DaskRunner(client)


@pytest.mark.slow  # workers start again
def test_a_cluster_that_goes_away_ends_the_run():
    """What is done is yielded; then the error says that the cluster is gone."""
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as brief,
        distributed.Client(brief) as client,
    ):
        runner = DaskRunner(client)
        calls = [(succeed, (1,)), (pause, ()), (pause, ())]
        done = runner.run([Task(i, f"t{i}", *c) for i, c in enumerate(calls)])
        assert next(done).value == 1
        brief.close()
        with pytest.raises(CohortError, match="cluster went away while case t"):
            list(done)


def test_no_scheduler(monkeypatch):
    monkeypatch.setattr("habitat.cohort._dask._WAIT", 1)
    with pytest.raises(CohortError, match="no Dask scheduler answers"):
        DaskRunner("tcp://127.0.0.1:9")
