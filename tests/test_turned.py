"""Features do not depend on how the tumor lies in the grid, where they say so."""

import re

import numpy as np
import pytest
from scipy import ndimage

from habitat import Geometry, Image
from habitat.features import LoG, RadiomicsSettings, extract

KEYS = ["region", "channel", "feature"]
# A quarter turn about z, and flips: all may come with them.
ABOUT_Z = {
    "turn about z": lambda a: np.rot90(a, axes=(1, 2)),
    "flip z": lambda a: a[::-1],
    "flip y": lambda a: a[:, ::-1],
    "flip x": lambda a: a[:, :, ::-1],
}
OTHERS = {
    "turn about x": lambda a: np.rot90(a, axes=(0, 1)),
    "turn about y": lambda a: np.rot90(a, axes=(0, 2)),
}
TURNS = ABOUT_Z | OTHERS
# Of the slice: these change with its direction
FLAT = r"^(?:interaction|border)_(?!area)|^ith_score$|Maximum2DDiameter"
# The mesh of pyradiomics has cracks where voxels meet at an edge only
MESH = r"MeshVolume|SurfaceArea|SurfaceVolumeRatio|Sphericity"
FAMILIES = ("composition", "intensity", "radiomics", "shape", "spatial", "diversity")


@pytest.fixture(scope="module")
def scene():
    """A generated tumor of three smooth habitats, SUV and HU."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((26, 30, 28)) - np.array([12, 15, 14]).reshape(3, 1, 1, 1)
    tumor = (z / 9) ** 2 + (y / 11) ** 2 + (x / 10) ** 2 <= 1
    waves = ndimage.gaussian_filter(rng.normal(size=tumor.shape), 3)
    waves /= waves[tumor].std()
    labels = np.where(tumor, 1 + np.digitize(waves, (-0.4, 0.5)), 0).astype(np.uint8)
    grain = ndimage.gaussian_filter(rng.normal(size=tumor.shape), 1)
    suv = 0.5 + tumor * (3 + waves + 3 * np.abs(grain))
    hu = np.where(tumor, 40, -700) + 40 * waves + 25 * rng.normal(size=tumor.shape)
    hu = np.rint(hu)
    return labels, suv, hu


def features(scene, turn=None, pad=0, families=(*FAMILIES, "pet"), mm=2.0, **options):
    """All features, by name."""
    arrays = [np.pad(a, pad, "edge") if a.dtype != np.uint8 else np.pad(a, pad)
              for a in scene]  # fmt: skip
    labels, suv, hu = (np.ascontiguousarray((turn or (lambda a: a))(a)) for a in arrays)
    grid = Geometry.from_spacing(labels.shape, (mm, mm, mm))
    images = {"SUVbw": Image(suv, grid, unit="SUVbw"), "HU": Image(hu, grid, unit="HU")}
    table = extract(Image(labels, grid), images, families=families, **options)
    return table.set_index(KEYS)["value"]


def compare(before, after, leave_out="", rtol=1e-9):
    assert (before.index == after.index).all()
    names = before.index.get_level_values("feature")
    keep = ~names.str.contains(leave_out) if leave_out else np.ones(len(names), bool)
    a, b = before.to_numpy()[keep], after.to_numpy()[keep]
    same = np.isclose(a, b, rtol=rtol, atol=1e-9, equal_nan=True)
    assert same.all(), before[keep][~same].to_frame().assign(after=b[~same]).to_string()
    return keep.mean()


@pytest.fixture(scope="module")
def native(scene):
    return features(scene, spacing=None)


@pytest.mark.parametrize("turn", ABOUT_Z)
def test_turns_about_z_and_flips(scene, native, turn) -> None:
    after = features(scene, ABOUT_Z[turn], spacing=None)
    kept = compare(native, after, f"{MESH}|Diameter(?:Row|Column)")
    assert kept > 0.97


@pytest.mark.parametrize("turn", OTHERS)
def test_other_turns(scene, native, turn) -> None:
    after = features(scene, OTHERS[turn], spacing=None)
    assert compare(native, after, f"{MESH}|{FLAT}") > 0.9


def test_the_diameters_of_planes_change_places(scene, native) -> None:
    after = features(scene, OTHERS["turn about y"], spacing=None)
    for region in ("tumor", "h1"):
        for one, other in (("Slice", "Row"), ("Row", "Slice"), ("Column", "Column")):
            a = native[region, "", f"shape_Maximum2DDiameter{one}"]
            b = after[region, "", f"shape_Maximum2DDiameter{other}"]
            assert a == pytest.approx(b, rel=1e-9)


def test_the_mesh_of_a_tumor_in_one_piece_turns_with_it(scene, native) -> None:
    names = [f"shape_{n}" for n in MESH.split("|")]
    for turn in TURNS.values():
        after = features(scene, turn, families=("shape",))
        for name in names:
            a, b = native["tumor", "", name], after["tumor", "", name]
            assert a == pytest.approx(b, rel=1e-9)


STORED = {
    "flip z": ((0, 1, 2), (-1, 1, 1)),
    "flip y and x": ((0, 1, 2), (1, -1, -1)),
    "sagittal": ((2, 0, 1), (1, 1, 1)),
    "coronal, flipped": ((1, 0, 2), (1, -1, 1)),
}


def stored(image, order, signs):
    """The same image with its axes in another order and direction."""
    start = [
        0 if s > 0 else n - 1 for s, n in zip(signs, image.array.shape, strict=True)
    ]
    affine = image.geometry.affine.copy()
    affine[:3, 3] = image.geometry.world(start)
    affine[:3, :3] *= signs
    affine[:3, :3] = affine[:3, list(order)]
    array = image.array[tuple(slice(None, None, s) for s in signs)].transpose(order)
    geometry = Geometry(array.shape, affine)
    return Image(np.ascontiguousarray(array), geometry, unit=image.unit)


@pytest.mark.parametrize("what", ["all", "labels", "images"])
@pytest.mark.parametrize("how", STORED)
def test_how_images_are_stored_does_not_matter(scene, how, what) -> None:
    """Not even where labels lie halfway between voxels of the new grid."""
    labels, suv, hu = scene
    grid = Geometry.from_spacing(labels.shape, (2.0, 1.9, 1.4))
    mask, pet, ct = (
        Image(labels, grid),
        Image(suv, grid, unit="SUVbw"),
        Image(hu, grid, unit="HU"),
    )

    def table(mask, pet, ct):
        families = ("radiomics", "pet", "intensity")
        found = extract(mask, {"SUVbw": pet, "HU": ct}, families=families)
        return found.set_index(KEYS)["value"]

    moved = [
        one if what not in ("all", kind) else stored(one, *STORED[how])
        for one, kind in ((mask, "labels"), (pet, "images"), (ct, "images"))
    ]
    compare(table(mask, pet, ct), table(*moved), rtol=1e-7)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(
    ("filters", "rtol"),
    [(("square", "squareroot", "logarithm", "exponential", "gradient"), 1e-9),
     ((LoG((3.0,)),), 1e-4)],
)  # fmt: skip
def test_filters_without_a_direction(scene, turn, filters, rtol) -> None:
    names = ("firstorder_Mean", "firstorder_Energy", "firstorder_90Percentile")
    settings = RadiomicsSettings(filters=filters, features=names, spacing=0)
    options = {"families": ("radiomics",), "settings": settings}
    compare(
        features(scene, **options), features(scene, TURNS[turn], **options), rtol=rtol
    )


def test_padding_changes_nothing(scene, native) -> None:
    compare(native, features(scene, pad=4, spacing=None))


ORDERED = {f"interaction_{n}" for n in ("contrast", "homogeneity", "correlation")}
NEW = {"1": "3", "2": "1", "3": "2"}
PAIRS = r"^(?:interaction|joins|pair_corr|border|contrast|centroid_dist)"


def renamed(key):
    """Where a feature stands after habitats 1, 2, 3 became 3, 1, 2; and its sign."""
    region, channel, feature = key
    region = f"h{NEW[region[1]]}" if region[0] == "h" else region
    if not re.match(PAIRS, feature):
        return (region, channel, feature), 1
    head, *own = re.split(r"_(?=\d(?:_|$))", feature)
    own = [part.partition("_") for part in own]
    numbers = [NEW[n] for n, _, _ in own]
    back = numbers != sorted(numbers)
    rest = "".join(f"_{r}" for _, _, r in own if r)
    name = "_".join([head, *sorted(numbers)]) + rest
    return (region, channel, name), -1 if back and head == "contrast" else 1


def test_other_numbers_of_habitats_change_names_only(scene, native) -> None:
    labels, *rest = scene
    moved = np.array([0, 3, 1, 2], np.uint8)[labels]
    after = features((moved, *rest), spacing=None)
    for key, value in native.items():
        if key[2] not in ORDERED:
            place, sign = renamed(key)
            found = sign * after[place]
            assert found == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), key
