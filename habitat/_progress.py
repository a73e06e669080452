"""Progress of long loops: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
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
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, doing, console=Console(stderr=True))
        return
    for i, item in enumerate(items, start=1):
        sys.stderr.write(f"{doing} {i}/{len(items)}: {item}\n")
        yield item
