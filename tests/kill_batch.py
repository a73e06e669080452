"""Kill a batch at random moments and see that nothing is lost and nothing is half done.

``python -m tests.kill_batch parent|worker|disk [moments] [seed]`` runs `habitat.batch`
on small generated cases again and again. Each time it kills the process that called it,
or one of its workers, with SIGKILL at a random moment of its work, or gives it a disk
that is full after a random number of bytes (Linux, root: a small tmpfs). While it runs
and afterwards a watcher reads every final path: no file there may ever be a part of
one. Then the same command runs to its end, on the disk made larger, and every final
file but run.json must have the bytes of a run that nothing disturbed.
"""

import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import habitat

ROOT = Path(habitat.__file__).parents[1]
CASES = 8
TABLES = ("features.csv", "features_wide.csv", "failures.csv")
BATCH = """
import sys, habitat
cohort = habitat.read_cohort(sys.argv[1])
families = ("composition", "intensity", "shape", "diversity")
sys.exit(habitat.batch(cohort, sys.argv[2], k=2, jobs=2, families=families).exit_code)
"""


def make_cohort(folder):
    """Write small cases and their table."""
    lines = ["case_id,pet,ct,mask,site"]
    for i in range(CASES):
        case = habitat.phantom(radius_mm=10, margin_mm=15, random_state=i)
        names = [f"{i}_{name}.nii.gz" for name in ("pet", "ct", "mask")]
        for image, name in zip((case.pet, case.ct, case.mask), names, strict=True):
            habitat.write(image, folder / name)
        lines.append(",".join([f"case {i}", *names, "AB"[i % 2]]))
    table = folder / "cohort.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def start(table, out):
    command = [sys.executable, "-c", BATCH, str(table), str(out)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def run(table, out):
    """Run a batch to its end: exit code and what it said."""
    process = start(table, out)
    said = process.communicate()[1]
    return process.returncode, said


def digests(out):
    """Sha256 of every file, hidden ones and what was left behind included."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


# --- what stands at a final path is whole ---------------------------------------------


def fault_of_case(folder):
    """Why the folder of a case is not whole; "" if it is."""
    place = os.open(folder, os.O_RDONLY)  # the same folder even if it is moved
    try:

        def content(name):
            file = os.open(name, os.O_RDONLY, dir_fd=place)
            with os.fdopen(file, "rb") as stream:
                return stream.read()

        hashes = json.loads(content("case.json"))["files"]
        with os.scandir(place) as entries:
            names = {entry.name for entry in entries}
        if names != {"case.json", *hashes}:
            return f"{folder}: holds {sorted(names)}"
        changed = [
            name
            for name, sha256 in hashes.items()
            if hashlib.sha256(content(name)).hexdigest() != sha256
        ]
        return f"{folder}: {changed} are not whole" if changed else ""
    except (OSError, ValueError, KeyError) as error:
        return f"{folder}: {error!r}"
    finally:
        os.close(place)


def fault_of_file(path):
    """Why a table or record is not whole; "" if it is."""
    try:
        text = path.read_text()
        if path.suffix == ".json":
            json.loads(text)
        elif path.suffix == ".csv":
            widths = {len(row) for row in csv.reader(io.StringIO(text))}
            # a batch of no finished case has a long table without a header
            if text and (len(widths) != 1 or not text.endswith("\n")):
                return f"{path}: rows of {sorted(widths)} cells"
    except ValueError as error:
        return f"{path}: {error!r}"
    return ""


class Watcher(threading.Thread):
    """Reads all final paths over and over until it is stopped."""

    def __init__(self, out):
        super().__init__(daemon=True)
        self.out, self.faults, self.looks = out, [], 0
        self._seen, self._stop_now = set(), threading.Event()

    def run(self):
        while not self._stop_now.wait(0.002):
            self.look()

    def stop(self):
        self._stop_now.set()
        self.join()
        self._seen.clear()
        self.look()

    def look(self):
        """Read what is new since the last look."""
        self.looks += 1
        for path in [*self.out.glob("cases/[!.]*"), *self.out.glob("[!.]*")]:
            try:
                mark = self._mark(path)
                if path.name in ("cases", "tracebacks") or mark in self._seen:
                    continue
                fault = (fault_of_case if path.is_dir() else fault_of_file)(path)
                if fault and self._mark(path) == mark:  # it has not just been replaced
                    self.faults.append(fault)
                self._seen.add(mark)
            except FileNotFoundError:
                continue

    def _mark(self, path):
        stat = path.stat()
        return path, stat.st_ino, stat.st_mtime_ns


# --- what goes wrong ------------------------------------------------------------------


def children(pid):
    """Processes that a process has started (Linux)."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        texts = [(task / "children").read_text() for task in tasks]
    except OSError:
        return []
    return [int(child) for text in texts for child in text.split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(kind, process, out, event, moment):
    """Kill a process so many seconds after a path is there; False if it had ended."""
    while not any(out.glob(event)) and process.poll() is None:
        time.sleep(0.002)
    try:
        process.wait(moment)
        return False  # it was over before
    except subprocess.TimeoutExpired:
        workers = children(process.pid)
    if kind == "worker":
        if not workers:
            return False
        os.kill(random.choice(workers), signal.SIGKILL)
        return True
    process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 3
    while any(map(alive, workers)):
        assert time.monotonic() < end, "workers outlive the process that started them"
        time.sleep(0.01)
    return True


def mount(place, size, *, again=False):
    """Mount a disk of so many bytes, or change its size; False if that is forbidden."""
    options = f"{'remount,' if again else ''}size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def unmount(place):
    subprocess.run(["umount", str(place)], check=True)


# --- one after another ----------------------------------------------------------------


class Trial:
    """A cohort, its undisturbed run, and runs that something happens to."""

    def __init__(self, folder, seed=0):
        self.folder, self.random = Path(folder), random.Random(seed)
        random.seed(seed)
        self.table = make_cohort(self.folder)
        self.whole = self.folder / "undisturbed"
        for _ in range(2):  # the first one may compile
            shutil.rmtree(self.whole, ignore_errors=True)
            code, said = run(self.table, self.whole)
            assert code == 0, said
        self.expected = digests(self.whole)
        record = json.loads((self.whole / "run.json").read_text())
        seconds = record["seconds"]
        first = max(one["seconds"] for one in record["of_cases"].values())
        # half of the moments are after the first case, where most is written
        self.windows = (("run.json", seconds), ("cases/[!.]*", seconds - first))
        files = [path for path in self.whole.rglob("*") if path.is_file()]
        pages = sum(-(-path.stat().st_size // 4096) for path in files)
        self.bytes = 4096 * pages

    def killed(self, kind):
        """Kill once; return a line of what happened."""
        out = self.folder / "out"
        while True:
            shutil.rmtree(out, ignore_errors=True)
            process = start(self.table, out)
            watcher = Watcher(out)
            watcher.start()
            event, longest = self.random.choice(self.windows)
            moment = self.random.uniform(0, longest)
            struck = kill(kind, process, out, event, moment)
            said = process.communicate()[1]
            watcher.stop()
            if struck:
                break
        if kind == "worker" and "cannot start" not in said:  # it was the very first one
            assert process.returncode == 0, said
            found = digests(out)
            parts = {name for name in found if "/." in f"/{name}"}  # left by the killed
            found = {name: found[name] for name in found.keys() - parts}
            assert found == self.expected, "one killed worker changed the result"
        return self._ended(
            out, watcher, process.returncode, f"{moment:5.2f} s after {event}"
        )

    def full(self):
        """Fill the disk once; return a line of what happened."""
        out = self.folder / "disk"
        out.mkdir(exist_ok=True)
        size = 4096 * self.random.randrange(1, int(1.1 * self.bytes / 4096))
        assert mount(out, size), "a small disk cannot be mounted"
        try:
            watcher = Watcher(out / "out")
            watcher.start()
            code, said = run(self.table, out / "out")
            watcher.stop()
            if code:
                assert "cannot be" in said or self._explained(out / "out"), said
            assert mount(out, 2**30, again=True)
            return self._ended(out / "out", watcher, code, f"at {size:7,} bytes")
        finally:
            unmount(out)

    def _explained(self, out):
        """Whether the failures say that the disk is full."""
        return "cannot be written" in (out / "failures.csv").read_text()

    def _ended(self, out, watcher, code, when):
        """Check what is there, run to the end, compare."""
        assert not watcher.faults, watcher.faults
        finals = len(list(out.glob("cases/[!.]*")))
        left = len([*out.glob(".*"), *out.glob("cases/.*")])
        second = Watcher(out)
        second.start()
        again, said = run(self.table, out)
        second.stop()
        assert again == 0, said
        assert not second.faults, second.faults
        found = digests(out)
        names = {
            n for n in self.expected | found if self.expected.get(n) != found.get(n)
        }
        assert not names, f"differ from an undisturbed run: {sorted(names)}"
        looks = watcher.looks + second.looks
        return (
            f"{when}: exit code {code}, {finals} of {CASES} cases, {left} leftovers; "
            f"run again: all {len(found)} files as undisturbed; {looks} looks"
        )


def trials(kind, folder, moments=20, seed=0):
    """Yield a line for each moment; AssertionError at the first that went wrong."""
    trial = Trial(folder, seed)
    seconds = " and ".join(f"{s:.1f} s after {name}" for name, s in trial.windows)
    yield f"undisturbed: {seconds}, {trial.bytes:,} bytes on disk"
    for _ in range(moments):
        yield trial.full() if kind == "disk" else trial.killed(kind)


def main(kind, moments="20", seed="0"):
    folder = Path(tempfile.mkdtemp())
    try:
        for i, line in enumerate(trials(kind, folder, int(moments), int(seed))):
            print(f"{kind} {i:2}: {line}", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
