"""Cut an image into blocks that fit in memory, and settle which block owns which instance."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from imaging.image import Box

EDGE_PX = 8
"""Pixels beside a cut edge that decoding may get wrong: reach of a decoder's dilations."""

GROWTHS = (1, 2, 4)
"""Halos tried for a block, in units of the network's object size."""


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


def split_blocks(shape: tuple[int, int], block_px: int) -> Iterator[Box]:
    """Partition an image into block cores of about equal size, in raster order.

    Parameters
    ----------
    shape : (Y, X) tuple of int
        Image size in pixels.
    block_px : int
        Largest side of a core, in pixels.

    Yields
    ------
    Box

    Raises
    ------
    ValueError
        If `block_px` is not positive.
    """
    if block_px < 1:
        raise ValueError(f"block_px must be at least 1, got {block_px}")
    rows, columns = (_cut_evenly(side, block_px) for side in shape)
    for y0, y1 in rows:
        for x0, x1 in columns:
            yield y0, x0, y1, x1


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
    ids, cut, boxes = [], [], []
    for index, slices in enumerate(ndimage.find_objects(labels), start=1):
        if slices is None:
            continue
        top, bottom, left, right = (
            slices[0].start,
            slices[0].stop,
            slices[1].start,
            slices[1].stop,
        )
        y, x = y0 + (top + bottom) // 2, x0 + (left + right) // 2
        if core[0] <= y < core[2] and core[1] <= x < core[3]:
            ids.append(index)
            boxes.append((top, left, bottom, right))
            cut.append(
                top < inner_top or left < inner_left or bottom > inner_bottom or right > inner_right
            )
    return Instances(np.array(ids, np.int64), np.array(cut, np.bool_), _enclose(boxes))


def _enclose(boxes: list[Box]) -> Box:
    """Return the smallest box around all boxes."""
    if not boxes:
        return 0, 0, 0, 0
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return min(tops), min(lefts), max(bottoms), max(rights)


def _cut_evenly(side: int, block_px: int) -> list[tuple[int, int]]:
    """Cut a side into the fewest pieces of at most `block_px`, about equally long."""
    n_blocks = -(-side // block_px)
    ends = [side * index // n_blocks for index in range(n_blocks + 1)]
    return list(itertools.pairwise(ends))
