"""How kernels are compiled, and the only place that reads the environment."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from numba import njit

__all__ = ["cache_folder", "inlined", "jit", "one_thread", "threads"]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_FLAGS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz"},  # NaN and infinity keep their meaning
}


def jit(function: Kernel) -> Kernel:
    """Compile `function` at its first call and keep the machine code on disk.

    Where no cache folder is writable it is compiled anew in every process.
    """
    try:
        return cast(Kernel, njit(cache=True, **_FLAGS)(function))
    except RuntimeError:  # "no locator available": numba found no folder to write to
        return cast(Kernel, njit(**_FLAGS)(function))


def inlined(function: Kernel) -> Kernel:
    """Make `function` a part of its callers: to pass many arrays costs time."""
    return cast(Kernel, njit(inline="always")(function))


@jit
def _probe() -> int:
    return 0


def cache_folder() -> str | None:
    """Folder that keeps the compiled kernels, None if every process compiles anew."""
    stats = getattr(_probe, "stats", None)  # absent under NUMBA_DISABLE_JIT
    return stats.cache_path if stats else None


_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def one_thread() -> Generator[None]:
    """Use one thread in this context, whatever else was said."""
    before = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(before)


def threads() -> int:
    """Threads to use: HABITAT_NUM_THREADS, else 1 in worker processes, else the cores.

    Raises
    ------
    ValueError
        If HABITAT_NUM_THREADS is not a whole number of at least 1.
    """
    if _alone.get():
        return 1
    named = os.environ.get("HABITAT_NUM_THREADS", "").strip()
    if named:
        if named.isdecimal() and int(named) > 0:
            return int(named)
        raise ValueError(
            "HABITAT_NUM_THREADS: must be a whole number of at least 1, "
            f"got {named!r}; unset it to use all cores"
        )
    if multiprocessing.parent_process() is not None:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
