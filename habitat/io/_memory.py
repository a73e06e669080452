"""Whether a volume fits in memory, asked before it is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from habitat.errors import InputError

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # of a container


def check_memory(n_bytes: int, where: str) -> None:
    """Raise InputError if `n_bytes` exceed the free memory, where that is known."""
    free = available()
    if free is not None and n_bytes > free:
        what = f"needs {n_bytes / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        fix = "crop it to the tumor's surroundings or resample it to larger voxels"
        raise InputError(what, where, fix)


def available() -> int | None:
    """Bytes of memory that can be had without swapping, or None where unknown."""
    known = [n for n in (_of_machine(), _of_group()) if n is not None]
    return min(known) if known else None


def _of_machine() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):  # not Linux
        return None


def _of_group() -> int | None:
    """What is left of a container's limit; caches of files count as free."""
    try:
        limit = int((_GROUP / "memory.max").read_text())  # "max" where there is none
        used = int((_GROUP / "memory.current").read_text())
        stat = dict(map(str.split, (_GROUP / "memory.stat").read_text().splitlines()))
        return max(0, limit - used + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):
        return None
