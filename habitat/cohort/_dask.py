"""Tasks on a Dask cluster: the same functions, the same bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

import habitat
from habitat._progress import progress
from habitat.case import Case
from habitat.cohort._tables import Failed
from habitat.cohort._work import CRASHED, Done, Failure, Task
from habitat.errors import CohortError, ConfigError
from habitat.fitting import Settings
from habitat.kernels._jit import one_thread

if TYPE_CHECKING:
    from habitat.population._learn import Facts, Voxels

_AHEAD = 2  # tasks in flight for each worker, so that none waits for this process
_WAIT = 60  # seconds for the first worker to come
_TURN = threading.Lock()  # one case at a time in each worker process


class DaskRunner:
    """Runs tasks on a Dask cluster, one at a time and with one thread in each process.

    Dask runs the task of a lost worker again, up to its ``allowed-failures``.

    Parameters
    ----------
    client : distributed.Client or str
        A client, or the address of a scheduler.
    """

    def __init__(self, client: Any) -> None:
        distributed = _distributed()
        self._own = isinstance(client, str)
        if self._own:
            try:
                client = distributed.Client(client, timeout=_WAIT)
            except (OSError, ValueError) as error:
                what = f"no Dask scheduler answers ({error})"
                raise CohortError(
                    what, str(client), "check address and port"
                ) from error
        elif not isinstance(client, distributed.Client):
            what = f"must be a distributed.Client or an address, got {client!r:.60}"
            raise ConfigError(what, "`client`")
        self.client: Any = client
        _check_workers(client)

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done, in any order."""
        distributed = _distributed()
        waiting = iter(tasks)
        keys: dict[Any, Task] = {}
        running = distributed.as_completed()
        try:
            for task in islice(waiting, _AHEAD * self.workers):
                keys[future := self._submit(task)] = task
                running.add(future)
            for future in running:
                yield _done(keys.pop(future), future)
                for task in islice(waiting, 1):
                    keys[another := self._submit(task)] = task
                    running.add(another)
        finally:
            self.client.cancel(list(keys), force=True)

    def _submit(self, task: Task) -> Any:
        return self.client.submit(call, task, pure=False)

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
    try:
        value = _alone(task.function, *task.args, None)
    except Exception as error:  # whatever it is costs this case only
        failure = Failure.of(error)
        return Done(task.key, failure=failure, seconds=time.monotonic() - start)
    return Done(task.key, value, seconds=time.monotonic() - start)


def _alone(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with one thread and no other case beside it in the process."""
    with _TURN, threadpool_limits(1), one_thread():
        return function(*args)


def _done(task: Task, future: Any) -> Done:
    """What became of a task; a cluster that went away ends the run."""
    if future.status == "finished":
        done: Done = future.result()
        return done
    error = future.exception() if future.status == "error" else None
    if error is not None and type(error).__name__ == "KilledWorker":
        message = f"killed the Dask worker that ran it, again and again ({error})"
        fix = "perhaps for lack of memory: give workers more, or crop the images"
        return Done(task.key, failure=Failure(CRASHED, message, fix))
    if error is not None:
        return Done(task.key, failure=Failure.of(error))
    what = f"the Dask cluster went away while case {task.name} ran"
    raise CohortError(what, "`client`", "start it again; the run goes on from here")


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        fix = "pip install 'tumor-habitat[dask]'"
        raise ConfigError("Dask is not installed", "`client`", fix) from error
    return distributed


def version() -> str:
    """Version of habitat in a worker."""
    return habitat.__version__


def _check_workers(client: Any) -> None:
    """Workers must be there and have this version of habitat."""
    try:
        client.wait_for_workers(1, timeout=_WAIT)
    except TimeoutError as error:
        what = f"no worker came within {_WAIT} s"
        raise CohortError(what, "`client`", "start dask workers") from error
    try:
        found = client.run(version)
    except (ImportError, AttributeError) as error:
        what = f"its workers cannot import habitat ({error})"
        raise ConfigError(what, "`client`", "install it there too") from error
    others = {v for v in found.values() if v != habitat.__version__}
    if others:
        what = f"its workers have habitat {', '.join(sorted(others))}"
        fix = f"install {habitat.__version__} there"
        raise ConfigError(what, "`client`", fix)


# --- the fit of a population ----------------------------------------------------------


class DaskStore:
    """Voxels of each case in the memory of a worker; only sums come back.

    Dask reads the case again if its worker is lost.
    """

    def __init__(
        self, runner: DaskRunner, cases: Sequence[Case], settings: Settings
    ) -> None:
        from habitat.population._learn import sample_rows

        self._client, rows = runner.client, sample_rows(len(cases))
        read = [
            self._client.submit(read_case, c, settings, rows, pure=False) for c in cases
        ]
        heads = [self._client.submit(head_of, future, pure=False) for future in read]
        places = {future: i for i, future in enumerate(heads)}
        found: dict[int, Any] = {}
        with progress(len(cases), "Reading case") as advance:
            for future in _distributed().as_completed(heads):
                place = places[future]
                task = Task(place, cases[place].case_id, head_of, ())
                found[place] = _head(task, future)
                failed = isinstance(found[place], Failure)
                advance(task.name, failed)
        kept = [i for i in range(len(cases)) if not isinstance(found[i], Failure)]
        self._names = [cases[i].case_id for i in kept]
        self._voxels = [read[i] for i in kept]
        self.facts: Sequence[Facts] = [found[i] for i in kept]
        self.failures = [
            Failed(cases[i].case_id, found[i])
            for i in range(len(cases))
            if isinstance(found[i], Failure)
        ]

    def each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Apply a function to the voxels of each case."""
        futures = [
            self._client.submit(
                apply_to_case, function, voxels, [c[i] for c in columns], pure=False
            )
            for i, voxels in enumerate(self._voxels)
        ]
        found: list[Any] = self._client.gather(futures)
        return found


def _head(task: Task, future: Any) -> Any:
    if future.status == "finished":
        return future.result()
    return _done(task, future).failure


def read_case(case: Case, settings: Settings, rows: int) -> Any:
    """Read a case in a worker: (Facts, Voxels), or why not."""
    from habitat.population._learn import read_voxels

    try:
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
    return _alone(function, read[1], *values)
