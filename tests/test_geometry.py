"""Geometry and Image: one frame (LPS mm), one axis order (z, y, x)."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import habitat
from habitat import Geometry, Image
from habitat.errors import GeometryError, InputError
from habitat.geometry import bounding_box


def oblique(shape=(5, 6, 7), spacing=(3.0, 2.0, 1.5), angles=(10, 20, 30)):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = (turn @ np.eye(3)[:, ::-1]) * spacing
    affine[:3, 3] = (-100, 50, 7)
    return Geometry(shape, affine)


def test_agrees_with_simpleitk_on_an_oblique_grid():
    from habitat.io._files import from_simpleitk, to_simpleitk

    grid = oblique()
    image = to_simpleitk(Image(np.zeros(grid.shape, np.float32), grid))
    for z, y, x in [(0, 0, 0), (4, 5, 6), (1, 3, 2)]:
        world = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(grid.world((z, y, x)), world, atol=1e-9)
        np.testing.assert_allclose(grid.index(world), (z, y, x), atol=1e-9)
    back = from_simpleitk(image).geometry
    np.testing.assert_allclose(back.affine, grid.affine, atol=1e-12)


def test_crop_keeps_every_voxel_where_it_is():
    grid = oblique()
    part = grid.crop((slice(1, 4), slice(2, 6), slice(0, 3)))
    np.testing.assert_allclose(part.world((0, 0, 0)), grid.world((1, 2, 0)))
    assert part.shape == (3, 4, 3)


@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
)
def test_resampled_grid_is_centered_on_the_old_one(shape, old, new):
    # IBSI manual: n_b = ceil(n_a s_a / s_b), centers of both grids coincide
    grid = oblique(shape, old)
    other = grid.resampled(new)
    middle = [grid.world((np.array(g.shape) - 1) / 2) for g in (grid,)]
    middle.append(other.world((np.array(other.shape) - 1) / 2))
    np.testing.assert_allclose(middle[0], middle[1], atol=1e-6)
    extent = np.array(other.shape) * other.spacing - np.array(shape) * old
    assert (extent > -1e-4).all()
    assert (extent < np.array(new) + 1e-4).all()


def test_resampled_equals_the_ibsi_formula():
    grid = Geometry.from_spacing((10, 10, 10), (3.0, 2.0, 2.0), (5.0, 6.0, 7.0))
    new = grid.resampled((1.0, 1.5, 2.0))
    assert new.shape == (30, 14, 10)
    # x_b = x_a + (s_a (n_a - 1) - s_b (n_b - 1)) / 2, here along z and y
    assert new.affine[2, 3] == pytest.approx(7 + (3 * 9 - 1 * 29) / 2)
    assert new.affine[1, 3] == pytest.approx(6 + (2 * 9 - 1.5 * 13) / 2)


def test_same_grid_up_to_a_thousandth_of_a_millimeter():
    a = Geometry.from_spacing((4, 4, 4), (1, 1, 1))
    assert a.same_as(Geometry.from_spacing((4, 4, 4), (1, 1, 1), (0, 0, 9e-4)))
    assert not a.same_as(Geometry.from_spacing((4, 4, 4), (1, 1, 1), (0, 0, 2e-3)))
    assert not a.same_as(Geometry.from_spacing((4, 4, 5), (1, 1, 1)))


def test_letters_name_the_ends_of_each_axis():
    grid = Geometry.from_spacing((2, 2, 2), (1, 1, 1))
    assert grid.letters == (("I", "S"), ("A", "P"), ("R", "L"))
    flipped = np.diag([1.0, -1, -1, 1]) @ grid.affine
    assert Geometry((2, 2, 2), flipped).letters == (("S", "I"), ("P", "A"), ("R", "L"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_affine_must_be_finite(bad):
    affine = np.eye(4)
    affine[0, 3] = bad
    with pytest.raises(GeometryError, match="NaN or infinite"):
        Geometry((2, 2, 2), affine)


def test_sheared_axes_are_refused():
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(GeometryError, match="sheared"):
        Geometry((2, 2, 2), affine)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, np.nan), (1, 1)])
def test_spacing_must_be_three_positive_numbers(spacing):
    with pytest.raises(GeometryError, match="three positive numbers"):
        Geometry.from_spacing((2, 2, 2), spacing)


def test_box_around_another_grid():
    grid = Geometry.from_spacing((20, 20, 20), (2, 2, 2))
    box = (slice(5, 8), slice(3, 9), slice(10, 11))
    assert grid.box_around(grid.crop(box)) == box
    wide = grid.box_around(grid.crop(box), margin_mm=4)
    assert wide == (slice(3, 10), slice(1, 11), slice(8, 13))
    far = Geometry.from_spacing((2, 2, 2), (1, 1, 1), (500, 0, 0))
    assert grid.box_around(far) is None


def test_bounding_box():
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 7))


def test_image_takes_exactly_one_grid():
    array = np.zeros((2, 3, 4))
    with pytest.raises(GeometryError, match="exactly one"):
        Image(array)
    with pytest.raises(GeometryError, match="exactly one"):
        Image(array, Geometry.from_spacing((2, 3, 4), (1, 1, 1)), spacing=(1, 1, 1))
    with pytest.raises(GeometryError, match=r"\(2, 3, 4\).*\(2, 3, 5\)"):
        Image(array, Geometry.from_spacing((2, 3, 5), (1, 1, 1)))


def test_image_must_be_three_real_axes():
    with pytest.raises(InputError, match="three axes.*array\\[None\\]"):
        Image(np.zeros((3, 4)), spacing=(1, 1, 1))
    with pytest.raises(InputError, match="real numbers"):
        Image(np.zeros((1, 3, 4), complex), spacing=(1, 1, 1))


def test_image_is_read_only_also_after_pickling_and_leaves_the_array_alone():
    array = np.zeros((2, 3, 4))
    image = Image(array, spacing=(1, 1, 1))
    for one in (image, pickle.loads(pickle.dumps(image))):
        with pytest.raises(ValueError, match="read-only"):
            one.array[0, 0, 0] = 1
    array[0, 0, 0] = 1


def test_public_names_are_all_there():
    for name in habitat.__all__:
        assert getattr(habitat, name) is not None
