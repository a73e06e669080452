"""One tumor as another scan, another position or another reader might have given it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat._check import at_least, one_of
from habitat.case import Case
from habitat.errors import MaskError
from habitat.geometry import Floats, Geometry, bounding_box
from habitat.image import Image
from habitat.io._grids import coverage, interpolation_of, sample
from habitat.tumor import open_case

_PET_UNITS = ("SUVbw", "SUVlbm", "SUVbsa", "Bq/mL")
_PET_NOISE, _PET_FWHM = 0.10, 6.0  # share of the tumor mean; mm
_SIGMA = 1 / math.sqrt(8 * math.log(2))  # standard deviation of a Gaussian of FWHM 1
_MAD, _ENOUGH = 0.6745, 30  # median of |x| for x of unit normal distribution
# .499: at exactly half a voxel every face of the mask is a tie and the tumor grows
FRACTIONS = (0.25, 0.499, 0.75)
_DEGREES = 0.5
_MISREGISTERED = (1.0, 3.0)  # mm

_R7 = math.sqrt(7)
# Scaling filter of the first coiflet (Daubechies 1992, table 8.1), in closed form
_COIF1 = np.array([1 - _R7, 5 + _R7, 14 + 2 * _R7, 14 - 2 * _R7, 1 - _R7, -3 + _R7]) / (
    16 * math.sqrt(2)
)
_HIGH = _COIF1[::-1] * (1, -1, 1, -1, 1, -1)


@dataclass(frozen=True, eq=False)
class Scene:
    """A tumor on one grid."""

    images: Mapping[str, Image]
    mask: Image  # bool
    noise: Mapping[str, float]  # sd of each channel's noise at the tumor mean

    def moved(self, target: Geometry) -> tuple[dict[str, Image], Image]:
        """Images and mask at the voxel centers of another grid."""
        images = {c: _at(image, target) for c, image in self.images.items()}
        share = self.mask.replace(self.mask.array.astype(np.float32))
        inside = sample(share, target, "linear").array >= 0.5
        return images, Image(inside, target)


@dataclass(frozen=True)
class Draw:
    """Which variant of a perturbation, and chance."""

    number: int
    rng: np.random.Generator


Perturbed: TypeAlias = tuple[
    dict[str, Image], Image, str
]  # images, mask, what was done
Perturbation: TypeAlias = Callable[[Scene, Draw], Perturbed]


def _at(image: Image, target: Geometry) -> Image:
    return image.replace(sample(image, target, interpolation_of(image)).array, target)


# --- noise ----------------------------------------------------------------------------


def noise_sd(image: Image, mask: npt.NDArray[np.bool_]) -> float:
    """Estimate the standard deviation of an image's noise, in its unit.

    Parameters
    ----------
    image : Image
        The image.
    mask : array of bool, shape (z, y, x)
        The tumor.

    Returns
    -------
    float
        SUV and Bq/mL: 10 % of the tumor mean. All else: median over the tumor's slices
        of ``median(abs(HH)) / 0.6745``, HH the diagonal detail of a stationary
        transform by the first coiflet (Chang et al., IEEE Trans Image Process
        2000;9:1532). Of HH only what the tumor alone decides is used (windows of 6 x 6
        voxels inside it), where there are at least 30 such values: on a coarse grid the
        tumor's outline would pass for noise, ten times too much. It is the noise on
        this image's grid, to which resampling has smoothed it.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat import Image
    >>> from habitat.reliability import noise_sd
    >>> grain = np.random.default_rng(0).normal(0, 15, (5, 64, 64))
    >>> image = Image(grain, spacing=(3, 1, 1), unit="HU")
    >>> round(noise_sd(image, np.ones(grain.shape, bool)))
    15
    """
    if image.unit in _PET_UNITS:
        return abs(_PET_NOISE * float(np.nanmean(image.array[mask])))
    values = image.array[mask.any(axis=(1, 2))].astype(np.float64)
    inside = np.where(mask[mask.any(axis=(1, 2))], values, np.nan)
    details = _diagonal(inside)
    if np.isfinite(details).sum() < _ENOUGH:
        details = _diagonal(values)
    slices = [np.abs(d[np.isfinite(d)]) for d in details]
    medians = [np.median(d) / _MAD for d in slices if d.size]
    return float(np.median(medians)) if medians else 0.0


def _diagonal(slices: Floats) -> Floats:
    """HH of each slice; NaN where a NaN or the edge is in the window."""
    for axis in (1, 2):
        slices = ndimage.convolve1d(slices, _HIGH, axis, mode="constant", cval=np.nan)
    return slices


def noise_sds(
    images: Mapping[str, Image],
    mask: npt.NDArray[np.bool_],
    given: Mapping[str, float] | None,
) -> dict[str, float]:
    """Noise of each channel: as given, else estimated."""
    known = {
        one_of("noise", c, images): at_least(f"noise[{c!r}]", sd, 0)
        for c, sd in (given or {}).items()
    }
    rest = {c: noise_sd(i, mask) for c, i in images.items() if c not in known}
    return {c: {**known, **rest}[c] for c in images}


def _noise(scene: Scene, draw: Draw) -> Perturbed:
    images = {}
    for channel, image in scene.images.items():
        sd = scene.noise[channel]
        if image.unit in _PET_UNITS:
            grain = _pet_grain(image, scene.mask.array, draw.rng)
        else:
            grain = draw.rng.standard_normal(image.array.shape)
        noisy = (image.array + sd * grain).astype(np.float32)
        images[channel] = image.replace(noisy)
    done = ", ".join(f"{c} sd {sd:.3g}" for c, sd in scene.noise.items())
    return images, scene.mask, done


def _pet_grain(
    image: Image, mask: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Floats:
    """Correlated noise, sd 1 at the tumor mean and as the root of the local mean."""
    sigma = _PET_FWHM * _SIGMA / np.array(image.geometry.spacing)
    values = np.nan_to_num(image.array.astype(np.float64))
    local = np.maximum(ndimage.gaussian_filter(values, sigma, mode="nearest"), 0)
    mean = float(np.nanmean(image.array[mask]))
    level = mean if mean > 0 else math.inf
    out: Floats = correlated(values.shape, sigma, rng) * np.sqrt(local / level)
    return out


def correlated(
    shape: tuple[int, ...], sigma: Floats, rng: np.random.Generator
) -> Floats:
    """White noise through a Gaussian of `sigma` voxels, scaled to unit variance."""
    parts = np.ceil(1 / sigma).astype(int)  # finer, so that the kernel is smooth
    fine = sigma * parts
    grain = rng.standard_normal(np.array(shape) * parts)
    grain = ndimage.gaussian_filter(grain, fine, mode="wrap")
    for s in fine:
        impulse = np.zeros(2 * math.ceil(5 * s) + 1)
        impulse[impulse.size // 2] = 1
        grain /= np.linalg.norm(ndimage.gaussian_filter1d(impulse, s))
    out: Floats = grain[tuple(slice(None, None, p) for p in parts)]
    return out


# --- position -------------------------------------------------------------------------


def _shift(scene: Scene, draw: Draw) -> Perturbed:
    step = FRACTIONS[draw.number % len(FRACTIONS)] * draw.rng.choice((-1, 1), 3)
    done = ", ".join(f"{s:+.2g}" for s in step)
    step -= np.rint(step)  # a whole voxel changes nothing and could leave the image
    grid = scene.mask.geometry
    step[np.array(grid.shape) == 1] = 0
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world(step)
    moved = scene.moved(Geometry(grid.shape, affine))
    return *moved, f"({done}) voxels (z, y, x)"


def _rotation(scene: Scene, draw: Draw) -> Perturbed:
    degrees = (_DEGREES, -_DEGREES)[draw.number % 2]
    grid = scene.mask.geometry
    center = grid.world(np.argwhere(scene.mask.array).mean(axis=0))
    z, y, x = grid.directions.T
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    old, new = np.stack([z, y, x]), np.stack([z, c * y + s * x, c * x - s * y])
    turn = new.T @ old
    affine = np.eye(4)
    affine[:3, :3] = turn @ grid.affine[:3, :3]
    affine[:3, 3] = center + turn @ (grid.affine[:3, 3] - center)
    return *scene.moved(Geometry(grid.shape, affine)), f"{degrees:+g} degrees about z"


def _misregistration(scene: Scene, draw: Draw) -> Perturbed:
    direction = draw.rng.standard_normal(3)
    length = draw.rng.uniform(*_MISREGISTERED)
    shift = length * direction / np.linalg.norm(direction)
    channel, image = next(iter(scene.images.items()))
    affine = image.geometry.affine.copy()
    affine[:3, 3] -= shift
    seen = _at(image, Geometry(image.geometry.shape, affine)).array
    moved = image.replace(seen)
    x, y, z = shift
    done = f"{channel} by {length:.1f} mm (x {x:.1f}, y {y:.1f}, z {z:.1f})"
    return {**scene.images, channel: moved}, scene.mask, done


# --- mask -----------------------------------------------------------------------------


def _mask(scene: Scene, draw: Draw) -> Perturbed:
    mask = scene.mask.array
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, extent in enumerate(bounding_box(mask)):
        if extent.stop - extent.start == 1:  # a flat tumor stays in its plane
            beside = [slice(None)] * 3
            beside[axis] = slice(None, None, 2)
            cross[tuple(beside)] = False
    grow = draw.number % 2 == 1
    change = ndimage.binary_dilation if grow else ndimage.binary_erosion
    done = "1 voxel larger" if grow else "1 voxel smaller"
    return dict(scene.images), scene.mask.replace(change(mask, cross)), done


#: Name to what it does: f(scene, draw) -> images, mask, words.
PERTURBATIONS: Mapping[str, Perturbation] = {
    "noise": _noise,
    "shift": _shift,
    "rotation": _rotation,
    "mask": _mask,
    "misregistration": _misregistration,
}
#: Perturbations that have so many variants, however often they are repeated.
VARIANTS = {"rotation": 2, "mask": 2}


# --- images on their own grids --------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OwnGrids:
    """Images and mask of a case around the tumor, one scene for each grid."""

    channels: tuple[str, ...]
    scenes: tuple[Scene, ...]  # the first has the first channel
    own: int  # the scene whose mask is that of the case

    @classmethod
    def of(
        cls, case: Case, noise: Mapping[str, float] | None, margin_mm: float
    ) -> OwnGrids:
        inputs, _ = open_case(case.images, case.mask, case.label)
        given = {
            one_of("noise", c, inputs.images): sd for c, sd in (noise or {}).items()
        }
        grids: list[tuple[Geometry, dict[str, Image]]] = []
        own = inputs.mask_geometry
        for channel, image in [*inputs.images.items(), ("", None)]:
            grid = own if image is None else image.geometry
            same = [images for other, images in grids if other.same_as(grid)]
            if not same:
                grids.append((grid, {}))
            if image is not None:
                (same or [grids[-1][1]])[0][channel] = image
        scenes = [_around(*one, inputs.mask, given, margin_mm) for one in grids]
        index = next(i for i, (grid, _) in enumerate(grids) if grid.same_as(own))
        return cls(tuple(inputs.images), tuple(scenes), index)

    def perturbed(self, name: str, draw: Draw) -> Perturbed:
        """Perturb each image on its own grid; what is at one place stays there."""
        only = {"mask": self.own, "misregistration": 0}.get(name)
        images, mask = self.unperturbed()
        done = []
        for i, scene in enumerate(self.scenes):
            if only in (None, i):
                some, moved, words = PERTURBATIONS[name](scene, draw)
                images |= some
                mask = moved if i == self.own else mask
                done.append(words)
        return images, mask, "; ".join(filter(None, dict.fromkeys(done)))

    def unperturbed(self) -> tuple[dict[str, Image], Image]:
        """Images in the order of the case, and its mask."""
        images = {c: i for scene in self.scenes for c, i in scene.images.items()}
        return {c: images[c] for c in self.channels}, self.scenes[self.own].mask


def _around(
    grid: Geometry,
    images: Mapping[str, Image],
    mask: Image,
    noise: Mapping[str, float],
    margin_mm: float,
) -> Scene:
    box = grid.box_around(mask.geometry, margin_mm + max(grid.spacing))
    crop = None if box is None else grid.crop(box)
    tumor = None if crop is None else coverage(mask, crop) >= 0.5 - 1e-9
    if box is None or crop is None or tumor is None or not tumor.any():
        what = "covers no voxel by half: the tumor is smaller than a voxel"
        raise MaskError(what, f"mask on the grid of {', '.join(images)}")
    parts = {c: image.replace(image.array[box], crop) for c, image in images.items()}
    given = {c: sd for c, sd in noise.items() if c in parts}
    return Scene(parts, Image(tumor, crop), noise_sds(parts, tumor, given))
