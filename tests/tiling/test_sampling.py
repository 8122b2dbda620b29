import itertools

import numpy as np
import pytest

from tests.fakes import UNCHANGED, array_image
from tiling import sampling
from tiling.sampling import ScaledImage, build_geometry


def scaled(pixels, scale):
    return ScaledImage(array_image(pixels), UNCHANGED, build_geometry(pixels.shape[:2], scale))


def random_pixels(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize("scale", [0.09, 1 / 3, 0.5, 0.77, 1.0, 1.6])
@pytest.mark.parametrize("shape", [(1, 1), (97, 61), (40, 3)])
def test_a_region_is_the_same_whatever_it_is_read_with(shape, scale, monkeypatch):
    image = scaled(random_pixels(shape), scale)
    height, width = image.geometry.network
    whole = image.read((0, 0, height, width))
    assert whole.shape == (height, width, 3)
    assert whole.dtype == np.float32
    monkeypatch.setattr(sampling, "STRIP_PX", 200)
    box = (height // 3, width // 4, max(height // 3 + 1, height // 2), width)
    np.testing.assert_array_equal(image.read(box), whole[box[0] : box[2], box[1] : box[3]])


def test_scale_1_leaves_the_pixels_untouched():
    pixels = random_pixels((33, 20, 3))
    np.testing.assert_array_equal(scaled(pixels, 1).read((3, 4, 30, 20)), pixels[3:30, 4:20])


def test_whole_factors_are_box_means():
    pixels = random_pixels((12, 9, 3))
    means = pixels.reshape(4, 3, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(scaled(pixels, 1 / 3).read((0, 0, 4, 3)), means, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.13, 0.4, 0.9, 1.7])
def test_a_ramp_stays_where_it_is(scale):
    height, width = 200, 160
    ramp = np.add.outer(np.arange(height) / height, np.zeros(width)).astype(np.float32)
    image = scaled(ramp, scale)
    n_rows, n_columns = image.geometry.network
    read = image.read((0, 0, n_rows, n_columns))[..., 0]
    wanted = (np.arange(n_rows) + 0.5) / n_rows - 0.5 / height
    inner = slice(n_rows // 8, -n_rows // 8)  # the outermost means are repeated beyond the edge
    np.testing.assert_allclose(read[inner, 0], wanted[inner], atol=1e-5)


@pytest.mark.parametrize("scale", [0.09, 1 / 3, 0.77, 1.0, 1.6])
def test_boxes_that_partition_network_pixels_partition_native_pixels(scale):
    geometry = build_geometry((101, 47), scale)
    height, width = geometry.network
    rows = sorted({0, height // 3, height // 2, height})
    hits = np.zeros((101, 47), int)
    for top, bottom in itertools.pairwise(rows):
        y0, x0, y1, x1 = geometry.native_box((top, 0, bottom, width))
        hits[y0:y1, x0:x1] += 1
        coordinates = geometry.network_coordinates(y0, y1, axis=0)
        assert ((coordinates >= top - 0.5) & (coordinates < bottom - 0.5)).all()
    assert (hits == 1).all()
    centres = geometry.native_centres(0, height, axis=0)
    assert ((centres >= 0) & (centres < 101)).all()


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be a positive number"):
        build_geometry((10, 10), scale)
