"""Maps of regions that are no solid tumor: a ring, one slice, one voxel."""

import numpy as np
import pytest
from scipy import ndimage

import habitat
from habitat import Image
from habitat.errors import InputError
from habitat.maps._texture import FEATURES


@pytest.fixture(scope="module")
def case():
    return habitat.phantom("ct_phases", radius_mm=14, margin_mm=20)


def ring(case, mm=5.0):
    """The 5 mm around a tumor."""
    spacing = case.mask.geometry.spacing
    away = ndimage.distance_transform_edt(~case.mask.array, spacing)
    return Image((away > 0) & (away <= mm), case.mask.geometry)


def one_slice(case):
    mask = np.zeros_like(case.mask.array)
    middle = mask.shape[0] // 2
    mask[middle] = case.mask.array[middle]
    return Image(mask, case.mask.geometry)


@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
@pytest.mark.parametrize("region", [ring, one_slice])
def test_maps_of_a_region_segment(case, region):
    mask = region(case)
    maps = {
        **habitat.enhancement_maps(case.phases, mask, register="none"),
        **habitat.texture_maps(case.phases["venous"], mask, features=tuple(FEATURES)),
    }
    assert len(maps) == 5 + 92
    for name, image in maps.items():
        tumor = habitat.resample(mask, image).array
        lacking = np.isnan(image.array[tumor]).mean()
        assert lacking < 0.02, name
    kept = habitat.maps.prune_maps(maps, mask)
    result = habitat.segment_channels(kept, mask, k=2)
    volume = (result.labels > 0).sum() * result.geometry.voxel_ml
    assert volume == pytest.approx(mask.array.sum() * mask.geometry.voxel_ml, rel=0.05)


def test_maps_of_constant_images_are_constant_and_not_clustered(case):
    flat = case.phases["venous"].replace(np.full(case.mask.array.shape, 40))
    maps = habitat.texture_maps(flat, case.mask, features=tuple(FEATURES))
    inside = habitat.resample(case.mask, next(iter(maps.values()))).array
    for name in ("firstorder_Entropy", "glcm_Contrast", "ngtdm_Busyness"):
        assert (maps[f"HU_{name}"].array[inside] == 0).all()
    with pytest.raises(InputError, match="1 distinct value"):
        habitat.segment_channels({"a": maps["HU_firstorder_Mean"]}, case.mask, k=2)
    with pytest.raises(InputError, match="no map is left"):
        habitat.maps.prune_maps({"a": maps["HU_firstorder_Mean"]}, case.mask)
