"""What is done for each case, wherever it runs, and what comes back."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from habitat.errors import HabitatError

CRASHED, TIMEOUT = "crashed", "timeout"


class NeedsRoom(Exception):  # noqa: N818  not an error: it is tried again alone
    """Raised by a task that needs more memory than its share."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


@dataclass(frozen=True)
class Task:
    """One call ``function(*args, room)``.

    `room` is the memory in bytes that the call may use, None where nobody knows; it
    raises `NeedsRoom` before it loads more than that. Function and arguments are
    pickled, so they stand in a module that the worker can import.
    """

    key: int
    name: str  # of the case, for messages
    function: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Failure:
    """Why a case has no result."""

    kind: str  # class of the error, "crashed" or "timeout"
    message: str
    fix: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Keep an exception as text."""
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, HabitatError):
            head = f"{error.where}: {error.what}" if error.where else error.what
            return cls(type(error).__name__, head, error.fix, trace)
        if isinstance(error, MemoryError):  # NumPy has a kind of its own
            fix = "crop the images to the tumor's surroundings, or use fewer --jobs"
            return cls("MemoryError", f"not enough memory: {error}", fix, trace)
        fix = "please report it with the traceback"
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
        return cls(type(error).__name__, text, fix, trace)


@dataclass(frozen=True)
class Done:
    """What became of a task: a value or a failure."""

    key: int
    value: Any = None
    failure: Failure | None = None
    seconds: float = 0.0
    peak: int = 0  # most memory that its process had, bytes; 0 where unknown


class Runner(Protocol):
    """Where tasks run: processes of this machine, or a Dask cluster."""

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        ...

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done, in any order.

        Tasks are taken from the iterable as workers become free. A task that fails,
        kills its process or takes too long costs no other task.
        """
        ...

    def close(self) -> None:
        """Stop all work at once."""
        ...
