"""One run at a time in an output folder."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from habitat._check import warn
from habitat.errors import CohortError

_NAME = ".lock"
_PATIENCE = 5.0  # seconds in which workers of a run that was killed are gone
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[tuple[int, ...]]:
    """Hold a folder's lock; yield the file descriptors that hold it.

    The lock lasts as long as any process has them open, so workers that get them keep
    it until the last of them has ended, even if this process is killed. Where the file
    system knows no locks, a warning says so and none is held.

    Parameters
    ----------
    folder : path
        Where ``.lock`` is written, and removed at the end; made if it is absent.

    Raises
    ------
    CohortError
        If another run holds the lock, or the folder cannot be written.
    """
    path = Path(folder) / _NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path)
    except OSError as error:
        fix = "name a folder that can be written"
        raise CohortError(f"cannot be written: {error}", str(folder), fix) from error
    try:
        yield () if file is None else (file,)
    finally:
        if file is not None:
            _release(file, path)


def _open_locked(path: Path) -> int | None:
    """Open the file and lock it; None where there are no locks."""
    end = time.monotonic() + _PATIENCE
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
        except OSError as error:
            owner = os.read(file, 200).decode(errors="replace")
            os.close(file)
            if error.errno not in _BUSY:
                path.unlink(missing_ok=True)
                what = f"{path.parent}: cannot be locked ({error.strerror})"
                warn(f"{what}; see that no other run writes there")
                return None
            if time.monotonic() > end:
                what = f"is in use by {owner or 'another process'}"
                fix = "wait until it has ended, or name another folder"
                raise CohortError(what, str(path.parent), fix) from error
            time.sleep(0.05)
            continue
        if _is_at(file, path):
            _sign(file)
            return file
        os.close(file)  # the run that had it has just removed it


def _lock(file: int) -> None:
    """Lock an open file, or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 30, os.SEEK_SET)  # beyond the text, which others read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def _sign(file: int) -> None:
    """Say who holds the lock; on a full disk it is held all the same."""
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _release(file: int, path: Path) -> None:
    """Remove the file while it is locked, so that nobody else's is removed."""
    if sys.platform == "win32":  # open files stay there
        os.close(file)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):
        if _is_at(file, path):
            path.unlink()
    os.close(file)
