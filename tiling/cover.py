"""Cover an image with network windows on one lattice fixed to the image.

What the network sees at a pixel depends on the image, the tile and the halo alone, never on the
blocks, batches or workers that ask for it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from imaging.image import Box

_Span = tuple[int, int, int, int]  # along one axis: window start and end, core start and end


@dataclass(frozen=True)
class Tile:
    """One network window and the part of its output that is kept.

    Attributes
    ----------
    window : Box
        What the network reads, wholly inside the image.
    core : Box
        What the tile writes, inside `window`; the cores of a cover partition the image.
    """

    window: Box
    core: Box


@dataclass(frozen=True)
class Lattice:
    """Windows of one image as the product of its row spans and its column spans."""

    rows: tuple[_Span, ...]
    columns: tuple[_Span, ...]

    @property
    def window_shape(self) -> tuple[int, int]:
        """Height and width that all windows of this lattice share, in pixels."""
        return self.rows[0][1] - self.rows[0][0], self.columns[0][1] - self.columns[0][0]

    def tiles_over(self, box: Box) -> list[Tile]:
        """Return the tiles whose core meets a box, in raster order.

        Parameters
        ----------
        box : Box
            Half-open, in pixels; an empty box meets nothing.

        Returns
        -------
        list of Tile
        """
        y0, x0, y1, x1 = box
        if y0 >= y1 or x0 >= x1:
            return []
        rows = [span for span in self.rows if span[2] < y1 and span[3] > y0]
        columns = [span for span in self.columns if span[2] < x1 and span[3] > x0]
        return [_tile(r, c) for r, c in itertools.product(rows, columns)]

    def groups_over(self, box: Box, size: int) -> "list[tuple[Tile, ...]]":
        """Return the groups of tiles of which any core meets a box, in raster order.

        Parameters
        ----------
        box : Box
            Half-open, in pixels; an empty box meets nothing.
        size : int
            Largest number of tiles in a group, at least 1.

        Returns
        -------
        list of tuple of Tile
            Groups partition the lattice, the same for every box: whole lattice rows where several
            fit into a group, else about equal parts of a row.

        Notes
        -----
        A runtime may round a window's maps differently in another company. In a fixed one they do
        not depend on who asks for them.
        """
        y0, x0, y1, x1 = box
        if y0 >= y1 or x0 >= x1:
            return []
        n_columns = len(self.columns)
        height, n_parts = max(1, size // n_columns), -(-n_columns // size)
        rows = [self.rows[first : first + height] for first in range(0, len(self.rows), height)]
        ends = [n_columns * part // n_parts for part in range(n_parts + 1)]
        columns = [self.columns[first:last] for first, last in itertools.pairwise(ends)]
        return [
            tuple(_tile(r, c) for r, c in itertools.product(some_rows, some_columns))
            for some_rows, some_columns in itertools.product(rows, columns)
            if some_rows[0][2] < y1
            and some_rows[-1][3] > y0
            and some_columns[0][2] < x1
            and some_columns[-1][3] > x0
        ]


def build_lattice(
    shape: Sequence[int], tile_px: int, halo_px: int, multiple: int | None = None
) -> Lattice:
    """Lay the window lattice of an image.

    Parameters
    ----------
    shape : (Y, X) sequence of int
        Image size in pixels, both at least 1.
    tile_px : int
        Side of a window in pixels.
    halo_px : int
        Context thrown away at every side of a window that is not a side of the image, in pixels.
    multiple : int, optional
        If given, windows shrink to the smallest multiple of it with which as many of them cover
        the image, along each side for itself: fewer pixels are read twice.

    Returns
    -------
    Lattice
        Windows start every ``tile_px - 2 * halo_px`` pixels; the last one is shifted back to end at
        the image's edge. A side not longer than `tile_px` has one window over the whole side.

    Raises
    ------
    ValueError
        If a side is empty, the halo is negative, or the tile does not exceed two halos.
    """
    if halo_px < 0 or tile_px <= 2 * halo_px:
        raise ValueError(f"tile_px must exceed 2 * halo_px >= 0, got {tile_px} and {halo_px}")
    if min(shape) < 1:
        raise ValueError(f"an image must have at least one pixel, got shape {tuple(shape)}")
    height, width = shape
    if multiple is None:
        return Lattice(_spans(height, tile_px, halo_px), _spans(width, tile_px, halo_px))
    rows, columns = (_fit_window(side, tile_px, halo_px, multiple) for side in shape)
    return Lattice(_spans(height, rows, halo_px), _spans(width, columns, halo_px))


def cover(shape: Sequence[int], tile_px: int, halo_px: int) -> list[Tile]:
    """List all tiles of an image in raster order.

    Parameters
    ----------
    shape : (Y, X) sequence of int
        Image size in pixels, both at least 1.
    tile_px, halo_px : int
        See `build_lattice`.

    Returns
    -------
    list of Tile
        Their windows lie inside the image, their cores partition it.

    Raises
    ------
    ValueError
        As `build_lattice`.
    """
    return build_lattice(shape, tile_px, halo_px).tiles_over((0, 0, shape[0], shape[1]))


def _tile(row: _Span, column: _Span) -> Tile:
    """Join a span along y and one along x."""
    return Tile((row[0], column[0], row[1], column[1]), (row[2], column[2], row[3], column[3]))


def _fit_window(side: int, tile_px: int, halo_px: int, multiple: int) -> int:
    """Shrink a window without needing more of them along a side."""
    if side <= tile_px:
        return tile_px
    overlap_px = 2 * halo_px
    n_windows = -(-(side - overlap_px) // (tile_px - overlap_px))
    evenly_px = -(-(side + (n_windows - 1) * overlap_px) // n_windows)
    return min(tile_px, -(-evenly_px // multiple) * multiple)


def _spans(side: int, tile_px: int, halo_px: int) -> tuple[_Span, ...]:
    """Cut one axis into windows and cores."""
    if side <= tile_px:
        return ((0, side, 0, side),)
    stride = tile_px - 2 * halo_px
    starts = [*range(0, side - tile_px, stride), side - tile_px]
    seams = [0, *(start + tile_px - halo_px for start in starts[:-1]), side]
    return tuple(
        (start, start + tile_px, core_start, core_end)
        for start, core_start, core_end in zip(starts, seams, seams[1:], strict=False)
    )
