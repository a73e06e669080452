"""Whether a volume fits in memory, asked before it is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from habitat.errors import InputError

_MEMINFO = Path("/proc/meminfo")


def check_memory(n_bytes: int, where: str) -> None:
    """Raise InputError if `n_bytes` exceed the free memory, where that is known."""
    free = available()
    if free is not None and n_bytes > free:
        what = f"needs {n_bytes / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        fix = "crop it to the tumor's surroundings or resample it to larger voxels"
        raise InputError(what, where, fix)


def available() -> int | None:
    """Bytes of memory that can be had without swapping, or None where unknown."""
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):  # not Linux
        return None
