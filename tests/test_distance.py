"""Distance of voxels to the tumor surface."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from habitat.kernels.distance import surface_distance
from tests import naive_distance as naive


def run(function, mask, spacing):
    out = np.empty(mask.shape)
    function(mask, np.asarray(spacing, dtype=float), out)
    return out


@given(
    arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)),
    st.tuples(*[st.floats(0.5, 5)] * 3),
)
def test_equals_its_naive_twin(mask, spacing):
    fast, slow = (
        run(f, mask, spacing) for f in (surface_distance, naive.surface_distance)
    )
    np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


def test_equals_scipy_on_a_doubled_lattice():
    # The point of a voxel's box nearest to a voxel center is on the half-voxel lattice
    rng = np.random.default_rng(1)
    mask = ndimage.gaussian_filter(rng.normal(size=(12, 14, 16)), 2) > 0
    mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
    fine = np.ones([2 * n - 1 for n in mask.shape], dtype=bool)
    for z, y, x in np.argwhere(~mask):
        box = (slice(max(2 * i - 1, 0), 2 * i + 2) for i in (z, y, x))
        fine[tuple(box)] = False
    spacing = np.array([3.27, 4.7, 2.0])
    oracle = ndimage.distance_transform_edt(fine, sampling=spacing / 2)[::2, ::2, ::2]
    np.testing.assert_allclose(run(surface_distance, mask, spacing), oracle, atol=1e-9)


def test_outermost_layer_is_half_a_voxel_deep():
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[2:7, 2:7, 2:7] = True
    depth = run(surface_distance, mask, (3.0, 4.0, 4.0))
    assert depth[2, 4, 4] == pytest.approx(1.5)
    assert depth[4, 4, 2] == pytest.approx(2.0)
    assert depth[4, 4, 4] == pytest.approx(7.5)
    assert (depth[~mask] == 0).all()
