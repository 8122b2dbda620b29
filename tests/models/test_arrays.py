"""Both sets of array operations do what SciPy's plain functions do, and the same."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from models.arrays import GRID, arrays_for

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


def draw_points(shape, n_points, seed=0):
    """Draw points (2, N) inside an image, at whole GRID-ths of a pixel."""
    points = np.random.default_rng(seed).uniform(size=(2, n_points))
    points *= np.array(shape)[:, None] - 1
    return (np.rint(GRID * points) / GRID).astype(np.float32)


@KINDS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_points", [0, 1, 1500, 70_000])
def test_points_walk_by_interpolated_steps(kind, shape, n_points):
    steps = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    points = draw_points(shape, n_points)
    moved = np.asarray(arrays_for(kind(steps)).walk(kind(steps), kind(points)))
    expected = [ndimage.map_coordinates(axis, points, order=1) for axis in steps]
    step = np.reshape(expected, points.shape)
    np.testing.assert_allclose(moved - points, step, atol=0.5 / GRID + 1e-5)
    np.testing.assert_array_equal(moved, np.rint(GRID * moved) / GRID)


@KINDS
def test_a_walk_does_not_depend_on_where_its_surroundings_lie(kind):
    steps, points = np.random.default_rng(1).normal(size=(2, 40, 50)), draw_points((40, 50), 3000)
    far = np.array([[1900], [3001]], np.float32)
    wide = np.zeros((2, 1950, 3100), np.float32)
    wide[:, 1900:1940, 3001:3051] = steps
    steps = kind(steps.astype(np.float32))
    moved = np.asarray(arrays_for(steps).walk(steps, kind(points)))
    there = np.asarray(arrays_for(steps).walk(kind(wide), kind(points + far)))
    np.testing.assert_array_equal(there - far, moved)


@KINDS
def test_a_step_ends_inside_the_image(kind):
    steps = kind(np.full((2, 3, 4), [[[1.5]], [[-0.5]]], np.float32))
    y, x = np.asarray(arrays_for(steps).keep_inside(steps))
    np.testing.assert_array_equal(y, np.repeat([[1.5], [1.0], [0.0]], 4, 1))
    np.testing.assert_array_equal(x, np.repeat([[0.0, -0.5, -0.5, -0.5]], 3, 0))


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
