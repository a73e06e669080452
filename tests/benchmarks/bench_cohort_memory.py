"""Memory of a large cohort: ``python -m tests.benchmarks.bench_cohort_memory FOLDER``.

2,000 small generated cases (another number as second argument) through `fit_cohort` and
`batch` with its model, two workers each. Meanwhile the memory of the process that
called them and of its largest worker is read twice a second (Linux). FOLDER gets
memory.csv and memory.png.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

import habitat
from tests.kill_batch import children

SOURCES = 25  # cases are these with other noise
STEPS = {
    "fit_cohort": "habitat.fit_cohort(cases, sys.argv[2], k=3, jobs=2)",
    "batch": (
        "model = habitat.HabitatModel.load(sys.argv[2]); "
        "families = ('composition', 'intensity', 'shape', 'diversity'); "
        "habitat.batch(cases, sys.argv[3], model=model, families=families, jobs=2)"
    ),
}
START = "import sys, habitat; cases = habitat.read_cohort(sys.argv[1]); "


def make_cohort(folder, count):
    """Write cases that differ by noise, and their table."""
    rng = np.random.default_rng(0)
    made = [
        habitat.phantom(radius_mm=10, margin_mm=15, random_state=i)
        for i in range(SOURCES)
    ]
    rows = []
    for i in range(count):
        case, names = made[i % SOURCES], [f"{i}_{n}.nii" for n in ("pet", "ct", "mask")]
        noise = rng.normal(0, 0.1, case.pet.array.shape).astype("f4")
        habitat.write(
            case.pet.replace(np.abs(case.pet.array + noise)), folder / names[0]
        )
        noise = rng.integers(-10, 11, case.ct.array.shape).astype("i2")
        habitat.write(case.ct.replace(case.ct.array + noise), folder / names[1])
        habitat.write(case.mask, folder / names[2])
        rows.append([f"case{i}", *names, "AB"[i % 2]])
    with (folder / "cohort.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["case_id", "pet", "ct", "mask", "site"], *rows])
    return folder / "cohort.csv"


def megabytes(pid):
    """Memory that a process has now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return found[0] / 1024 if found else 0.0


def watched(step, arguments):
    """Run a step; rows of step, seconds, and memory of caller and largest worker."""
    command = [sys.executable, "-c", START + STEPS[step], *map(str, arguments)]
    start, rows = time.monotonic(), []
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            workers = [megabytes(pid) for pid in children(process.pid)]
            row = megabytes(process.pid), max(workers, default=0.0)
            rows.append((step, time.monotonic() - start, *row))
            time.sleep(0.5)
        log.seek(0)
        assert process.returncode == 0, log.read()[-2000:]
    return rows


def draw(rows, path):
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="tight")
    for axis, step in zip(axes, STEPS, strict=True):
        _, t, parent, worker = zip(*(r for r in rows if r[0] == step), strict=True)
        axis.plot(t, parent, label="caller")
        axis.plot(t, worker, label="largest worker", lw=0.6)
        axis.set(title=step, xlabel="seconds", ylim=(0, None))
    axes[0].set_ylabel("resident memory, MB")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main(folder, count="2000"):
    folder, n = Path(folder), int(count)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp())
    try:
        table = make_cohort(work, n)
        rows = []
        for step in STEPS:
            rows += watched(step, (table, work / "model", work / "out"))
        lines = (work / "out" / "features_wide.csv").read_text().count("\n")
        assert lines == n + 1, "a row for every case"
    finally:
        shutil.rmtree(work)
    with (folder / "memory.csv").open("w", newline="") as file:
        head = ("step", "seconds", "caller_mb", "worker_mb")
        csv.writer(file).writerows([head, *rows])
    draw(rows, folder / "memory.png")
    for step in STEPS:
        t, parent = np.array([r[1:3] for r in rows if r[0] == step]).T
        at = np.interp(t[-1] * np.array([0.3, 0.5, 0.7, 0.9, 1]), t, parent)
        print(f"{step}: {n} cases in {t[-1]:.0f} s; the caller has ", end="")
        print(*(f"{mb:.0f}" for mb in at), "MB after 30, 50, 70, 90, 100 % of it")


if __name__ == "__main__":
    main(*sys.argv[1:])
