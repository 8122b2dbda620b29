"""From labels to flows: Cellpose's training target, which also judges decoded instances.

The representation is that of Stringer et al., *Cellpose*, Nature Methods 2021: every pixel of
a cell holds the unit vector of the gradient of heat that diffuses from the cell's centre.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.arrays import Array, Arrays, arrays_for
from models.packing import Atlas, Runs, find_runs, pack_cells

LabelArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]


def find_centres(labels: LabelArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find, for every instance, its pixel nearest to its centroid.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Label image with ids 1..N without gaps.

    Returns
    -------
    y, x : (N,) ndarrays of int64
        Pixel coordinates, in the order of the ids; empty for an empty label image. Of pixels
        equally near, the first in raster order.
    """
    arrays = arrays_for(labels)
    y, x = _centres(arrays, find_runs(arrays, labels))
    return y[1:], x[1:]


def _centres(arrays: Arrays, runs: Runs) -> tuple[Array, Array]:
    """Find the pixel nearest to the centroid of each id 0..n - 1, from runs alone."""
    ids, n = runs.ids, runs.n_ids
    length = arrays.cast(runs.length, "float64")
    area = arrays.bincount(ids, n, length)
    area = arrays.where(area > 0, area, 1.0)
    centre_y = (arrays.bincount(ids, n, length * runs.y) / area)[ids]
    # a run's columns add up to its length times their mean
    middle = runs.x + (length - 1.0) / 2.0
    centre_x = (arrays.bincount(ids, n, length * middle) / area)[ids]
    last = runs.x + runs.length - 1
    # of a run only the column nearest to the centroid can be nearest of all
    below = arrays.cast(centre_x + 0.5, "int64")
    nearest = below - arrays.cast(below - centre_x >= 0.5, "int64")  # a tie goes left
    nearest = arrays.where(nearest < runs.x, runs.x, nearest)
    nearest = arrays.where(nearest > last, last, nearest)
    distance = (runs.y - centre_y) ** 2 + (nearest - centre_x) ** 2
    best = distance == arrays.lowest(ids, distance, n)[ids]
    width = runs.shape[1]
    pixel = arrays.lowest(ids[best], (runs.y * width + nearest)[best], n)
    return pixel // width, pixel % width


def heat_flows(arrays: Arrays, labels: Array, *, cold: bool) -> Iterator[tuple[Atlas, Array]]:
    """Compute the flows of all instances, each for itself.

    Parameters
    ----------
    arrays : Arrays
    labels : (Y, X) array of int
        0 is background.
    cold : bool
        Whether, at a cell's outline, the gradient counts the outside as without heat; if not,
        only the cell's own pixels count.

    Yields
    ------
    atlas : Atlas
        Where the instances lie.
    flow : (2, H, W) array of float32
        Over the atlas: unit vectors (y, x) towards the centre.

    Notes
    -----
    Heat is added at the centre of each cell in every step and averaged over the 3 x 3
    neighbours of the same cell, for twice as many steps as the cell is high and wide together;
    the flow is the direction of the gradient of log(1 + heat).
    """
    runs = find_runs(arrays, labels)
    y, x = _centres(arrays, runs)
    for atlas in pack_cells(arrays, runs, arrays.arange(runs.n_ids) > 0):
        width = atlas.mask.shape[1]
        top, left = atlas.origin // atlas.image_width, atlas.origin % atlas.image_width
        source = atlas.corner + (y[atlas.cells] - top) * width + x[atlas.cells] - left
        yield atlas, arrays.heat_flow(atlas, source, 2 * atlas.extent, cold=cold)


def encode_flows(labels: LabelArray) -> FloatArray:
    """Compute the flow target of a label image.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Label image, 0 = background.

    Returns
    -------
    (2, Y, X) ndarray of float32
        Unit vectors (y, x) towards the centre inside cells, 0 outside; see
        :func:`heat_flows`.
    """
    arrays = arrays_for(labels)
    target: FloatArray = np.zeros((2, labels.size), np.float32)
    for atlas, flow in heat_flows(arrays, labels, cold=False):
        target[:, atlas.pixels] = flow.reshape(2, -1)[:, atlas.places]
    return target.reshape(2, *labels.shape)


def flow_errors(labels: Array, flow_yx: Array) -> Array:
    """Compare each instance's own flow with the predicted flow.

    Parameters
    ----------
    labels : (Y, X) ndarray or tensor of int32
        0 is background.
    flow_yx : (2, Y, X) ndarray or tensor of float32
        Predicted flow, unit vectors where the network is sure.

    Returns
    -------
    (N + 1,) ndarray or tensor of float64
        Mean squared difference over the pixels of each id up to the highest; 0 for the
        background and for ids that are not there.

    Notes
    -----
    Cellpose's check: at outlines the outside counts as without heat, other than in the target
    (:func:`encode_flows`). With the target's rule about one cell in a hundred that Cellpose
    drops would stay.
    """
    arrays = arrays_for(labels)
    n = 1 + int(labels.max()) if len(labels) else 1
    error = arrays.cast(arrays.bincount(labels[:0].reshape(-1), n), "float64")
    for atlas, flow in heat_flows(arrays, labels, cold=True):
        squared = 0.0
        for own, predicted in zip(flow, flow_yx, strict=True):
            difference = own.reshape(-1)[atlas.places] - predicted.reshape(-1)[atlas.pixels]
            squared = squared + difference * difference
        total = arrays.bincount(atlas.ids, n, squared)
        area = arrays.bincount(atlas.ids, n)
        error += total / arrays.where(area > 0, area, 1)
    return error
