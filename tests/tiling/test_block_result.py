import numpy as np
import pytest
from scipy import ndimage

from tests.fakes import scatter_discs
from tiling.block_result import beside_outlines, pack_result
from tiling.blocks import find_owned
from tiling.raster import LabelRaster
from tiling.sampling import build_geometry


def decoded(shape, seed):
    """Make labels with many outlines and a foreground that knows nothing of them."""
    rng = np.random.default_rng(seed)
    labels = ndimage.label(ndimage.gaussian_filter(rng.random(shape), 1.5) > 0.5)[0]
    return labels.astype(np.int32), rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("scale", [0.3, 0.7, 1.0, 1.6])
@pytest.mark.parametrize("seed", range(4))
def test_a_packed_block_writes_the_pixels_of_its_whole_region(scale, seed):
    native = (300, 370)
    geometry = build_geometry(native, scale)
    height, width = geometry.network
    region = (height // 5, width // 6, height, width - 3)
    core = (height // 3, width // 3, 2 * height // 3, 2 * width // 3)
    labels, foreground = decoded((region[2] - region[0], region[3] - region[1]), seed)
    owned = find_owned(labels, region, core, geometry.network)
    assert len(owned.ids) > 0
    whole, packed = (np.zeros(native, np.int32) for _ in range(2))
    LabelRaster(whole, geometry).add(labels, foreground, region, owned)
    result = pack_result(labels, foreground if geometry.shrinks else None, region, owned)
    LabelRaster(packed, geometry).add(
        result.labels, result.foreground(), result.region, result.owned
    )
    assert whole.any()
    np.testing.assert_array_equal(whole, packed)


def test_what_lies_far_from_outlines_is_not_kept():
    labels = (scatter_discs((200, 200), spacing=100, radius=40) > 0).astype(np.int32)
    region = (0, 0, 200, 200)
    owned = find_owned(labels, region, region, (200, 200))
    result = pack_result(labels, np.ones((200, 200), np.float32), region, owned, (9, 2))
    assert 0 < result.outline.size < 0.1 * labels.size
    assert result.labels.size < labels.size
    assert (result.n_windows, result.n_empty) == (9, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (12, 15)])
def test_pixels_beside_an_outline_are_those_of_a_mixed_square(shape):
    labels = (np.random.default_rng(1).random(shape) < 0.4).astype(np.int32)
    expected = np.zeros(shape, bool)
    for y in range(max(1, shape[0] - 1)):
        for x in range(max(1, shape[1] - 1)):
            square = labels[y : y + 2, x : x + 2]
            expected[y : y + 2, x : x + 2] |= 0 < square.sum() < square.size
    np.testing.assert_array_equal(beside_outlines(labels), expected)


def test_a_block_that_owns_nothing_is_next_to_nothing():
    labels = np.zeros((50, 60), np.int32)
    owned = find_owned(labels, (0, 0, 50, 60), (0, 0, 50, 60), (50, 60))
    result = pack_result(labels, np.ones((50, 60), np.float32), (0, 0, 50, 60), owned)
    assert result.labels.size == result.outline.size == result.n_cut == 0
