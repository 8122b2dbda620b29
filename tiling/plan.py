"""The blocks of one image: where they lie, what each needs, and which needs a pixel next."""

import math
from dataclasses import dataclass, replace

from imaging.image import Box
from tiling.blocks import GROWTHS, cut_evenly, grow_box

_Span = tuple[int, int]


@dataclass(frozen=True)
class BlockPlan:
    """Block cores that partition an image, or a part of it, numbered in raster order.

    Attributes
    ----------
    shape : (Y, X) tuple of int
        Image size in network pixels.
    rows, columns : tuple of (int, int)
        Start and end of the cores along each axis.
    halo_px : int
        Width of the narrowest halo that a block is decoded with, in network pixels.
    """

    shape: tuple[int, int]
    rows: tuple[_Span, ...]
    columns: tuple[_Span, ...]
    halo_px: int

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def core(self, index: int) -> Box:
        """Return the part of the image whose instances a block owns."""
        row, column = divmod(index, len(self.columns))
        (y0, y1), (x0, x1) = self.rows[row], self.columns[column]
        return y0, x0, y1, x1

    def region(self, index: int, growth: int = GROWTHS[0]) -> Box:
        """Return what a block decodes: its core with a halo `growth` times the narrowest."""
        return grow_box(self.core(index), growth * self.halo_px, self.shape)

    def split(self, index: int, part_px: int) -> "BlockPlan":
        """Cut the core of one block into smaller ones, of sides of at most `part_px`."""
        y0, x0, y1, x1 = self.core(index)
        rows = tuple((y0 + start, y0 + end) for start, end in cut_evenly(y1 - y0, part_px))
        columns = tuple((x0 + start, x0 + end) for start, end in cut_evenly(x1 - x0, part_px))
        return replace(self, rows=rows, columns=columns)

    def next_use(self, box: Box, first: int) -> float:
        """Find the next block whose narrowest region meets a box.

        Parameters
        ----------
        box : Box
            In network pixels.
        first : int
            Blocks before this one are done.

        Returns
        -------
        float
            The number of the block, infinity if none is left.
        """
        rows = self._meeting(self.rows, box[0], box[2])
        columns = self._meeting(self.columns, box[1], box[3])
        row, column = divmod(first, len(self.columns))
        if row in rows and column < columns.stop:
            return row * len(self.columns) + max(column, columns.start)
        row = max(row + 1, rows.start)
        return row * len(self.columns) + columns.start if row < rows.stop else math.inf

    def _meeting(self, spans: tuple[_Span, ...], start: int, end: int) -> range:
        """List the numbers of the spans along an axis that meet an interval, halo included."""
        halo_px = GROWTHS[0] * self.halo_px
        meeting = [
            number
            for number, (first, last) in enumerate(spans)
            if first - halo_px < end and last + halo_px > start
        ]
        return range(meeting[0], meeting[-1] + 1) if meeting else range(0)


def plan_blocks(shape: tuple[int, int], block_px: int, halo_px: int) -> BlockPlan:
    """Cut an image into block cores of about equal size.

    Parameters
    ----------
    shape : (Y, X) tuple of int
        Image size in network pixels.
    block_px : int
        Largest side of a core.
    halo_px : int
        Width of the narrowest halo.

    Returns
    -------
    BlockPlan

    Raises
    ------
    ValueError
        If `block_px` is not positive.
    """
    rows, columns = (tuple(cut_evenly(side, block_px)) for side in shape)
    return BlockPlan(shape, rows, columns, halo_px)
