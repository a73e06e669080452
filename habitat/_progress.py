"""Progress of long loops: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Sequence[Item], doing: str) -> Iterator[Item]:
    """Yield the items, showing on stderr how far it has come.

    Parameters
    ----------
    items : sequence
        What is worked through; ``str(item)`` is shown on plain lines.
    doing : str
        Words for the work, such as "Segmenting".
    """
    with progress(len(items), doing) as advance:
        for item in items:
            yield item
            advance(str(item), False)


@contextmanager
def progress(total: int, doing: str) -> Generator[Callable[[str, bool], None]]:
    """Show how much of a whole is done, the time left and the failures so far.

    Yields
    ------
    callable
        ``advance(name, failed)``, to be called after each part.
    """
    if sys.stderr.isatty():
        with _bar(total, doing) as advance:
            yield advance
        return
    yield _lines(total, doing)


@contextmanager
def _bar(total: int, doing: str) -> Generator[Callable[[str, bool], None]]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}", markup=False),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(doing, total=total, note="")
        failures = 0

        def advance(name: str, failed: bool) -> None:
            nonlocal failures
            failures += failed
            if failed:
                bar.update(task, note=f"{failures} failed, last {name!a:.40}")
            bar.advance(task)

        yield advance


def _lines(total: int, doing: str) -> Callable[[str, bool], None]:
    start = time.monotonic()
    done = failures = 0

    def advance(name: str, failed: bool) -> None:
        nonlocal done, failures
        done, failures = done + 1, failures + failed
        left = (time.monotonic() - start) / done * (total - done)
        shown = name if name.isprintable() else ascii(name)
        text = f"{doing} {done}/{total}: {shown}{' FAILED' if failed else ''}"
        counts = f"{failures} failed, " if failures else ""
        sys.stderr.write(f"{text} ({counts}{_duration(left)} left)\n")

    return advance


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 6000 else f"{whole / 3600:.1f} h"
