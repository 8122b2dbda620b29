"""Which block owns which instance, and how wide a halo it needs to know."""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging.image import Box

EDGE_PX = 8
"""Pixels beside a cut edge that decoding may get wrong: reach of a decoder's dilations."""

GROWTHS = (1, 2, 4)
"""Halos tried for a block, in units of the network's object size."""

MIN_PART_PX = 128
"""Side of the core of a part, below which a block is not cut: the halo takes nearly all by then."""


@dataclass(frozen=True)
class Instances:
    """The instances of a decoded region that its block owns.

    Attributes
    ----------
    ids : (N,) ndarray of int
        Ids in the region's label image, ascending.
    cut : (N,) ndarray of bool
        Whether the instance comes close to an edge of the region inside the image.
    box : Box
        Smallest box around all of them, relative to the region; empty if there is none.
    """

    ids: npt.NDArray[np.int64]
    cut: npt.NDArray[np.bool_]
    box: Box


def cut_evenly(side: int, block_px: int) -> list[tuple[int, int]]:
    """Cut a side into the fewest pieces of at most `block_px`, about equally long.

    Raises
    ------
    ValueError
        If `block_px` is not positive.
    """
    if block_px < 1:
        raise ValueError(f"block_px must be at least 1, got {block_px}")
    n_blocks = -(-side // block_px)
    ends = [side * index // n_blocks for index in range(n_blocks + 1)]
    return list(itertools.pairwise(ends))


def grow_box(box: Box, halo_px: int, shape: tuple[int, int]) -> Box:
    """Add a halo to a box, within the image."""
    y0, x0, y1, x1 = box
    return (
        max(0, y0 - halo_px),
        max(0, x0 - halo_px),
        min(shape[0], y1 + halo_px),
        min(shape[1], x1 + halo_px),
    )


def find_owned(
    labels: npt.NDArray[np.int32], region: Box, core: Box, shape: tuple[int, int]
) -> Instances:
    """Find the instances of a region whose canonical point lies in the block's core.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Decoded region, 0 is background.
    region : Box
        Where `labels` lies in the image.
    core : Box
        The block's part of the image; the cores of all blocks partition it.
    shape : (Y, X) tuple of int
        Image size.

    Returns
    -------
    Instances

    Notes
    -----
    The canonical point is the centre of the bounding box in whole pixels: blocks that see the whole
    instance agree on it. Where an instance is cut, the centre of what is left lies in the core
    whenever its true centre does, so an owner that sees only a part always knows from ``cut``.
    """
    y0, x0, y1, x1 = region
    inner_top, inner_left = (EDGE_PX if y0 > 0 else 0), (EDGE_PX if x0 > 0 else 0)
    inner_bottom = y1 - y0 - (EDGE_PX if y1 < shape[0] else 0)
    inner_right = x1 - x0 - (EDGE_PX if x1 < shape[1] else 0)
    ids, boxes = bounding_boxes(labels)
    top, left, bottom, right = boxes.T
    y, x = y0 + (top + bottom) // 2, x0 + (left + right) // 2
    owned = (core[0] <= y) & (y < core[2]) & (core[1] <= x) & (x < core[3])
    cut = (top < inner_top) | (left < inner_left) | (bottom > inner_bottom) | (right > inner_right)
    return Instances(ids[owned], cut[owned], enclose_boxes(boxes[owned]))


def bounding_boxes(
    labels: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find the box around every instance.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        0 is background; ids may have gaps.

    Returns
    -------
    ids : (N,) ndarray of int64
        Ascending.
    boxes : (N, 4) ndarray of int64
        ``(y0, x0, y1, x1)`` of each, half-open.

    Notes
    -----
    Only the ends of the runs of equal pixels along rows are looked at. SciPy's ``find_objects``
    takes twice as long, and its import as long as all else that prediction imports.
    """
    height, width = labels.shape
    changes = labels[:, 1:] != labels[:, :-1]
    border = np.ones((height, 1), np.bool_)
    is_cell = labels > 0
    starts = np.flatnonzero(np.hstack([border, changes]) & is_cell)
    ends = np.flatnonzero(np.hstack([changes, border]) & is_cell)  # one for each start, in order
    of_run = labels.ravel()[starts]
    row = starts // max(width, 1)
    n_ids = int(of_run.max(initial=0)) + 1
    boxes = np.tile(np.array([height, width, 0, 0]), (n_ids, 1))
    np.minimum.at(boxes[:, 0], of_run, row)
    np.minimum.at(boxes[:, 1], of_run, starts - row * width)
    np.maximum.at(boxes[:, 2], of_run, row + 1)
    np.maximum.at(boxes[:, 3], of_run, ends - row * width + 1)
    ids = np.flatnonzero(boxes[:, 2])
    return ids, boxes[ids]


def enclose_boxes(boxes: npt.NDArray[np.int64]) -> Box:
    """Return the smallest box around all boxes (N, 4); an empty one around none."""
    if not len(boxes):
        return 0, 0, 0, 0
    (top, left), (bottom, right) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
    return top, left, bottom, right
