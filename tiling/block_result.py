"""What one block adds to the label image: small, and all that settling it needs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging.image import Box
from tiling.blocks import Instances, grow_box
from tiling.sampling import Float32

MARGIN_PX = 2
"""Network pixels kept around the owned instances: outlines are interpolated one pixel beyond them,
between that pixel and the next."""


@dataclass(frozen=True)
class BlockResult:
    """The instances that a block owns, cut out of its decoded region.

    Attributes
    ----------
    region : Box
        Where `labels` lies, in network pixels: the owned instances and `MARGIN_PX` around them.
    labels : (Y, X) ndarray of int32
        The block's own ids, 0 is background. Instances that it does not own are here too, since
        the outlines of their neighbours depend on them.
    outline : (M,) ndarray of float32
        The network's foreground at the pixels beside an outline (`beside_outlines`), in raster
        order; empty if outlines are not refined at this scale.
    owned : Instances
        What the block owns; its box is relative to `region`.
    n_windows, n_empty : int
        Windows that begin in the block's core, and those of them that show only empty ground.
    """

    region: Box
    labels: npt.NDArray[np.int32]
    outline: Float32
    owned: Instances
    n_windows: int = 0
    n_empty: int = 0

    @property
    def n_cut(self) -> int:
        """Owned instances that even the widest halo cuts."""
        return int(np.count_nonzero(self.owned.cut))

    def foreground(self) -> Float32:
        """Rebuild the foreground as far as outlines depend on it: (Y, X), positive."""
        values = np.ones(self.labels.shape, np.float32)
        if self.outline.size:
            values[beside_outlines(self.labels)] = self.outline
        return values


def pack_result(
    labels: npt.NDArray[np.int32],
    foreground: Float32 | None,
    region: Box,
    owned: Instances,
    counts: tuple[int, int] = (0, 0),
) -> BlockResult:
    """Cut out of a decoded region what is needed of it.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        The decoded region.
    foreground : (Y, X) ndarray of float32 or None
        The network's foreground; None if outlines are not refined at this scale.
    region : Box
        Where both lie, in network pixels.
    owned : Instances
        What the block owns of it.
    counts : (int, int)
        `n_windows` and `n_empty` of the result.

    Returns
    -------
    BlockResult
        Writing it gives the same pixels as writing the whole region.
    """
    if not len(owned.ids):
        y0, x0 = region[:2]
        nothing = np.zeros((0, 0), np.int32), np.zeros(0, np.float32)
        return BlockResult((y0, x0, y0, x0), *nothing, owned, *counts)
    y0, x0, y1, x1 = kept = grow_box(owned.box, MARGIN_PX, (labels.shape[0], labels.shape[1]))
    part = np.ascontiguousarray(labels[y0:y1, x0:x1])
    outline = np.zeros(0, np.float32)
    if foreground is not None:
        outline = foreground[y0:y1, x0:x1][beside_outlines(part)].astype(np.float32, copy=False)
    top, left, bottom, right = owned.box
    moved = Instances(owned.ids, owned.cut, (top - y0, left - x0, bottom - y0, right - x0))
    place = _shift(kept, region[0], region[1])
    return BlockResult(place, part, outline, moved, *counts)


def beside_outlines(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Find the pixels between which, with a neighbour, an outline may be interpolated.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        0 is background.

    Returns
    -------
    (Y, X) ndarray of bool
        Pixels of all squares of 2 x 2 (or pairs, in a single row or column) that are partly cell.
        Elsewhere an interpolated value has the sign of its four neighbours, whatever they are.
    """
    is_cell = labels > 0
    found = np.zeros(labels.shape, np.bool_)
    rows, columns = _pairs(labels.shape[0]), _pairs(labels.shape[1])
    corners = [(row, column) for row in rows for column in columns]
    squares = [is_cell[corner] for corner in corners]
    is_mixed = np.logical_or.reduce(squares) & ~np.logical_and.reduce(squares)
    for corner in corners:
        found[corner] |= is_mixed
    return found


def _pairs(side: int) -> tuple[slice, ...]:
    """Slice an axis so that each pixel meets the next one; the axis itself if it has one pixel."""
    return (slice(0, side - 1), slice(1, side)) if side > 1 else (slice(0, side),)


def _shift(box: Box, rows: int, columns: int) -> Box:
    """Move a box."""
    return box[0] + rows, box[1] + columns, box[2] + rows, box[3] + columns
