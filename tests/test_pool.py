"""Worker processes: no task costs another, nothing is left behind."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from habitat.cohort import _lock, _pool
from habitat.cohort._lock import locked
from habitat.cohort._pool import LocalRunner
from habitat.cohort._work import Task
from habitat.errors import CohortError, ConfigError, HabitatWarning
from tests import pool_tasks as do

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
ROOT = str(Path(__file__).parents[1])


def task(key, function, *args):
    return Task(key, f"case {key}", function, args)


def squares(numbers):
    return [task(i, do.square, i) for i in numbers]


def alive(pid):
    """Runs a process? One that ended counts as gone before its parent asks for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(seconds, pids):
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(scope="module")
def runner():
    with LocalRunner(2) as runner:
        yield runner


def test_results_do_not_depend_on_the_processes(runner):
    tasks = [task(i, do.slow_square, i, i * 7 % 5 / 1000) for i in range(200)]
    with LocalRunner(5) as other:
        for one in (runner, other):
            ends = {done.key: done for done in one.run(tasks)}
            assert {key: done.value for key, done in ends.items()} == {
                i: i * i for i in range(200)
            }
            assert all(done.seconds >= i * 7 % 5 / 1000 for i, done in ends.items())


def test_tasks_are_taken_as_workers_become_free(runner):
    taken = []

    def tasks():
        for i in range(20):
            taken.append(i)
            yield task(i, do.square, i)

    for n, _ in enumerate(runner.run(tasks()), start=1):
        assert len(taken) <= n + 2 * runner.workers


def test_nothing_to_do(runner):
    assert list(runner.run([])) == list(runner.run(iter(()))) == []


def test_workers_have_one_thread_and_stay_for_the_next_run(runner):
    names = ["HABITAT_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"]
    (done,) = runner.run([task(0, do.environment, names)])
    assert done.value == ["1"] * 3
    (one,) = runner.run([task(0, do.pid)])
    (two,) = runner.run([task(0, do.pid)])
    assert one.value == two.value != os.getpid()


def test_output_of_workers_stays_off_the_terminal(runner, capfd):
    (done,) = runner.run([task(0, do.shout)])
    assert done.value == ""  # and standard input is empty
    assert capfd.readouterr() == ("", "")


def test_large_values_pass(runner):
    value = os.urandom(30_000_000)
    (done,) = runner.run([task(0, do.echo, value)])
    assert done.value == value


def test_peak_is_that_of_the_task(runner):
    with LocalRunner(1) as alone:
        tasks = [task(0, do.allocate, 200_000_000), task(1, do.square, 3)]
        large, small = alone.run(tasks)
    assert 200_000_000 < large.peak < 600_000_000
    if Path("/proc/self/clear_refs").exists():
        assert 0 < small.peak < 100_000_000


@pytest.mark.parametrize(
    ("function", "args", "kind", "message"),
    [
        (do.refuse, (), "InputError", "pet.nii: is bad"),
        (do.raise_, (MemoryError("20 GB"),), "MemoryError", "20 GB"),
        (do.raise_, (SystemExit(3),), "SystemExit", "3"),
        (do.raise_, (KeyboardInterrupt(),), "KeyboardInterrupt", ""),
        (do.unpicklable, (), None, "<lambda>"),
        (do.trap, (), "RuntimeError", "sprung"),
        (do.square, (do.Trap(),), "RuntimeError", "sprung"),
        (do.square, (threading.Lock(),), "TypeError", "lock"),
        (lambda room: 0, (), None, "<lambda>"),
    ],
)
def test_a_task_that_fails_costs_itself_only(runner, function, args, kind, message):
    before = runner._crew.copy()
    bad = task(99, function, *args)
    ends = {done.key: done for done in runner.run([bad, *squares(range(9)), bad])}
    failure = ends.pop(99).failure
    assert [ends[i].value for i in range(9)] == [i * i for i in range(9)]
    assert kind in (failure.kind, None)
    assert message in failure.message
    assert "Traceback" in failure.traceback
    assert before <= runner._crew  # no process died of it


@pytest.mark.parametrize(
    ("function", "args", "words", "trace"),
    [
        (do.kill_self, (signal.SIGKILL,), "signal 9 (SIGKILL), perhaps for", ""),
        (do.kill_self, (signal.SIGTERM,), "signal 15 (SIGTERM), even alone", ""),
        (do.segfault, (), "signal 11 (SIGSEGV)", "in segfault"),
        (do.leave, (7,), "ended with exit code 7", ""),
        (do.leave, (0,), "ended with exit code 0", ""),
    ],
)
def test_a_process_that_dies_costs_its_task_only(function, args, words, trace):
    tasks = [*squares(range(4)), task(99, function, *args), *squares(range(4, 12))]
    with LocalRunner(2) as runner:
        *others, last = runner.run(tasks)
    assert {done.key: done.value for done in others} == {i: i * i for i in range(12)}
    assert (last.key, last.failure.kind) == (99, "crashed")
    assert words in last.failure.message
    assert trace in last.failure.traceback
    assert last.failure.fix


def test_who_was_killed_by_chance_is_done_alone(tmp_path):
    tasks = [task(i, do.interval, 0.2) for i in range(4)]
    tasks.insert(1, task(99, do.kill_self_once, str(tmp_path / "marker")))
    with LocalRunner(2) as runner:
        ends = {done.key: done for done in runner.run(tasks)}
    assert all(done.failure is None for done in ends.values())
    start, _, room = ends.pop(99).value
    assert all(start > done.value[1] for done in ends.values())
    assert room > 1.5 * ends[0].value[2]  # all memory, not its share


def test_all_processes_die(tmp_path):
    tasks = [task(i, do.kill_self, signal.SIGKILL) for i in range(3)]
    with LocalRunner(2) as runner:
        assert {done.failure.kind for done in runner.run(tasks)} == {"crashed"}


def test_whoever_is_killed_each_task_ends_once():
    rng = random.Random(20261122)
    with LocalRunner(3) as runner:
        ends = {}
        tasks = [task(i, do.slow_square, i, 0.02) for i in range(45)]
        for done in runner.run(tasks):
            assert done.key not in ends
            ends[done.key] = done
            if rng.random() < 0.2:  # at any moment: starting, working, waiting
                worker = rng.choice(sorted(runner._crew, key=lambda w: w.process.pid))
                os.kill(worker.process.pid, signal.SIGKILL)
    assert sorted(ends) == list(range(45))
    for key, done in ends.items():
        assert done.value == key * key or done.failure.kind == "crashed"
    assert sum(done.failure is None for done in ends.values()) > 30


def test_a_worker_killed_between_runs_is_replaced():
    with LocalRunner(1) as runner:
        for wait in (0.0, 0.3):
            (done,) = runner.run([task(0, do.pid)])
            os.kill(done.value, signal.SIGKILL)
            time.sleep(wait)
            assert [d.value for d in runner.run(squares([5]))] == [25]


def test_what_a_dead_worker_started_ends_too(tmp_path):
    marker = tmp_path / "child"
    with LocalRunner(1) as runner:
        (done,) = runner.run([task(0, do.orphan, str(marker))])
    assert done.failure.kind == "crashed"
    assert gone_within(1, [int(marker.read_text())])


def test_those_who_need_more_memory_run_with_fewer_others(monkeypatch):
    monkeypatch.setattr(_pool, "available", lambda: 1000)
    needs = [900, 200, 5000, 400, 200, 500, 200, 800]
    with LocalRunner(4) as runner:
        tasks = [task(i, do.need, n, 0.1) for i, n in enumerate(needs)]
        ends = sorted(runner.run(tasks), key=lambda done: done.key)
    failure = ends.pop(2).failure
    assert (failure.kind, failure.message) == (
        "InputError",
        "needs 0.0 GB of memory, 0.0 GB are free",
    )
    spans = [done.value for done in ends]
    assert [room for _, _, room in spans] == [1000, 250, 500, 250, 500, 250, 1000]
    needs.pop(2)
    for start, _, _ in spans:  # never more at once than there is
        at_once = zip(needs, spans, strict=True)
        assert sum(n for n, (a, b, _) in at_once if a <= start < b) <= 1000


def test_unknown_memory(monkeypatch):
    monkeypatch.setattr(_pool, "available", lambda: None)
    with LocalRunner(1) as runner:
        (done,) = runner.run([task(0, do.interval, 0)])
    assert done.value[2] is None


def test_timeouts_cost_the_slow_only():
    slow = [task(90, do.spin), task(91, do.sleep, 60), task(92, do.hold_gil, 60)]
    with LocalRunner(4, timeout=1) as runner:
        start = time.monotonic()
        ends = {done.key: done for done in runner.run([*slow, *squares(range(50))])}
        assert time.monotonic() - start < 10
    assert [ends[i].value for i in range(50)] == [i * i for i in range(50)]
    for key in (90, 91, 92):
        assert ends[key].failure.kind == "timeout"
        assert ends[key].failure.message == "took longer than 1 s"
        assert ends[key].seconds >= 1
    for key, name in ((90, "spin"), (91, "sleep"), (92, "hold_gil")):
        assert f"in {name}" in ends[key].failure.traceback  # where it stood


def test_a_slow_reader_makes_no_timeouts():
    with LocalRunner(2, timeout=0.2) as runner:
        for done in runner.run(squares(range(4))):
            time.sleep(1.3 if done.key == 0 else 0)
            assert done.failure is None


@pytest.mark.parametrize("end", ["close", "error"])
def test_an_abandoned_run_leaves_nothing(tmp_path, end):
    tasks = [task(0, do.pid), *(task(1, do.tell_and, "gil", tmp_path) for _ in "ab")]
    with LocalRunner(3) as runner:
        ends = runner.run(tasks)
        next(ends)
        while len(pids := [int(path.name) for path in tmp_path.iterdir()]) < 2:
            time.sleep(0.01)
        if end == "close":
            ends.close()
        else:
            with pytest.raises(KeyboardInterrupt):
                ends.throw(KeyboardInterrupt)
        assert gone_within(0.1, pids)
        assert [done.value for done in runner.run(squares([3]))] == [9]


SCRIPT = """
import sys
from tests import pool_tasks as do
from habitat.cohort._lock import locked
from habitat.cohort._pool import LocalRunner
from habitat.cohort._work import Task

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is off
print("main ran", flush=True)
kinds = ["spin", "gil"]
with locked(sys.argv[1] + "/out") as keep, LocalRunner(2, keep=keep) as runner:
    tasks = [Task(0, "", do.tell_and, (kind, sys.argv[1] + "/pids")) for kind in kinds]
    list(runner.run(tasks))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, number):
    (tmp_path / "pids").mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    parent = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(pids := [int(path.name) for path in (tmp_path / "pids").iterdir()]) < 2:
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(parent.pid, number)
    out, err = parent.communicate(timeout=5)
    assert gone_within(1, pids)
    assert out == "main ran\n"  # once: workers do not run it again
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)
    with locked(tmp_path / "out"):  # at once: the dead hold nothing
        pass


def test_functions_of_the_main_script_are_refused():
    script = """
from habitat.cohort._pool import LocalRunner
from habitat.cohort._work import Task
def mine(room): pass
with LocalRunner(1) as runner:
    list(runner.run([Task(0, "", print, ([mine],))]))
"""
    env = {**os.environ, "PYTHONPATH": ROOT}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert "ConfigError: 'mine' is defined in the main script" in done.stderr
    assert "put it in a module" in done.stderr


def test_modules_are_found_where_the_parent_finds_them(tmp_path, monkeypatch):
    (tmp_path / "häüß 模块.d").mkdir()
    (tmp_path / "häüß 模块.d" / "own_tasks.py").write_text("def one(room): return 1\n")
    monkeypatch.syspath_prepend(tmp_path / "häüß 模块.d")
    import own_tasks

    with LocalRunner(1) as runner:
        assert [d.value for d in runner.run([task(0, own_tasks.one)])] == [1]


def test_processes_that_cannot_start(monkeypatch):
    with LocalRunner(2) as runner:
        monkeypatch.setattr(_pool, "_BOOT", "raise SystemExit('broken')")
        with pytest.raises(CohortError, match="exit code 1\nbroken; .*doctor"):
            list(runner.run(squares(range(3))))
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(CohortError, match="no worker process can be started"):
            list(runner.run(squares(range(3))))


def test_fewer_processes_than_asked_for(monkeypatch):
    made = []

    def few(*args):
        if made:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        made.append(_pool_worker(*args))
        return made[0]

    _pool_worker = _pool._Worker
    monkeypatch.setattr(_pool, "_Worker", few)
    with LocalRunner(4) as runner:
        assert [done.value for done in runner.run(squares(range(5)))] == [
            0,
            1,
            4,
            9,
            16,
        ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"jobs": 0}, "jobs"),
        ({"jobs": 1.5}, "jobs"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_arguments(arguments, words):
    with pytest.raises(ConfigError, match=words):
        LocalRunner(**arguments)


def test_default_is_all_cores(monkeypatch):
    monkeypatch.setenv("HABITAT_NUM_THREADS", "3")
    assert LocalRunner().workers == 3


def test_a_folder_is_for_one_run_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(_lock, "_PATIENCE", 0.1)
    folder = tmp_path / "a" / "out"
    words = rf"out: is in use by process {os.getpid()} on \S+; wait"
    with locked(folder):
        assert (folder / ".lock").is_file()
        with pytest.raises(CohortError, match=words), locked(folder):
            pass
        with locked(tmp_path):
            pass
    assert not list(folder.iterdir())
    with locked(folder):
        pass


def test_workers_hold_the_lock_of_a_dead_parent(tmp_path, monkeypatch):
    monkeypatch.setattr(_lock, "_PATIENCE", 0.1)
    script = """
import os, subprocess, sys
from habitat.cohort._lock import locked
with locked(sys.argv[1]) as keep:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    print(subprocess.Popen(command, pass_fds=keep, stdout=2).pid, flush=True)
    os._exit(9)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    with pytest.raises(CohortError, match="in use by process"), locked(tmp_path):
        pass
    os.kill(int(done.stdout), signal.SIGKILL)
    monkeypatch.setattr(_lock, "_PATIENCE", 5)
    with locked(tmp_path) as keep, LocalRunner(1, keep=keep) as runner:
        (end,) = runner.run([task(0, do.is_open, keep[0])])
        assert end.value


def test_locks_are_not_broken_by_their_removal(tmp_path):
    inside, most, errors = [], [], []

    def turn():
        try:
            for _ in range(20):
                with locked(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
        except CohortError as error:
            errors.append(error)

    threads = [threading.Thread(target=turn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 80 or errors


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def fail(file):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(_lock, "_lock", fail)
    with (
        pytest.warns(HabitatWarning, match="No locks available"),
        locked(tmp_path) as k,
    ):
        assert k == ()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(CohortError, match="cannot be written"),
        locked(tmp_path / "file"),
    ):
        pass
