"""Both sets of array operations do what SciPy's plain functions do, and the same."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from models.arrays import arrays_for

SHAPES = [(1, 1), (1, 9), (9, 1), (37, 52)]


def as_array(values):
    return np.asarray(values)


KINDS = pytest.mark.parametrize("kind", [as_array, torch.from_numpy], ids=["numpy", "torch"])


def draw_blobs(shape, seed=0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5) > 0


def draw_spiral(side=41):
    """Draw one long region that winds inwards, and so one background region that does."""
    mask = np.zeros((side, side), bool)
    y = x = 0
    dy, dx = 0, 1
    mask[y, x] = True
    turns = 0
    while turns < 2:
        y2, x2 = y + 2 * dy, x + 2 * dx
        ahead = 0 <= y2 < side and 0 <= x2 < side and not mask[y2, x2]
        if 0 <= y + dy < side and 0 <= x + dx < side and (ahead or not 0 <= y2 < side):
            y, x, turns = y + dy, x + dx, 0
            mask[y, x] = True
        else:
            dy, dx = dx, -dy
            turns += 1
    return mask


@KINDS
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("mask", [*(draw_blobs(shape) for shape in SHAPES), draw_spiral()])
def test_components_are_scipys(kind, connectivity, mask):
    structure = np.ones((3, 3)) if connectivity == 8 else None
    expected, n_expected = ndimage.label(mask, structure)
    values = kind(mask)
    labels, n = arrays_for(values).components(values, connectivity)
    pairs = np.unique(np.stack([expected.ravel(), np.asarray(labels).ravel()]), axis=1)
    assert n == n_expected == np.asarray(labels).max()
    assert pairs.shape[1] == len(np.unique(expected))  # one to one
    np.testing.assert_array_equal(np.asarray(labels) > 0, mask)


@KINDS
@pytest.mark.parametrize("seed", [0, 1])
def test_depth_is_the_distance_to_the_outside(kind, seed):
    mask = draw_blobs((60, 45), seed)
    values = kind(mask)
    depth = np.asarray(arrays_for(values).depth(values))
    np.testing.assert_allclose(depth, ndimage.distance_transform_edt(mask), atol=1e-5)


@KINDS
@pytest.mark.parametrize("shape", SHAPES)
def test_smoothing_is_scipys_gaussian(kind, shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = kind(image)
    smooth = np.asarray(arrays_for(values).smooth(values))
    np.testing.assert_allclose(smooth, ndimage.gaussian_filter(image, 1.0), atol=1e-5)


@KINDS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [3, 5])
def test_dilation_is_a_maximum_filter(kind, shape, side):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = kind(image)
    found = np.asarray(arrays_for(values).dilate(values, side))
    np.testing.assert_array_equal(found, ndimage.maximum_filter(image, side, mode="nearest"))


@KINDS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_points", [0, 1, 1500])
def test_sampling_interpolates_bilinearly(kind, shape, n_points):
    rng = np.random.default_rng(0)
    field = rng.normal(size=(2, *shape)).astype(np.float32)
    points = rng.uniform(size=(2, n_points)) * (np.array(shape)[:, None] - 1)
    points = points.astype(np.float32)
    found = np.asarray(arrays_for(kind(field)).sample(kind(field), kind(points)))
    expected = [ndimage.map_coordinates(axis, points, order=1) for axis in field]
    np.testing.assert_allclose(found, np.reshape(expected, points.shape), atol=1e-4)


@KINDS
def test_a_step_ends_inside_the_image(kind):
    steps = kind(np.full((2, 3, 4), [[[1.5]], [[-0.5]]], np.float32))
    y, x = np.asarray(arrays_for(steps).positions(steps))
    np.testing.assert_array_equal(y, np.repeat([[1.5], [2.0], [2.0]], 4, 1))
    np.testing.assert_array_equal(x, np.repeat([[0.0, 0.5, 1.5, 2.5]], 3, 0))


@KINDS
def test_extremes_of_ids(kind):
    ids, values = np.array([3, 1, 3, 1, 1]), np.array([5, 2, -4, 2, 9])
    arrays = arrays_for(kind(values))
    lowest, highest = (f(kind(ids), kind(values), 5) for f in (arrays.lowest, arrays.highest))
    assert [int(lowest[i]) for i in (1, 3)] == [2, -4]
    assert [int(highest[i]) for i in (1, 3)] == [9, 5]
    assert int(highest[0]) < -(2**40) < 2**40 < int(lowest[4])


PROGRAM = """
import sys
import numpy as np
from models.cdnet_decoding import decode_cdnet
from models.flows import decode_flows
from models.mask_classes import decode_mask

rng = np.random.default_rng(0)
decode_flows(rng.normal(size=(3, 64, 64)).astype(np.float32))
decode_mask(rng.normal(size=(3, 64, 64)).astype(np.float32), split=True)
decode_cdnet(rng.normal(size=(13, 64, 64)).astype(np.float32))
print(*(name for name in ("torch", "scipy", "skimage", "numba") if name in sys.modules))
"""


def test_decoding_arrays_imports_neither_torch_nor_scipy():
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == []
