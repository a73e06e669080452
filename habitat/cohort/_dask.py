"""Tasks on a Dask cluster: the same functions, the same bytes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

from threadpoolctl import ThreadpoolController

from habitat._check import warn
from habitat._progress import progress
from habitat.case import Case
from habitat.cohort._tables import Failed
from habitat.cohort._work import CRASHED, Done, Failure, Task
from habitat.cohort._worker import peak, reset_peak
from habitat.errors import CohortError, ConfigError, InputError
from habitat.fitting import Settings
from habitat.kernels._jit import one_thread
from habitat.segmentation import versions

if TYPE_CHECKING:
    from habitat.population._learn import Facts, Voxels

_AHEAD = 2  # tasks in flight for each worker, so that none waits for this process
_WAIT = 60  # seconds for the first worker to come
_TURN = threading.Lock()  # one case at a time in each worker process


class DaskRunner:
    """Runs tasks on a Dask cluster, one at a time and with one thread in each process.

    Dask runs the task of a lost worker again, up to its ``allowed-failures``. While
    there is no worker, tasks wait for new ones.

    Parameters
    ----------
    client : distributed.Client or str
        A client, or the address of a scheduler.

    Raises
    ------
    CohortError
        If the cluster does not answer or has no worker, and in `run` if it goes away.
    ConfigError
        If Dask is not installed, or the workers have another version of habitat.
    """

    def __init__(self, client: Any) -> None:
        distributed = _distributed()
        self._own = isinstance(client, str)
        if self._own:
            try:
                client = distributed.Client(client, timeout=_WAIT)
            except (OSError, ValueError) as error:
                what = f"no Dask scheduler answers ({error})"
                fix = "check address and port"
                raise CohortError(what, str(client), fix) from error
        elif not isinstance(client, distributed.Client):
            what = f"must be a distributed.Client or an address, got {client!r:.60}"
            raise ConfigError(what, "`client`")
        self.client: Any = client
        try:
            _check_workers(client)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        return max(1, len(self.client.nthreads()))

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done, in any order.

        Dask blames every task that waited at a worker that died: such tasks run again
        when all others are done, one by one.
        """
        suspects: list[Task] = []
        for task, done in self._spread(tasks, _AHEAD * self.workers):
            if done.failure is not None and done.failure.kind == CRASHED:
                suspects.append(task)
            else:
                yield done
        for suspect in suspects:
            for _, done in self._spread([suspect], 1):
                yield done

    def _spread(self, tasks: Iterable[Task], ahead: int) -> Iterator[tuple[Task, Done]]:
        """Run tasks, so many of them submitted at a time."""
        waiting = iter(tasks)
        flying: dict[Any, Task] = {}
        running = _distributed().as_completed()

        def submit(count: int) -> None:
            for task in islice(waiting, count):
                try:
                    future = self.client.submit(call, task, pure=False)
                except TypeError as error:  # cannot be pickled
                    said = f"cannot be sent to a worker: {error.__cause__ or error}"
                    other = Task(task.key, task.name, refuse, (said,))
                    future = self.client.submit(call, other, pure=False)
                flying[future] = task
                running.add(future)

        try:
            submit(ahead)
            for future in running:
                task = flying.pop(future)
                failure = _failure(future, task.name)
                done = Done(task.key, failure=failure) if failure else future.result()
                submit(1)
                yield task, done
        finally:
            if flying and self.client.status == "running":
                self.client.cancel(list(flying), force=True)

    def close(self) -> None:
        """Stop all work at once; a client that was given stays open."""
        if self._own:
            self.client.close()

    def __enter__(self) -> DaskRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def call(task: Task) -> Done:
    """Run a task in a worker; what it raises is its result."""
    start = time.monotonic()
    value, failure = None, None
    with _TURN:
        reset_peak()
        try:
            value = _alone(task.function, *task.args, None)
        except Exception as error:  # whatever it is costs this case only
            failure = Failure.of(error)
        most = peak()
    return Done(task.key, value, failure, time.monotonic() - start, most)


def _alone(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with one thread."""
    with _pools(len(sys.modules)).limit(limits=1), one_thread():
        return function(*args)


@lru_cache(maxsize=1)
def _pools(modules: int) -> ThreadpoolController:  # noqa: ARG001
    """Thread pools of libraries; looked for (3 ms) only after something is imported."""
    return ThreadpoolController()


def refuse(message: str, room: int | None) -> None:  # noqa: ARG001
    """Stand in for a task that cannot be sent."""
    raise InputError(message, "", "pass paths of files")


def _failure(future: Any, name: str) -> Failure | None:
    """Why a future has no value; a cluster that went away ends the run."""
    if future.status == "finished":
        return None
    error = future.exception() if future.status == "error" else None
    if isinstance(error, _distributed().KilledWorker):
        message = f"killed the Dask worker that ran it, again and again ({error})"
        fix = "perhaps for lack of memory: give workers more, or crop the images"
        return Failure(CRASHED, message, fix)
    if isinstance(error, Exception):
        return Failure.of(error)
    what = f"the Dask cluster went away while case {name} ran"
    raise CohortError(what, "`client`", "start it again; the run goes on from here")


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        fix = "pip install 'tumor-habitat[dask]'"
        raise ConfigError("Dask is not installed", "`client`", fix) from error
    return distributed


def _check_workers(client: Any) -> None:
    """Workers must be there and have this version of habitat."""

    def theirs() -> dict[str, str]:  # goes there as code: what they have may be older
        try:
            from habitat.segmentation import versions
        except ImportError as error:
            return {"habitat": f"none ({error})"}
        return versions()

    try:
        client.wait_for_workers(1, timeout=_WAIT)
    except _distributed().TimeoutError as error:
        what = f"no worker came within {_WAIT} s"
        raise CohortError(what, "`client`", "start dask workers") from error
    found = client.run(theirs, on_error="ignore")  # of a worker that just dies
    if not found:
        raise CohortError("no worker answers", "`client`", "start dask workers")
    mine = versions()
    others = {n: {v.get(n) for v in found.values()} - {mine[n], None} for n in mine}
    texts = {
        n: f"{n} {', '.join(sorted(values))} (here {mine[n]})"
        for n, values in others.items()
        if values
    }
    if "habitat" in texts:
        fix = "install the same version there"
        raise ConfigError(f"its workers have {texts['habitat']}", "`client`", fix)
    if texts:
        text = f"the Dask workers have {', '.join(texts.values())}"
        warn(f"{text}: last digits may differ from those of this machine")


class DaskStore:
    """Voxels of each case in the memory of a worker; only sums come back.

    Dask reads the case again if its worker is lost.

    Parameters
    ----------
    runner : DaskRunner
        Whose cluster is used.
    cases : sequence of Case
        Cases to read; `failures` tells which could not be.
    settings : Settings
        Of the fit.
    """

    def __init__(
        self, runner: DaskRunner, cases: Sequence[Case], settings: Settings
    ) -> None:
        from habitat.population._learn import odd_ones, sample_rows

        self._client, self._cases = runner.client, cases
        self._settings, self._rows = settings, sample_rows(len(cases))
        self._voxels: dict[int, Any] = {}  # futures
        found: dict[int, Any] = {}
        suspects: list[int] = []
        with progress(len(cases), "Reading case") as advance:

            def read(places: Iterable[int], last: bool) -> None:
                for i, facts in self._read(places):
                    failure = facts if isinstance(facts, Failure) else None
                    if failure and failure.kind == CRASHED and not last:
                        suspects.append(i)
                        continue
                    found[i] = facts
                    advance(cases[i].case_id, failure is not None)

            read(range(len(cases)), last=False)
            for suspect in suspects:
                read([suspect], last=True)
        well = {i: f for i, f in found.items() if not isinstance(f, Failure)}
        found |= {i: Failure.of(error) for i, error in odd_ones(well).items()}
        bad = [i for i in sorted(found) if isinstance(found[i], Failure)]
        self.failures = [Failed(cases[i].case_id, found.pop(i)) for i in bad]
        self._voxels = {i: self._voxels[i] for i in sorted(found)}
        self.facts: Sequence[Facts] = [found[i] for i in self._voxels]

    def each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Apply a function to the voxels of each case."""
        shared = self._client.submit(itself, function, pure=False)  # sent once
        values = list(zip(*columns, strict=True)) if columns else [()] * len(self.facts)
        futures = self._client.map(
            apply_to_case,
            [shared] * len(values),
            list(self._voxels.values()),
            values,
            pure=False,
        )
        names = {
            f: self._cases[i].case_id
            for f, i in zip(futures, self._voxels, strict=True)
        }
        for future in _distributed().as_completed(futures):
            failure = _failure(future, names[future])
            if failure is not None:
                raise CohortError(failure.message, f"case {names[future]}", failure.fix)
        found: list[Any] = self._client.gather(futures)
        return found

    def _read(self, places: Iterable[int]) -> Iterator[tuple[int, Facts | Failure]]:
        """Have workers read cases; yield what is known of each when it is read."""
        heads = {}
        for i in places:
            self._voxels[i] = self._client.submit(
                read_case, self._cases[i], self._settings, self._rows, pure=False
            )
            head = self._client.submit(head_of, self._voxels[i], pure=False)
            heads[head] = i
        for head in _distributed().as_completed(heads):
            i = heads[head]
            yield i, _failure(head, self._cases[i].case_id) or head.result()


def itself(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a function in the cluster, for many calls."""
    return function


def read_case(case: Case, settings: Settings, rows: int) -> Any:
    """Read a case in a worker: (Facts, Voxels), or why not."""
    from habitat.population._learn import read_voxels

    try:
        with _TURN:
            return _alone(read_voxels, case, settings, rows)
    except Exception as error:  # whatever it is costs this case only
        return Failure.of(error), None


def head_of(read: tuple[Any, Voxels | None]) -> Any:
    """The small part of what was read."""
    return read[0]


def apply_to_case(
    function: Callable[..., Any], read: tuple[Any, Voxels], values: Sequence[Any]
) -> Any:
    """Apply a function to the voxels of a case in a worker."""
    with _TURN:
        return _alone(function, read[1], *values)
