"""Cases per minute of `batch` on one core: ``python -m tests.benchmarks.bench_cohort``.

The 12 generated samples and 3 real patients (those at the quartiles of tumor volume of
the 17), from files to files: 4 habitats and the default features, by `batch` with one
worker process and by plain_script.py with one thread, in turn: a third of the cases by
the script, then all of them by `batch`, three times. Both start from nothing (their
imports count) with compiled kernels in the cache.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from tests.conftest import find_shared

ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("HABITAT", "OMP", "OPENBLAS", "MKL")
}
SAMPLES = Path(__file__).parents[2] / "data_samples"
PATIENTS = ("STS_015", "STS_047", "STS_039")  # quartiles of volume: 88, 181, 712 ml
OURS = (
    "import sys, habitat\n"
    "done = habitat.batch(habitat.read_cohort(sys.argv[1]), sys.argv[2], jobs=1)\n"
    "sys.exit(done.exit_code)"
)


def cohort():
    """PET, CT and mask of all cases, by absolute path."""
    table = pd.read_csv(SAMPLES / "cohort.csv", dtype=str)
    rows = table[["case_id", "pet", "ct", "mask"]]
    rows[["pet", "ct", "mask"]] = f"{SAMPLES}/" + rows[["pet", "ct", "mask"]]
    data = find_shared() / "data" / "sts_petct"
    files = {"pet": "PET_image", "ct": "CT_image", "mask": "CT_mask"}
    real = [
        {"case_id": p} | {k: f"{data / p / f}.nii.gz" for k, f in files.items()}
        for p in PATIENTS
    ]
    return pd.concat([rows, pd.DataFrame(real)], ignore_index=True)


def timed(*command):
    """Wall and processor seconds of a command and all that it starts."""
    before, start = os.times(), time.perf_counter()
    environment = {**os.environ, **ONE_THREAD}
    subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, env=environment
    )
    after = os.times()
    spent = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return time.perf_counter() - start, spent


def main():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the workers too
    cases = cohort()
    folder = Path(tempfile.mkdtemp())
    cases.to_csv(folder / "all.csv", index=False)
    plain, ours = [], []
    try:
        for turn in range(3):
            part = folder / f"part{turn}.csv"
            cases.iloc[turn::3].to_csv(part, index=False)
            script = "tests.benchmarks.plain_script"
            plain.append(timed("-m", script, str(part), str(folder / f"{turn}.csv")))
            out = str(folder / f"out{turn}")
            ours.append(timed("-c", OURS, str(folder / "all.csv"), out))
        rows = len(pd.read_csv(folder / "out0" / "features.csv"))
        theirs = sum(
            len(pd.read_csv(folder / f"{i}.csv", header=None)) for i in range(3)
        )
    finally:
        shutil.rmtree(folder)
    n = len(cases)
    print(f"{n} cases; {rows} features by batch, {theirs} by the plain script")
    for i, kind in enumerate(("wall", "processor")):
        whole = sum(p[i] for p in plain), statistics.median(o[i] for o in ours)
        for name, seconds in zip(("plain script", "batch"), whole, strict=True):
            rate = 60 * n / seconds
            print(f"  {name:13}{seconds:8.1f} s {kind:9} {rate:8.1f} cases per minute")
        print(f"  {kind} ratio {whole[0] / whole[1]:.1f} x (needed 10)")
    print("  runs of batch, s:", " ".join(f"{o[0]:.1f}" for o in ours))


if __name__ == "__main__":
    main()
