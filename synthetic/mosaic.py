"""Slides as mosaics: a few tiles laid out on blank ground, any size, never whole in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from imaging.image import Box
from synthetic.cells import Cell, place_cells
from synthetic.generator import KINDS
from synthetic.optics import smooth_noise

MARGIN_PX = 16  # of a generated tile: no cells, and a smooth way to the blank ground
ISLAND_SHARE = 0.15  # width of tissue islands, as a share of the slide's longest side


@dataclass(frozen=True)
class Tile:
    """A square piece of a slide with its exact labels.

    Attributes
    ----------
    image : (S, S, C) ndarray of uint8 or uint16
    labels : (S, S) ndarray of int
        0 is background; ids may have gaps.
    """

    image: NDArray[Any]
    labels: NDArray[Any]


def make_tile(kind: str, side_px: int, seed: int, dtype: DTypeLike = np.uint8) -> Tile:
    """Make a tile whose edges are blank, so that it fits beside any other of its kind.

    Parameters
    ----------
    kind : str
        A name in :data:`synthetic.generator.KINDS`.
    side_px : int
        More than twice :data:`MARGIN_PX`.
    seed : int
        The same arguments give the same tile.
    dtype : dtype
        uint8, or uint16 with the range of a 12-bit camera.

    Returns
    -------
    Tile
        No cell reaches into the margin: what looks like a cell cut at a seam was not made here.

    Raises
    ------
    ValueError
        If the kind is unknown or the side too small.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}, known: {sorted(KINDS)}")
    if side_px <= 2 * MARGIN_PX:
        raise ValueError(f"wanted a side of more than {2 * MARGIN_PX}, got {side_px}")
    look, shape = KINDS[kind], (side_px, side_px)
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    n_cells = max(1, round(side_px**2 / (look.area_per_cell * look.outline.diameter_px**2)))
    _, placed = place_cells(shape, n_cells, look.outline, rng)
    inner = [cell for cell in placed if _is_inside(cell, side_px)]
    cells = [replace(cell, label=n) for n, cell in enumerate(inner, start=1)]
    labels = np.zeros(shape, np.int32)
    for cell in cells:
        labels[cell.window][cell.mask] = cell.label
    white = 255 if np.dtype(dtype) == np.uint8 else 4095
    blank = blank_colour(kind).astype(np.float32)
    distance = np.minimum(np.arange(side_px), np.arange(side_px)[::-1])
    ramp = np.clip(distance / MARGIN_PX, 0, 1).astype(np.float32)
    weight = np.minimum(ramp[:, None], ramp)[:, :, None]
    rendered = look.render(shape, cells, rng)
    if rendered.ndim == 2:
        rendered = rendered[:, :, None]
    image = np.rint((blank + (rendered - blank) * weight) * white).astype(dtype)
    return Tile(image, labels)


def blank_colour(kind: str) -> NDArray[np.float64]:
    """Return the colour of an empty field of a kind, (C,) in [0, 1]."""
    empty = KINDS[kind].render((64, 64), [], np.random.default_rng(0))
    colour: NDArray[np.float64] = np.median(empty.reshape(64 * 64, -1), axis=0)
    return colour


class Mosaic:
    """A slide of any size, made of tiles: pixels and exact labels of any region on demand.

    Parameters
    ----------
    tiles : sequence of Tile
        One size, dtype and number of channels; used again and again, in an order by chance.
    shape : (int, int)
        Rows and columns of the slide, in pixels; tiles are cut at its lower and right edge.
    tissue : float in [0, 1]
        Share of the places that hold a tile, in a few islands; the others are blank.
    blank : sequence of C numbers, optional
        Colour of the blank ground; by default that of the first tile's upper left pixel.
    seed : int
        The same arguments give the same slide.

    Attributes
    ----------
    shape : (Y, X, C)
    dtype : dtype
    tile_px : int
    n_labels : int
        Ids are 1..n_labels, in raster order of the places.

    Raises
    ------
    ValueError
        If there are no tiles, or they or the shape do not fit.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        shape: tuple[int, int],
        tissue: float = 1.0,
        blank: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        _check(tiles, shape, tissue)
        self.tile_px: int = tiles[0].labels.shape[0]
        self.dtype: np.dtype[Any] = tiles[0].image.dtype
        self.shape: tuple[int, int, int] = (*shape, tiles[0].image.shape[2])
        self._images = {1: [tile.image for tile in tiles]}
        self._labels = [np.asarray(tile.labels, np.int64) for tile in tiles]
        self._pieces: dict[tuple[int, int, int], tuple[NDArray[np.int64], int]] = {}
        self._blank = np.asarray(tiles[0].image[0, 0] if blank is None else blank, self.dtype)
        self._layout = self._lay_out(len(tiles), tissue, np.random.default_rng(seed))
        counts = np.zeros(self._layout.size, np.int64)
        for place, tile in enumerate(self._layout.flat):
            if tile >= 0:
                counts[place] = self._piece(*divmod(place, self._layout.shape[1]))[1]
        self._first_ids = (np.cumsum(counts) - counts).reshape(self._layout.shape)
        self.n_labels: int = int(counts.sum())

    def factors(self, step: int, side_px: int = 1024) -> list[int]:
        """List the reductions of a pyramid below the full size.

        Parameters
        ----------
        step : int
            Between levels, such as 2 or 4.
        side_px : int
            The last level is the first whose longest side is at most this.

        Returns
        -------
        list of int
            Ascending; only such that divide the side of a tile.
        """
        factors: list[int] = []
        factor = step
        while (
            self.tile_px % factor == 0
            and max(self.shape[:2]) // (factor // step) > side_px
            and min(self.shape[:2]) >= factor
        ):
            factors.append(factor)
            factor *= step
        return factors

    def level_shape(self, factor: int) -> tuple[int, int, int]:
        """Size of the slide reduced by a factor, rounded down: ``(Y, X, C)``."""
        return self.shape[0] // factor, self.shape[1] // factor, self.shape[2]

    def read(self, box: Box, factor: int = 1) -> NDArray[Any]:
        """Read pixels.

        Parameters
        ----------
        box : (y0, x0, y1, x1)
            Half-open, in pixels of the reduced slide.
        factor : int
            Each pixel is the rounded mean of so many pixels squared; it divides the tile's side.

        Returns
        -------
        (y1 - y0, x1 - x0, C) ndarray of the slide's dtype
        """
        if factor not in self._images:
            self._images[factor] = [_reduce(image, factor) for image in self._images[1]]
        y0, x0, y1, x1 = box
        region = np.empty((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        region[:] = self._blank
        for row, column, there, here in self._overlaps(box, self.tile_px // factor):
            tile = self._layout[row, column]
            if tile >= 0:
                region[there] = self._images[factor][tile][here]
        return region

    def read_labels(self, box: Box) -> NDArray[np.int32]:
        """Read labels of a region: ``(y1 - y0, x1 - x0)``, ids of the whole slide."""
        y0, x0, y1, x1 = box
        region = np.zeros((y1 - y0, x1 - x0), np.int32)
        for row, column, there, here in self._overlaps(box, self.tile_px):
            if self._layout[row, column] >= 0:
                labels = self._piece(row, column)[0][here]
                region[there] = np.where(labels > 0, labels + self._first_ids[row, column], 0)
        return region

    def _lay_out(self, n_tiles: int, tissue: float, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose a tile for each place, -1 for blank ones."""
        places = (-(-self.shape[0] // self.tile_px), -(-self.shape[1] // self.tile_px))
        layout = rng.integers(0, n_tiles, places)
        n_blank = round((1 - tissue) * layout.size)
        height = smooth_noise(places, max(1.0, ISLAND_SHARE * max(places)), rng)
        layout.flat[np.argsort(height, axis=None, kind="stable")[:n_blank]] = -1
        return layout

    def _piece(self, row: int, column: int) -> tuple[NDArray[np.int64], int]:
        """Labels of a place with ids 1..n of what the slide's edge leaves of them, and n."""
        tile = int(self._layout[row, column])
        height = min(self.tile_px, self.shape[0] - row * self.tile_px)
        width = min(self.tile_px, self.shape[1] - column * self.tile_px)
        key = (tile, height, width)
        if key not in self._pieces:
            ids, numbers = np.unique(self._labels[tile][:height, :width], return_inverse=True)
            numbers = numbers.reshape(height, width)
            self._pieces[key] = (numbers, len(ids) - 1) if ids[0] == 0 else (numbers + 1, len(ids))
        return self._pieces[key]

    def _overlaps(
        self, box: Box, side: int
    ) -> list[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
        """Places that a box touches, each with its pixels in the box and in the tile."""
        y0, x0, y1, x1 = box
        found = []
        for row in range(y0 // side, min(-(-y1 // side), self._layout.shape[0])):
            for column in range(x0 // side, min(-(-x1 // side), self._layout.shape[1])):
                top, left = row * side, column * side
                ys, xs = (max(y0, top), min(y1, top + side)), (max(x0, left), min(x1, left + side))
                there = slice(ys[0] - y0, ys[1] - y0), slice(xs[0] - x0, xs[1] - x0)
                here = slice(ys[0] - top, ys[1] - top), slice(xs[0] - left, xs[1] - left)
                found.append((row, column, there, here))
        return found


def _check(tiles: Sequence[Tile], shape: tuple[int, int], tissue: float) -> None:
    """Raise ValueError if a mosaic cannot be made of this."""
    if not tiles:
        raise ValueError("wanted at least one tile")
    first = tiles[0].image
    for tile in tiles:
        if tile.image.shape != first.shape or tile.image.dtype != first.dtype:
            raise ValueError("wanted tiles of one shape and dtype")
        if tile.image.ndim != 3 or tile.labels.shape != first.shape[:2]:
            raise ValueError(f"wanted (S, S, C) and (S, S), got {first.shape}, {tile.labels.shape}")
        if first.shape[0] != first.shape[1]:
            raise ValueError(f"wanted square tiles, got {first.shape[:2]}")
    if min(shape) < 1 or not 0 <= tissue <= 1:
        raise ValueError(f"wanted a size and a share of tissue, got {shape} and {tissue}")


def _is_inside(cell: Cell, side_px: int) -> bool:
    """Tell whether a cell leaves the margin of a tile free."""
    for window, axis in zip(cell.window, (1, 0), strict=True):
        occupied = np.flatnonzero(cell.mask.any(axis=axis)) + window.start
        if occupied[0] < MARGIN_PX or occupied[-1] >= side_px - MARGIN_PX:
            return False
    return True


def _reduce(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Average an image (Y, X, C) over squares, rounded to its dtype."""
    height, width, n_channels = image.shape
    if height % factor or width % factor:
        raise ValueError(f"wanted a factor of the tile's side {height}, got {factor}")
    blocks = image.reshape(height // factor, factor, width // factor, factor, n_channels)
    means = blocks.mean(axis=(1, 3), dtype=np.float64)
    return np.rint(means).astype(image.dtype) if math.prod(means.shape) else image[:0, :0]
