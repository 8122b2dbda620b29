"""Cells cut where tiles meet: instances with a straight edge on the lines of a tile grid."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.overlaps import Labels
from eval.run_file import Seams

# An edge is straight if it is this share of the instance's extent along the line, and this long.
# A disc of radius r that merely touches a line has an edge of about 2 sqrt(2 r) px: less than 60 %
# of its diameter from r = 6 px on. A disc cut anywhere but in its outermost tenth has more.
MIN_EXTENT_SHARE = 0.6
MIN_EDGE_PX = 8
MIN_TILE_PX = 4
SHIFTS = (0.25, 0.5, 0.75)  # of a tile, where the rate that chance gives is taken

Line = tuple[int, int]  # the axis it runs along (0 is y), its position on the other axis


@dataclass(frozen=True)
class SeamCounts:
    """Cut instances of one or more images.

    Attributes
    ----------
    n : int
        Instances.
    n_cut : int
        Those with a straight edge on a line of the grid.
    n_by_chance : float
        The same on grids shifted off the lines, mean over the shifts.
    """

    n: int = 0
    n_cut: int = 0
    n_by_chance: float = 0.0


@dataclass(frozen=True)
class _Instances:
    """Sorted ids (n,), and extents (2, n): height and width in pixels."""

    ids: Labels
    extents: NDArray[np.int64]


def count_cut_instances(labels: Labels, tile_px: int) -> SeamCounts:
    """Count the instances of an image that a tile grid cuts.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background; ids not negative.
    tile_px : int
        Distance of the lines, at least :data:`MIN_TILE_PX`; the first ones lie at ``tile_px``,
        the image's own edges are none.

    Returns
    -------
    SeamCounts
        All zero for an image without instances, and for one that no line crosses.

    Raises
    ------
    ValueError
        If ``tile_px`` is too small.
    """
    check_tile(tile_px)
    on_grid = _list_lines(labels.shape, tile_px, tile_px)
    if not on_grid:
        return SeamCounts()
    instances = _measure_extents(labels)
    n_cut = _count_cut(labels, instances, on_grid)
    by_chance = []
    for shift in SHIFTS:
        lines = _list_lines(labels.shape, round(shift * tile_px), tile_px)
        # A shifted grid may have another number of lines.
        scale = _length_px(on_grid, labels.shape) / _length_px(lines, labels.shape)
        by_chance.append(scale * _count_cut(labels, instances, lines))
    return SeamCounts(instances.ids.size, n_cut, float(np.mean(by_chance)))


def count_cut_at(labels: Labels, rows: Iterable[int], columns: Iterable[int]) -> int:
    """Count the instances with a straight edge on lines that need not lie on a regular grid.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background; ids not negative.
    rows, columns : iterable of int
        Rows of pixels below horizontal lines, columns to the right of vertical ones; inside the
        image, whose own edges are no lines.

    Returns
    -------
    int
        0 without instances or lines.
    """
    lines = [*((1, row) for row in rows), *((0, column) for column in columns)]
    return _count_cut(labels, _measure_extents(labels), lines)


def check_tile(tile_px: int) -> None:
    """Refuse tiles too small to be cut by shifted lines; ValueError."""
    if tile_px < MIN_TILE_PX:
        raise ValueError(f"tile_px must be at least {MIN_TILE_PX}, got {tile_px}")


def summarise_seams(counts: Iterable[SeamCounts], tile_px: int) -> Seams:
    """Add up the cut instances of several images.

    Parameters
    ----------
    counts : iterable of SeamCounts
        One an image.
    tile_px : int
        Distance of the lines.

    Returns
    -------
    Seams
        Shares are 0 without instances.
    """
    parts = list(counts)
    n = sum(part.n for part in parts)
    n_cut = sum(part.n_cut for part in parts)
    expected = sum(part.n_by_chance for part in parts)
    return Seams(tile_px, n_cut / max(1, n), expected / max(1, n), n, n_cut)


def _list_lines(shape: tuple[int, ...], first_px: int, step_px: int) -> list[Line]:
    """List the grid lines inside an image as (axis they run along, position on the other)."""
    return [
        (axis, position)
        for axis in (0, 1)
        for position in range(first_px, shape[1 - axis], step_px)
    ]


def _length_px(lines: Iterable[Line], shape: tuple[int, ...]) -> int:
    """Add up the lengths of lines."""
    return sum(shape[axis] for axis, _ in lines)


def _measure_extents(labels: Labels) -> _Instances:
    """Measure height and width of the instances from their runs along the rows."""
    width = labels.shape[1]
    flat = labels.ravel()
    is_end = np.ones(flat.size, bool)
    is_end[:-1] = flat[1:] != flat[:-1]
    is_end[width - 1 :: width] = True
    ends = np.flatnonzero(is_end)
    starts = np.concatenate([[0], ends[:-1] + 1])
    is_instance = flat[ends] != 0
    starts, ends = starts[is_instance], ends[is_instance]
    order = np.argsort(flat[ends], kind="stable")
    starts, ends = starts[order], ends[order]
    ids, first = np.unique(flat[ends], return_index=True)
    if not ids.size:
        return _Instances(ids, np.zeros((2, 0), np.int64))
    y, x0, x1 = ends // width, starts % width, ends % width
    heights = np.maximum.reduceat(y, first) - np.minimum.reduceat(y, first) + 1
    widths = np.maximum.reduceat(x1, first) - np.minimum.reduceat(x0, first) + 1
    return _Instances(ids, np.stack([heights, widths]))


def _count_cut(labels: Labels, instances: _Instances, lines: Iterable[Line]) -> int:
    """Count the instances that end at one of the lines with a straight edge."""
    n = instances.ids.size
    is_cut = np.zeros(n, bool)
    for axis, position in lines:
        before, after = (np.take(labels, p, axis=1 - axis) for p in (position - 1, position))
        is_edge = before != after
        long = np.maximum(MIN_EDGE_PX, MIN_EXTENT_SHARE * instances.extents[axis])
        for side in (before, after):
            ending = side[is_edge & (side != 0)]
            edge_px = np.bincount(np.searchsorted(instances.ids, ending), minlength=n)
            is_cut |= edge_px >= long
    return int(np.count_nonzero(is_cut))
