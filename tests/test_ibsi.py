"""Values of the Image Biomarker Standardisation Initiative, through our own chain.

`ibsi_map.csv` says for each tag of the IBSI-1 tables what our feature is called and by
which neighbors (`dims`) and merging it is computed, or why there is none.
"""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import habitat
from habitat.features._ibsi import (
    VolumeBins,
    distance_zones,
    ibsi_features,
    ibsi_profile,
)
from habitat.features._prepare import intensity_layers, prepare
from habitat.features._radiomics import run
from habitat.features._settings import RadiomicsSettings

MAP = pd.read_csv(Path(__file__).with_name("ibsi_map.csv"), keep_default_na=False)
ALL = [(dims, merge) for dims in ("2d", "2.5d", "3d") for merge in (True, False)]


def settings(**chosen):
    return RadiomicsSettings(ibsi=True, **chosen)


#: Data set -> unit, settings, neighbors and merging, gray levels of the volume
#: histogram (IBSI-1 reference manual, table of configurations).
SETS = {
    "digital_phantom": (
        None,
        settings(bin_width=1, bin_from=1, spacing=0),
        ALL,
        VolumeBins(),
    ),
    "chest_config_a": (
        "HU",
        settings(bin_width=25, resegment=(-500, 400), spacing=0),
        ALL[:4],
        None,
    ),
    "chest_config_b": (
        "HU",
        settings(
            bin_count=32,
            resegment=(-500, 400),
            spacing=(0, 2, 2),
            interpolation="linear",
        ),
        ALL[:4],
        None,
    ),
    "chest_config_c": (
        "HU",
        settings(
            bin_width=25, resegment=(-1000, 400), spacing=2, interpolation="linear"
        ),
        ALL[4:],
        VolumeBins(-1000, 400, width=2.5),
    ),
    "chest_config_d": (
        "HU",
        settings(bin_count=32, outliers=3, spacing=2, interpolation="linear"),
        ALL[4:],
        None,
    ),
    "chest_config_e": (
        "HU",
        settings(
            bin_count=32,
            resegment=(-1000, 400),
            outliers=3,
            spacing=2,
            interpolation="cubic",
        ),
        ALL[4:],
        VolumeBins(number=1000),
    ),
}
CONSENSUS = {
    "CT": ("HU", settings(bin_width=10, resegment=(-200, 200), interpolation="cubic")),
    "PET": ("SUVbw", settings(interpolation="cubic")),
}


def everything(image, mask, unit, own, ways, volume_bins=None):
    """Everything by (feature, dims, merge), as strings of the map."""
    image, mask = habitat.read(image, unit=unit), habitat.read_mask(mask)
    own = own.for_channel(unit, False, image.geometry.spacing)
    prepared = prepare(image, [mask], own)
    out = {(k, "", ""): v for k, v in diagnostics(prepared, own).items()}
    for dims, merge in ways:
        now = replace(own, dims=dims, merge=merge)
        computed = list(run(prepared, now, 1))
        if not merge:
            computed += ibsi_profile(prepared, now, 1, volume_bins=volume_bins)
        found = {name: v for one in computed for name, v in one.features.items()}
        for name, (value,) in found.items():
            for key in ("yes" if merge else "no", ""):
                out[name, dims, key] = value
            out[name, "", ""] = value
    return out


def diagnostics(prepared, own):
    values, spacing = prepared.image.array, prepared.image.geometry.spacing
    masks = prepared.layers[0] > 0, intensity_layers(prepared, own)[0] > 0
    out = {}
    for axis, size, mm in zip("zyx", prepared.how["shape"], spacing, strict=True):
        out[f"img_dim_{axis}_interp_img"] = size
        out[f"vox_dim_{axis}_interp_img"] = mm
        for step in ("interp", "reseg"):
            out[f"int_mask_dim_{axis}_{step}_roi"] = size
    used = {
        ("morph", "interp"): masks[0],
        ("morph", "reseg"): masks[0],
        ("int", "interp"): masks[0],
        ("int", "reseg"): masks[1],
    }
    for (kind, step), mask in used.items():
        x = values[mask]
        out[f"{kind}_mask_vox_count_{step}_roi"] = x.size
        for axis, at in zip("zyx", np.nonzero(mask), strict=True):
            out[f"{kind}_mask_bb_dim_{axis}_{step}_roi"] = np.ptp(at) + 1
        for name, value in (("mean", x.mean()), ("min", x.min()), ("max", x.max())):
            out[f"{kind}_mask_{name}_int_{step}_roi"] = value
    return {f"diagnostic_{name}": value for name, value in out.items()}


def mapped(table):
    """Rows of a table whose tags have a feature, with it."""
    rows = table.merge(MAP, on="tag", validate="many_to_one")
    return rows[rows.feature != ""]


def key(row):
    return row.feature, row.dims, row.merge


# --- the tables are covered -----------------------------------------------------------


def tables(shared):
    folder = shared / "reference"
    return (
        pd.read_csv(folder / "ibsi1_phantoms.csv"),
        pd.read_csv(folder / "ibsi1_sts_consensus.csv.gz"),
    )


def test_every_tag_is_mapped_or_has_a_reason(shared):
    for table in tables(shared):
        assert set(table.tag) <= set(MAP.tag)
    assert MAP.tag.is_unique
    assert ((MAP.feature != "") | (MAP.note != "")).all()
    phantoms, patients = tables(shared)
    assert len(mapped(phantoms)) == 1974  # of 2134; 30 of the others have no value
    assert MAP[MAP.tag.isin(patients.tag)].feature.ne("").sum() == 194  # of 220


# --- phantoms -------------------------------------------------------------------------


def phantom(shared, name):
    kind = "digital_phantom" if name == "digital_phantom" else "ct_phantom"
    folder = shared / "data" / "ibsi1" / kind / "nifti"
    unit, own, ways, bins = SETS[name]
    image, mask = folder / "image/phantom.nii.gz", folder / "mask/mask.nii.gz"
    return everything(image, mask, unit, own, ways, bins)


def off(value, reference, tolerance):
    """Distance in excess of the tolerance; references have at least 3 digits."""
    if reference == 0 or not math.isfinite(value):
        return not abs(value) <= tolerance
    digits = max(3, len(f"{abs(reference):.12g}".replace(".", "").strip("0")))
    rounded = float(f"{value:.{digits}g}")
    return abs(rounded - reference) > tolerance + 1e-9 * abs(reference)


@pytest.mark.parametrize("name", SETS)
def test_ibsi_phantoms(shared, name):
    rows = mapped(tables(shared)[0]).query("data_set == @name")
    rows = rows[rows.reference_value.notna()]
    found = phantom(shared, name)
    wrong = [
        (row.tag, found.get(key(row)), row.reference_value, row.tolerance)
        for row in rows.itertuples()
        if key(row) not in found
        or off(found[key(row)], row.reference_value, row.tolerance)
    ]
    assert not wrong, f"{len(wrong)} of {len(rows)}"


# --- own features ---------------------------------------------------------------------


def slow_zones(levels, labels, region, dims):
    """Level and distance of each zone of one region by flooding, slice by slice in 2-D.

    Written from the reference manual; shares nothing with the code it checks.
    """
    reach = (-1, 0, 1) if dims == "3d" else (0,)
    near = [o for o in product(reach, (-1, 0, 1), (-1, 0, 1)) if any(o)]
    faces = [o for o in near if sum(map(abs, o)) == 1]
    inside = {tuple(map(int, v)) for v in np.argwhere(labels == region)}
    distance, shell, left = {}, 1, set(inside)
    while left:
        outer = {v for v in left if any(moved(v, o) not in left for o in faces)}
        distance |= dict.fromkeys(outer, shell)
        left, shell = left - outer, shell + 1
    zones, free = [], {v for v in inside if levels[v] > 0}
    while free:
        stack = [free.pop()]
        zone = list(stack)
        while stack:
            v = stack.pop()
            same = {moved(v, o) for o in near} & free
            same = {u for u in same if levels[u] == levels[v]}
            free -= same
            stack += same
            zone += same
        z = zone[0][0] if dims == "2d" else 0
        zones.append((z, levels[zone[0]], min(distance[v] for v in zone)))
    return zones


def moved(voxel, offset):
    return tuple(v + o for v, o in zip(voxel, offset, strict=True))


def few_zone_features(zones, voxels):
    """Some features of slices, averaged; zones are (slice, level, distance)."""
    rows = []
    for z in {z for z, _, _ in zones}:
        i, d = np.array([(i, d) for s, i, d in zones if s == z], float).T
        share = np.unique(np.stack((i, d)), axis=1, return_counts=True)[1] / len(i)
        rows.append(
            {
                "SmallDistanceEmphasis": np.mean(1 / d**2),
                "LargeDistanceHighGrayLevelEmphasis": np.mean((d * i) ** 2),
                "GrayLevelNonUniformity": sum(np.bincount(i.astype(int)) ** 2) / len(i),
                "ZoneDistanceNonUniformityNormalized": sum(
                    (np.bincount(d.astype(int)) / len(d)) ** 2
                ),
                "ZonePercentage": len(i) / voxels[z],
                "ZoneDistanceVariance": np.var(d),
                "ZoneDistanceEntropy": -np.sum(share * np.log2(share)),
            }
        )
    return {k: np.mean([row[k] for row in rows]) for k in rows[0]}


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    dims=st.sampled_from(["3d", "2.5d", "2d"]),
    seed=st.integers(0, 2**16),
)
def test_distance_zones_are_those_of_the_manual(shape, dims, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, shape).astype(np.uint8)
    kept = np.where(rng.random(shape) < 0.8, labels, 0).astype(np.uint8)
    levels = np.where(kept > 0, rng.integers(1, 4, shape), 0)
    found = distance_zones(levels, kept, labels, 2, dims=dims)
    padded = [np.pad(a, 2) for a in (levels, kept, labels)]
    again = distance_zones(*padded, 2, dims=dims)
    for region in (1, 2):
        for name, values in found.items():
            np.testing.assert_allclose(again[name], values, rtol=1e-12)
        own = kept == region
        if not own.any():
            assert all(np.isnan(v[region - 1]) for v in found.values())
            continue
        zones = slow_zones(np.where(own, levels, 0), labels, region, dims)
        voxels = own.sum((1, 2)) if dims == "2d" else [own.sum()]
        for name, value in few_zone_features(zones, voxels).items():
            got = found[f"gldzm_{name}"][region - 1]
            np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-12)


def test_more_levels_and_regions_than_8_bits_hold():
    levels = np.arange(1, 301).reshape(3, 10, 10)
    labels = np.full(levels.shape, 200, np.uint8)
    found = distance_zones(levels, labels, labels, 200)
    assert found["gldzm_ZonePercentage"][199] == 1
    assert np.isnan(found["gldzm_ZonePercentage"][:199]).all()


def test_flat_and_absent_regions():
    values = np.full((3, 3, 3), 7.0)
    labels = np.ones(values.shape, np.uint8)
    found = ibsi_features(values, labels, labels, labels, 2, (1, 1, 1))
    assert all(np.isnan(v[1]) for v in found.values())
    first = {name: v[0] for name, v in found.items()}
    assert np.isfinite(list(first.values())).all()
    assert first["histogram_Entropy"] == first["histogram_MaximumGradient"] == 0
    assert first["ivh_VolumeAt10"] == first["ivh_VolumeAt90"] == 1
    assert first["gldzm_ZoneDistanceEntropy"] == 0


@pytest.mark.parametrize("dims", ["3d", "2.5d", "2d"])
def test_nothing_left_after_resegmentation(dims):
    labels = np.ones((3, 3, 3), np.uint8)
    none = np.zeros_like(labels)
    found = ibsi_features(labels * 1.0, none, labels, none, 1, (1, 1, 1), dims=dims)
    assert len(found) == 23 + 3 + 6 + 16
    assert all(np.isnan(v).all() for v in found.values())


@pytest.mark.parametrize(
    ("bins", "expected"),
    [
        # levels 0..4: V10 asks for level 0.4, so for 1; no level is left for I10 but 5
        (VolumeBins(), (4 / 5, 1 / 5, 5, 1)),
        # centers 1, 3 and 5
        (VolumeBins(0, 6, width=2), (3 / 5, 1 / 5, 7, 3)),
        (VolumeBins(number=2), (3 / 5, 3 / 5, 3, 2)),
    ],
)
def test_volume_histogram(bins, expected):
    values = np.array([[[0.0, 1, 2, 3, 4]]])
    one = np.ones(values.shape, int)
    found = ibsi_features(values, one, one, one, 1, (1, 1, 1), volume_bins=bins)
    names = ("VolumeAt10", "VolumeAt90", "IntensityAt10", "IntensityAt90")
    assert [found[f"ivh_{n}"][0] for n in names] == pytest.approx(expected)


# --- patients -------------------------------------------------------------------------


def patient(shared, case, modality):
    """Our values and those most teams found, of one patient."""
    rows = mapped(tables(shared)[1]).query("id == @case and modality == @modality")
    folder = shared / "data" / "sts_petct" / case
    unit, own = CONSENSUS[modality]
    image, mask = (folder / f"{modality}_{n}.nii.gz" for n in ("image", "mask"))
    found = everything(image, mask, unit, own, ALL[4:])
    return rows.assign(value=[found.get(key(row), np.nan) for row in rows.itertuples()])


def right(rows):
    return np.isclose(rows.value, rows.consensus_value, rtol=0.01, atol=1e-9)


@pytest.mark.parametrize("modality", CONSENSUS)
def test_consensus_of_the_smallest_patient(shared, modality):
    rows = patient(shared, "STS_008", modality)
    assert right(rows).mean() > 0.99, rows[~right(rows)]


@pytest.mark.slow
def test_consensus_of_all_patients(shared):
    cases = sorted(p.name for p in (shared / "data/sts_petct").glob("STS_*"))
    rows = pd.concat(patient(shared, c, m) for c, m in product(cases, CONSENSUS))
    print(rows[~right(rows)].to_string())
    assert len(cases) == 17
    assert len(rows) == 5760  # of 6582; features and diagnostics of the chain
    features = ~rows.feature.str.startswith("diagnostic")
    assert right(rows[features]).mean() > 0.99
    assert right(rows[~features]).mean() > 0.99
