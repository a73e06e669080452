"""Tasks for tests of the worker processes, which import this module."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from habitat.cohort._work import NeedsRoom
from habitat.errors import InputError


def square(x, room):
    return x * x


def slow_square(x, seconds, room):
    time.sleep(seconds)
    return x * x


def pid(room):
    return os.getpid()


def shout(room):
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    os.system("echo from a child")
    return input() if sys.stdin.isatty() else sys.stdin.read()


def environment(names, room):
    return [os.environ.get(name) for name in names]


def interval(seconds, room):
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic(), room


def need(n_bytes, seconds, room):
    if n_bytes > room:
        raise NeedsRoom(n_bytes)
    return interval(seconds, room)


def allocate(n_bytes, room):
    return bytes(bytearray(n_bytes))[-1]


def echo(value, room):
    return value


def refuse(room):
    raise InputError("is bad", "pet.nii", "mend it")


def raise_(kind, room):
    raise kind


def kill_self(number, room):
    os.kill(os.getpid(), number)
    time.sleep(60)


def kill_self_once(marker, room):
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return interval(0.1, room)


def segfault(room):
    ctypes.string_at(0)


def leave(code, room):
    os._exit(code)


def orphan(marker, room):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(marker).write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def spin(room):
    while True:
        pass


def sleep(seconds, room):
    time.sleep(seconds)


def hold_gil(seconds, room):
    ctypes.PyDLL(None).sleep(int(seconds))


def tell_and(kind, folder, room):
    (Path(folder) / str(os.getpid())).touch()
    {"spin": lambda: spin(room), "gil": lambda: hold_gil(60, room)}[kind]()


def is_open(file, room):
    os.fstat(file)
    return True


def unpicklable(room):
    return lambda: None


class Trap:
    """Pickles, but not back."""

    def __reduce__(self):
        return spring, ()


def spring():
    raise RuntimeError("sprung")


def trap(room):
    return Trap()
