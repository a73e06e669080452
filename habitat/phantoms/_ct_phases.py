"""A digital lung tumor in four CT phases with known perfusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat._check import at_least
from habitat.errors import ConfigError
from habitat.geometry import Floats
from habitat.image import Image
from habitat.phantoms import _scene as scene

TIMES = {"unenhanced": 0.0, "arterial": 30.0, "venous": 70.0, "delayed": 180.0}  # s
PHASE_NAMES = ("core", "weak", "progressive", "wash-out")  # habitats 1 to 4
PHASE_SHARES = (0.30, 0.23, 0.23, 0.24)
PHASE_HU = (  # habitats 1 to 4 in the four phases
    (25.0, 25.0, 25.0, 25.0),
    (40.0, 60.0, 65.0, 70.0),  # arterial as progressive, delayed as wash-out
    (40.0, 60.0, 100.0, 120.0),  # venous as wash-out
    (40.0, 120.0, 100.0, 70.0),
)
_AROUND_HU = (  # collapsed lung, lung, vessels and aorta, muscle, bone, fat
    (45.0, 65.0, 75.0, 75.0),
    (-820.0, -810.0, -805.0, -810.0),
    (40.0, 300.0, 160.0, 120.0),
    (50.0, 55.0, 65.0, 65.0),
    (300.0, 300.0, 310.0, 310.0),
    (-100.0, -100.0, -100.0, -100.0),
)
_COLLAPSED, _LUNG, _BLOOD, _MUSCLE, _BONE, _FAT = range(5, 11)

_CENTER = (60.0, 10.0, 120.0)  # LPS of the tumor: left lung, the aorta medial of it
_COLLAPSE_MM, _WALL_MM, _FAT_MM = 6.0, 14.0, 5.0
_AORTA_MM, _AORTA_ROI_MM, _AORTA_INSET_MM = 9.0, 6.0, 11.0
_RIB_MM, _RIB_STEP_MM = 4.0, 26.0
_VESSELS = 8


@dataclass(frozen=True, eq=False)
class PhasePhantom:
    """A digital lung tumor in four CT phases and its true habitats.

    Parameters
    ----------
    phases : mapping of str to Image, int16, HU
        "unenhanced", "arterial", "venous" and "delayed", on one grid of
        3.27 x 0.98 x 0.98 mm (z, y, x).
    mask : Image, bool
        True in the tumor as the venous phase shows it.
    truth : Image, uint8
        True habitat 1 (core), 2 (weak), 3 (progressive) or 4 (wash-out), 0 outside the
        tumor.
    aorta : Image, bool
        True in the lumen of the aorta, 3 mm off its wall.
    times : mapping of str to float, seconds
        When each phase was taken after the injection.
    motion : mapping of str to array of shape (4, 4), mm
        For each phase the affine from a point (LPS x, y, z) of the venous phase to
        where it lies in that phase.
    """

    phases: Mapping[str, Image]
    mask: Image
    truth: Image
    aorta: Image
    times: Mapping[str, float]
    motion: Mapping[str, Floats]


def ct_phases(
    noise: float,
    radius_mm: float,
    shares: Sequence[float] | None,
    margin_mm: float,
    motion: tuple[float, float] | None,
    random_state: int,
) -> PhasePhantom:
    """Make the tumor in four CT phases that `phantom` describes."""
    noise = at_least("noise", noise, 0)
    radius = at_least("radius_mm", radius_mm, 5)
    half = radius * (1 + scene.IRREGULAR) + at_least("margin_mm", margin_mm, 20)
    parts = scene.checked_shares(PHASE_SHARES if shares is None else shares)
    rng = np.random.default_rng(random_state)
    moved = _motion(motion, rng.spawn(1)[0])
    axes, fine = scene.fine_axes(half)
    tissue, aorta = _tissue(axes, radius, parts, half, rng)
    grid = scene.ct_grid(axes, _CENTER)
    meta: dict[str, Any] = {"generated_by": "habitat.phantom", "kind": "ct_phases"}
    meta["random_state"] = random_state
    phases = {}
    for number, name in enumerate(TIMES):
        values = [hu[number] for hu in (*PHASE_HU, *_AROUND_HU)]
        sharp = _moved(scene.sharp_ct(tissue, values, fine), moved[name], axes, fine)
        ct = scene.scanned(sharp, noise, rng)
        phases[name] = Image(ct, grid, unit="HU", meta={**meta, "phase": name})
    middle = slice(scene.SLABS // 2, None, scene.SLABS)
    labels = tissue[middle].copy()
    labels[labels > len(PHASE_HU)] = 0
    return PhasePhantom(
        phases=phases,
        mask=Image(labels > 0, grid, meta=meta),
        truth=Image(labels, grid, unit="habitat", meta=meta),
        aorta=Image(aorta[middle], grid, meta=meta),
        times=dict(TIMES),
        motion=moved,
    )


def _tissue(
    axes: tuple[Floats, ...],
    radius: float,
    shares: Floats,
    half: float,
    rng: np.random.Generator,
) -> tuple[scene.Labels, npt.NDArray[np.bool_]]:
    """Paint habitats 1 to 4 and what is around on the fine grid; lumen of the aorta."""
    z, y, x = scene.mesh(axes)
    distance, outline = scene.distance_and_outline(z, y, x, radius, rng)
    tissue = np.full(z.shape, _LUNG, dtype=np.uint8)
    for _ in range(_VESSELS):
        tissue[_in_vessel(z, y, x, half, rng)] = _BLOOD
    tissue[x > half - _WALL_MM] = _MUSCLE
    beside = np.mod(z + 0.4 * y, _RIB_STEP_MM) - _RIB_STEP_MM / 2  # ribs run obliquely
    from_rib = np.hypot(beside, x - (half - _WALL_MM / 2))
    tissue[from_rib < _RIB_MM] = _BONE
    tissue[x > half - _FAT_MM] = _FAT
    tissue[distance < outline + _COLLAPSE_MM] = _COLLAPSED
    inset = half - _AORTA_INSET_MM
    from_aorta = np.hypot(x + inset, y - inset)  # medial and posterior
    tissue[from_aorta < _AORTA_MM] = _BLOOD
    tumor = distance < outline
    depth = (distance / outline)[tumor]
    habitats = np.ones(depth.shape, dtype=np.uint8)
    viable = depth >= np.quantile(depth, shares[0])
    points = [c[tumor][viable] for c in (z, y, x)]
    rest = shares[1:] / shares[1:].sum()
    habitats[viable] = 2 + scene.behind_each_other(points, radius, rest, rng)
    tissue[tumor] = habitats
    return tissue, from_aorta < _AORTA_ROI_MM


def _in_vessel(
    z: Any, y: Any, x: Any, half: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Tell which voxels lie in a straight branch from the hilum to a random point."""
    start = np.array([0.0, 0.0, -half])
    end = rng.uniform(-half, half, 3) * (1, 1, 0.5)
    radius = rng.uniform(1.5, 3.5)
    length = np.linalg.norm(end - start)
    along = (end - start) / length
    gaps = [c - s for c, s in zip((z, y, x), start, strict=True)]
    forward = sum(g * float(a) for g, a in zip(gaps, along, strict=True))
    square = sum(g * g for g in gaps) - forward * forward
    inside: npt.NDArray[np.bool_] = (square < radius**2) & (forward < length)
    return inside


def _motion(
    motion: tuple[float, float] | None, rng: np.random.Generator
) -> dict[str, Floats]:
    """Rigid motion of each phase against the venous one: LPS affine, mm."""
    out = {name: np.eye(4) for name in TIMES}
    if motion is not None:
        shift, degrees = _checked_motion(motion)
        for name in TIMES:
            if name != "venous":
                out[name] = _rigid(shift * scene.unit(rng), degrees, scene.unit(rng))
    for affine in out.values():
        affine.flags.writeable = False
    return out


def _checked_motion(motion: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(motion, Sequence) or len(motion) != 2:
        raise ConfigError(f"must be (shift in mm, degrees), got {motion}", "`motion`")
    return at_least("motion", motion[0], 0), at_least("motion", motion[1], 0)


def _rigid(shift: Floats, degrees: float, axis: Floats) -> Floats:
    """Affine of a turn about an axis through the tumor's center, then a shift."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = turn
    affine[:3, 3] = np.array(_CENTER) - turn @ _CENTER + shift
    return affine


def _moved(
    values: npt.NDArray[np.float32],
    affine: Floats,
    axes: tuple[Floats, ...],
    fine: Floats,
) -> npt.NDArray[np.float32]:
    """Show the scene moved; what enters the field of view repeats its border."""
    if np.array_equal(affine, np.eye(4)):
        return values
    index = np.eye(4)  # fine (z, y, x) index to LPS
    index[:3, :3] = np.diag(fine)[::-1]
    index[:3, 3] = [a[0] + c for a, c in zip(axes[::-1], _CENTER, strict=True)]
    back = np.linalg.solve(index, np.linalg.solve(affine, index))
    out: npt.NDArray[np.float32] = ndimage.affine_transform(
        values, back[:3, :3], back[:3, 3], order=1, mode="nearest"
    )
    return out
