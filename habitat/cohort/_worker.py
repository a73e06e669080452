"""What runs inside a worker process: task after task until its parent is gone."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import queue
import sys
import threading
import time
from pathlib import Path
from typing import IO

from habitat.cohort._work import Done, Failure, NeedsRoom

_SIZE = 8  # bytes that say how long a message is


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message."""
    stream.write(len(message).to_bytes(_SIZE, "little") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message, None if the other side is gone."""
    head = stream.read(_SIZE)
    size = int.from_bytes(head, "little")
    message = stream.read(size) if len(head) == _SIZE else b""
    return message if len(head) == _SIZE and len(message) == size else None


def main() -> None:
    """Work for the parent: ``sys.argv`` holds a pipe's end, a timeout and `sys.path`.

    Tasks come in through standard input, answers leave through standard output. Both
    are then taken from the task: what it prints goes to the log with standard error.
    """
    life, timeout = int(sys.argv[1]), float(sys.argv[2])
    _die_with_parent(life)
    faulthandler.enable()
    with contextlib.suppress(OSError):  # short of memory, Linux ends this one first
        Path("/proc/self/oom_score_adj").write_text("500")
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks, inbox), daemon=True).start()
    send(answers, b"")  # ready
    while True:
        message = inbox.get()
        _empty_log()
        if timeout:
            faulthandler.dump_traceback_later(timeout, file=2)
        answer = _answer(message)
        faulthandler.cancel_dump_traceback_later()
        send(answers, answer)


def _die_with_parent(life: int) -> None:
    """Have the system end this process when the other end of the pipe is closed.

    The thread that listens does the same, but waits for code that keeps the GIL.
    """
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC)  # SIGIO ends a process


def _listen(tasks: IO[bytes], inbox: queue.SimpleQueue[bytes]) -> None:
    """Take messages even while a task runs: the end of the stream ends everything."""
    while (message := receive(tasks)) is not None:
        inbox.put(message)
    os._exit(1)


def _empty_log() -> None:
    """Keep of the log what the task at hand writes."""
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)


def _answer(message: bytes) -> bytes:
    """Run a task; a pickled `Done` or `NeedsRoom`."""
    start = time.monotonic()
    reset_peak()
    key, value, failure = 0, None, None
    try:
        key, function, args, room = pickle.loads(message)
        value = function(*args, room)
        pickled = pickle.dumps(value)
    except NeedsRoom as needs:
        return pickle.dumps(needs)
    except BaseException as error:  # even SystemExit costs this task only
        pickled, failure = pickle.dumps(None), Failure.of(error)
    done = Done(key, pickled, failure, time.monotonic() - start, peak())
    return pickle.dumps(done)


def reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Most memory since `reset_peak`, or of the whole process; 0 where unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
