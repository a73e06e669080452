"""Speed of Tofts maps: ``python -m tests.benchmarks.bench_tofts``.

Prints the time of whole `tofts_maps` calls on a generated tumor of 60,500 voxels and 60
frames: frames in memory to maps, delay found, median of 7 interleaved. The target is
under 1 s for the default.
"""

import numpy as np

from habitat import Image
from habitat.maps import SignalModel, tofts_maps
from tests.benchmarks.bench_kmeans import interleaved
from tests.test_tofts import SPGR, gradient_echo, tissue

SHAPE, TUMOR = (30, 70, 70), (slice(5, 25), slice(7, 62), slice(7, 62))
TIMES = np.arange(60) * 5.0
CALLS = {
    "linear": {},
    "linear, extended": {"model": "extended"},
    "linear, delay given": {"delay": 20.0},
    "linear, delays of voxels": {"delay": "voxel"},
    "bounded": {"fit": "bounded"},
    "bounded, extended": {"fit": "bounded", "model": "extended"},
    "linear, from signal": {"signal": SignalModel(**SPGR)},
}


def frames():
    """Concentration and signal of voxels drawn from 300 tissues, with noise."""
    rng = np.random.default_rng(0)
    ktrans, ve = rng.uniform(0.02, 0.5, 300), rng.uniform(0.1, 0.6, 300)
    kinds = tissue(TIMES, ktrans, ve, delay=20, fine=0.5)
    c = kinds[:, rng.integers(0, 300, np.prod(SHAPE))].reshape(TIMES.size, *SHAPE)
    c += rng.normal(0, 0.01, c.shape)
    return c, gradient_echo(c)


def main():
    given, signal = (
        [Image(a.astype(np.float32), spacing=(3, 2, 2), unit=unit) for a in array]
        for array, unit in zip(frames(), ("mM", None), strict=True)
    )
    mask = np.zeros(SHAPE, bool)
    mask[TUMOR] = True
    tumor = Image(mask, spacing=(3, 2, 2))
    print(f"{mask.sum():,} voxels, {TIMES.size} frames")
    for threads in (1, 2):
        calls = {
            name: lambda o=options, n=threads: tofts_maps(
                signal if "signal" in o else given,
                tumor,
                times=TIMES,
                threads=n,
                **o,
            )
            for name, options in CALLS.items()
        }
        seconds, _ = interleaved(calls)
        for name, s in seconds.items():
            print(f"{threads} thread(s)  {name:26}{s:8.3f} s")


if __name__ == "__main__":
    main()
