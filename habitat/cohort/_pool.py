"""Tasks in processes of this machine, where a process that dies costs its task only."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any

from habitat._check import at_least, integer
from habitat.cohort._work import CRASHED, TIMEOUT, Done, Failure, NeedsRoom, Task
from habitat.cohort._worker import receive, send
from habitat.errors import CohortError, ConfigError, InputError
from habitat.io._memory import available

# not -m: then `habitat` itself may stand where only this process looks for it
_BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from habitat.cohort._worker import main; main()"
)
_ONE_THREAD = dict.fromkeys(
    (
        "HABITAT_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    ),
    "1",
)
_KILLED = -9  # from outside, which says nothing of the next worker
_GRACE = 1.0  # seconds after a timeout, in which the worker logs where it stands
_TAIL = 4000  # bytes of a dead worker's log that are kept

_End = Done | NeedsRoom
_Inbox = queue.SimpleQueue[tuple["_Worker", bytes | None]]


class LocalRunner:
    """Runs tasks in worker processes of this machine, one thread each.

    A worker runs one task at a time. If it dies, a new one takes its place, and its
    task runs once more when all others are done: alone and with all memory. Tasks that
    raise `NeedsRoom` run again with half as many processes, at last alone. Workers stay
    for the next `run`; they end at once when this process ends, however it ends.

    Parameters
    ----------
    jobs : int, optional
        Number of processes; by default HABITAT_NUM_THREADS, else the cores.
    timeout : float, optional
        Seconds after which a task is given up; its process is killed then.
    keep : sequence of int
        File descriptors that the workers hold open too, such as a lock's.
    """

    def __init__(
        self,
        jobs: int | None = None,
        timeout: float | None = None,
        *,
        keep: Sequence[int] = (),
    ) -> None:
        self.workers = _cores() if jobs is None else integer("jobs", jobs, 1, 4096)
        self._timeout = None if timeout is None else at_least("timeout", timeout, 0.1)
        self._keep = tuple(keep)
        self._crew: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._proven = False  # has any worker ever been ready

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done, in any order.

        Raises
        ------
        ConfigError
            If a task needs a function or class of the main script.
        CohortError
            If no worker process can be started.
        """
        suspects: list[Task] = []
        jobs = self.workers
        while jobs and tasks:
            large: list[Task] = []
            with closing(self._round(tasks, jobs)) as ends:
                for task, end in ends:
                    if isinstance(end, NeedsRoom):
                        large.append(task)
                    elif end.failure is not None and end.failure.kind == CRASHED:
                        suspects.append(task)
                    else:
                        yield end
            tasks, jobs = large, jobs // 2
            if large or suspects:
                self._dismiss_idle()  # and the memory that they still hold
        for task in chain(tasks, suspects):
            with closing(self._round([task], 1)) as ends:
                for _, end in ends:
                    yield _last(task, end)
            self._dismiss_idle()

    def close(self) -> None:
        """Stop all work at once."""
        self._idle.clear()
        for worker in list(self._crew):
            self._dismiss(worker)

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _round(
        self, tasks: Iterable[Task], jobs: int
    ) -> Generator[tuple[Task, _End], None, None]:
        """Run each task once, `jobs` at a time with equal shares of the memory."""
        free = available()
        turn = _Turn(iter(tasks), jobs, None if free is None else free // jobs)
        ended: list[tuple[Task, _End]] = []
        try:
            while True:
                ended += self._feed(turn)  # before the caller spends time on the ended
                yield from ended
                if not turn.busy:
                    return
                ended = self._wait(turn)
        finally:
            for worker in turn.busy:
                self._dismiss(worker)

    def _feed(self, turn: _Turn) -> list[tuple[Task, _End]]:
        """Give each free worker a task; return those that cannot be sent."""
        refused: list[tuple[Task, _End]] = []
        while len(turn.busy) < turn.jobs:
            task = next(turn.tasks, None)
            if task is None:
                break
            try:
                message = _pickled(task, turn.room)
            except ConfigError:
                raise
            except Exception as error:  # pickling runs code of what is pickled
                refused.append((task, Done(task.key, failure=Failure.of(error))))
                continue
            try:
                worker = self._hire(turn.inbox)
            except OSError as error:
                turn.tasks = chain([task], turn.tasks)
                turn.jobs = len(turn.busy)  # as many as the system can hold
                if not turn.busy:
                    what = f"no worker process can be started ({error})"
                    raise CohortError(what, fix="free memory or processes") from error
            else:
                turn.busy[worker] = task
                worker.begin(message)
        return refused

    def _hire(self, inbox: _Inbox) -> _Worker:
        """Return a worker that waits, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            worker.inbox = inbox  # first: so its end is either told here or seen here
            if not worker.gone:
                return worker
            self._dismiss(worker)
        worker = _Worker(inbox, self._timeout or 0.0, self._keep)
        self._crew.add(worker)
        return worker

    def _wait(self, turn: _Turn) -> list[tuple[Task, _End]]:
        """Wait until a worker ends its task, its time or its life."""
        ended: list[tuple[Task, _End]] = []
        for worker, message in self._messages(turn):
            if message == b"":
                self._proven = True
                worker.begun = time.monotonic()
            elif worker in turn.busy:
                task = turn.busy.pop(worker)
                ended.append((task, self._end(task, worker, message)))
        for worker in [w for w in turn.busy if self._left(w) <= 0]:
            task = turn.busy.pop(worker)
            what = f"took longer than {self._timeout:g} s"
            fix = "allow more time; the traceback shows where it stood"
            failure = Failure(TIMEOUT, what, fix, self._dismiss(worker))
            ended.append((task, worker.ended(task, failure)))
        return ended

    def _messages(self, turn: _Turn) -> list[tuple[_Worker, bytes | None]]:
        """All that has come in, if need be after a wait for the next deadline."""
        left = min(self._left(worker) for worker in turn.busy)
        messages = []
        with contextlib.suppress(queue.Empty):
            # not longer than a second: on Windows Ctrl-C is seen only then
            messages.append(turn.inbox.get(timeout=min(max(left, 0.0), 1.0)))
            while True:
                messages.append(turn.inbox.get_nowait())
        return messages

    def _left(self, worker: _Worker) -> float:
        """Seconds until a worker has spent its time."""
        if self._timeout is None:
            return float("inf")
        return worker.begun + self._timeout + _GRACE - time.monotonic()

    def _end(self, task: Task, worker: _Worker, message: bytes | None) -> _End:
        """Read what a worker sent, or why it is dead."""
        if message is not None:
            self._idle.append(worker)
            return _unpickled(task, message)
        log = self._dismiss(worker)
        what, fix = _cause(worker.process.returncode)
        if not self._proven and worker.process.returncode != _KILLED:
            what = f"worker processes cannot start: one {what}\n{log}"
            raise CohortError(what.rstrip(), fix="try `habitat doctor`")
        failure = Failure(CRASHED, f"its process {what}, even alone", fix, log)
        return worker.ended(task, failure)

    def _dismiss(self, worker: _Worker) -> str:
        """Kill a worker; return the end of its log."""
        if worker not in self._crew:
            return ""  # closed while it was busy
        self._crew.remove(worker)
        return worker.kill()

    def _dismiss_idle(self) -> None:
        while self._idle:
            self._dismiss(self._idle.pop())


@dataclass
class _Turn:
    """The state of one round."""

    tasks: Iterator[Task]
    jobs: int
    room: int | None
    inbox: _Inbox = field(default_factory=queue.SimpleQueue)
    busy: dict[_Worker, Task] = field(default_factory=dict)


class _Worker:
    """A process and the thread that passes on what it sends; last None, at its end."""

    def __init__(self, inbox: _Inbox, timeout: float, keep: tuple[int, ...]) -> None:
        self.inbox = inbox
        self.begun = time.monotonic()
        self.gone = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by kill()
        life, self._life = os.pipe()
        path = [folder or str(Path.cwd()) for folder in sys.path]
        command = [sys.executable, "-c", _BOOT, str(life), str(timeout), *path]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,  # Ctrl-C is for the parent only
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                pass_fds=() if sys.platform == "win32" else (life, *keep),
            )
        except OSError:
            os.close(self._life)
            self._log.close()
            raise
        finally:
            os.close(life)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def begin(self, message: bytes) -> None:
        """Send a task."""
        self.begun = time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead: the thread will say so
            send(self.process.stdin, message)

    def ended(self, task: Task, failure: Failure) -> Done:
        """Return the end of a task that the process did not live to see."""
        return Done(task.key, None, failure, time.monotonic() - self.begun)

    def kill(self) -> str:
        """End the process and all that it started; return the end of its log."""
        if not self.gone:
            self._signal()
        self._thread.join(5)  # a process that hangs in the system may stay
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        os.close(self._life)
        with self._log:
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _TAIL))
            return self._log.read().decode(errors="replace")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            while (message := receive(answers)) is not None:
                self.inbox.put((self, message))
        self._signal()  # what it started and left behind
        self.process.wait()
        self.gone = True  # before the message: see LocalRunner._hire
        self.inbox.put((self, None))

    def _signal(self) -> None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: object) -> Any:
        """Refuse what is known by name in the main script only."""
        if isinstance(thing, (type, FunctionType)) and thing.__module__ == "__main__":
            what = (
                f"{thing.__qualname__!r} is defined in the main script or notebook, "
                "which worker processes do not run"
            )
            raise ConfigError(what, fix="put it in a module (.py file) and import it")
        return NotImplemented


def _pickled(task: Task, room: int | None) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream).dump((task.key, task.function, task.args, room))
    return stream.getvalue()


def _unpickled(task: Task, message: bytes) -> Done | NeedsRoom:
    """Read a worker's answer, in which the value is pickled once more."""
    answer: Done | NeedsRoom = pickle.loads(message)
    if isinstance(answer, NeedsRoom):
        return answer
    value, failure = None, answer.failure
    try:
        value = pickle.loads(answer.value)
    except Exception as error:  # unpickling runs code of what was pickled
        failure = Failure.of(error)
    return Done(task.key, value, failure, answer.seconds, answer.peak)


def _last(task: Task, end: _End) -> Done:
    """What becomes of a task that has run alone."""
    if isinstance(end, Done):
        return end
    free = available() or 0
    what = f"needs {end.n_bytes / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
    fix = "crop it to the tumor's surroundings or resample it to larger voxels"
    return Done(task.key, failure=Failure.of(InputError(what, fix=fix)))


def _cause(code: int) -> tuple[str, str]:
    """Say what ended a process, and what to do."""
    report = "please report it with the traceback"
    if code >= 0:
        return f"ended with exit code {code}", report
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    what = f"was killed by signal {-code} ({name})"
    if name != "SIGKILL":
        return what, report
    fix = "crop its images to the tumor's surroundings or use a larger machine"
    return f"{what}, perhaps for lack of memory", fix


def _cores() -> int:
    from habitat.kernels._jit import threads

    return threads()
