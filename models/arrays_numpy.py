"""The array operations of decoding on NumPy arrays, by NumPy and OpenCV alone."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.arrays import GRID
from models.packing import Atlas

Any2D = NDArray[Any]
Index = NDArray[np.int64]
Float = NDArray[np.float32]

THIRD = np.full(3, 1 / 3, np.float32)  # averages over three pixels
LINE_POINTS = 1024  # to which points are grouped for interpolation
WALK_LINES = 64  # that are moved at a time: 1 MiB of places and steps
MAX_SIDE_PX = 32766  # of an image that OpenCV's remap takes
NONE_LOW, NONE_HIGH = np.iinfo(np.int64).min // 2, np.iinfo(np.int64).max // 2


class NumpyArrays:
    """See :class:`models.arrays.Arrays`."""

    def zeros(self, shape: tuple[int, ...] | int, like: Any2D) -> Any2D:
        """Give zeros of the dtype of ``like``."""
        return np.zeros(shape, like.dtype)

    def cast(self, values: Any2D, dtype: str) -> Any2D:
        """Convert to a dtype named as in NumPy."""
        return values.astype(dtype, copy=False)

    def table(self, values: Any2D, like: Any2D) -> Any2D:
        """Give the values themselves."""
        del like
        return values

    def arange(self, n: int) -> Index:
        """Give 0..n - 1."""
        return np.arange(n)

    def where(self, condition: Any2D, yes: Any, no: Any) -> Any2D:
        """Choose element by element."""
        return np.where(condition, yes, no)

    def exp(self, values: Any2D) -> Any2D:
        """Give e to the power of each value."""
        return np.exp(values)

    def log(self, values: Any2D) -> Any2D:
        """Give natural logarithms."""
        return np.log(values)

    def nonzero(self, values: Any2D) -> Index:
        """Give the flat indices of what is not zero."""
        return np.flatnonzero(values)

    def bincount(self, ids: Any2D, n: int, weights: Any2D | None = None) -> Any2D:
        """Count ids, or add up weights."""
        return np.bincount(ids, weights, minlength=n)

    def join(self, parts: list[Any2D]) -> Any2D:
        """Put arrays one after the other."""
        return np.concatenate(parts)

    def stack(self, parts: list[Any2D]) -> Any2D:
        """Put arrays of one shape side by side."""
        return np.stack(parts)

    def cumsum(self, values: Any2D) -> Index:
        """Add up along the only axis."""
        return np.cumsum(values, dtype=np.int64)

    def repeat(self, values: Any2D, counts: Index) -> Any2D:
        """Repeat each element as often as told."""
        return np.repeat(values, counts)

    def order(self, values: Any2D) -> Index:
        """Give the indices that sort stably."""
        return np.argsort(values, kind="stable")

    def rank(self, ascending: Any2D, values: Any2D) -> Index:
        """Give the index of the last number that is not above each value."""
        return np.searchsorted(ascending, values, side="right") - 1

    def lowest(self, ids: Index, values: Any2D, n: int) -> Any2D:
        """Give the smallest value of each id."""
        start = NONE_HIGH if values.dtype.kind == "i" else np.inf
        found = np.full(n, start, values.dtype)
        np.minimum.at(found, ids, values)
        return found

    def highest(self, ids: Index, values: Any2D, n: int) -> Any2D:
        """Give the largest value of each id."""
        start = NONE_LOW if values.dtype.kind == "i" else -np.inf
        found = np.full(n, start, values.dtype)
        np.maximum.at(found, ids, values)
        return found

    def dilate(self, image: Any2D, side: int) -> Any2D:
        """Give the maximum over a square window."""
        return cv2.dilate(image, np.ones((side, side), np.uint8))

    def keep_inside(self, steps_yx: Float) -> Float:
        """Shorten steps that would take their pixel out of the image."""
        height, width = steps_yx.shape[1:]
        y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
        shortened = np.empty(steps_yx.shape, np.float32)
        np.clip(steps_yx[0], -y, height - 1 - y, out=shortened[0])
        np.clip(steps_yx[1], -x, width - 1 - x, out=shortened[1])
        return shortened

    def walk(self, steps_yx: Float, points: Float) -> Float:
        """Move points by the steps where they are, some at a time: those stay in the cache.

        Raises
        ------
        ValueError
            If a side is beyond what OpenCV can address.
        """
        if max(steps_yx.shape) > MAX_SIDE_PX:
            raise ValueError(f"wanted sides up to {MAX_SIDE_PX} px, got {steps_yx.shape[1:]}")
        moved = np.empty_like(points)
        n_points = points.shape[1]
        n_full = n_points // LINE_POINTS * LINE_POINTS
        # OpenCV takes images: lines of points, and a last one that is shorter
        ends = [*range(0, n_full, WALK_LINES * LINE_POINTS), n_full, n_points]
        for start, end in itertools.pairwise(ends):
            if end > start:
                y, x = points[:, start:end].reshape(2, -1, min(LINE_POINTS, end - start))
                for target, steps, place in zip(moved[:, start:end], steps_yx, (y, x), strict=True):
                    step = cv2.remap(steps, x, y, cv2.INTER_LINEAR)
                    step *= GRID
                    np.rint(step, out=step)
                    step *= 1 / GRID
                    np.add(step, place, out=target.reshape(place.shape))
        return moved

    def components(self, mask: Any2D, connectivity: int) -> tuple[Any2D, int]:
        """Label connected regions."""
        n, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity)
        return labels, n - 1

    def depth(self, mask: NDArray[np.bool_]) -> Float:
        """Give the distance to the nearest pixel outside the mask."""
        return cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)

    def smooth(self, image: Float) -> Float:
        """Blur with a Gaussian of 1 px."""
        return cv2.GaussianBlur(image, (9, 9), 1.0, borderType=cv2.BORDER_REFLECT)

    def heat_flow(self, atlas: Atlas, source: Index, steps: Index, *, cold: bool) -> Float:
        """Give the unit vectors up the gradient of heat that spreads in each cell.

        A shelf at a time: it stays in a core's cache for all its steps.
        """
        height, width = atlas.mask.shape
        flow = np.zeros((2, height, width), np.float32)
        first = np.searchsorted(atlas.shelf, np.arange(len(atlas.shelf_y) + 1))

        def heat_shelf(i: int) -> None:
            rows = slice(atlas.shelf_y[i], atlas.shelf_y[i] + atlas.shelf_height[i])
            here = slice(first[i], first[i + 1])
            spot = source[here] - rows.start * width
            inside = atlas.mask[rows].astype(np.float32)
            heat = _spread(inside, spot, steps[here], atlas.right[here])
            flow[:, rows] = _climb(np.log1p(heat), inside, cold=cold)

        with ThreadPoolExecutor(max(1, cv2.getNumThreads())) as pool:
            list(pool.map(heat_shelf, range(len(atlas.shelf_y))))
        return flow


def _spread(inside: Float, spots: Index, steps: Index, right: Index) -> Float:
    """Spread heat from pixels of one shelf (h, W); further right it takes no more steps."""
    heat, blurred = np.zeros_like(inside), np.empty_like(inside)
    by_pixel = heat.reshape(-1)  # a view
    done = 0
    for until in np.unique(steps):
        n_active = int(np.count_nonzero(steps >= until))
        hot = spots[:n_active]
        part, target, mask = (a[:, : right[n_active - 1] + 1] for a in (heat, blurred, inside))
        for _ in range(int(until) - done):
            by_pixel[hot] += 1.0
            cv2.sepFilter2D(part, -1, THIRD, THIRD, dst=target, borderType=cv2.BORDER_CONSTANT)
            cv2.multiply(target, mask, dst=part)  # of parts of rows three times as fast as NumPy
        done = int(until)
    return heat


def _climb(height: Float, inside: Float, *, cold: bool) -> Float:
    """Give the unit gradient (2, h, W) inside cells; a neighbour outside is 0 or as the pixel."""
    is_cell = np.pad(inside, 1) > 0
    own = height
    height = np.pad(height, 1)

    def side(rows: slice, columns: slice) -> Float:
        if cold:
            return height[rows, columns]
        return np.where(is_cell[rows, columns], height[rows, columns], own)

    middle, before, after = slice(1, -1), slice(None, -2), slice(2, None)
    rise = np.stack(
        [
            side(after, middle) - side(before, middle),
            side(middle, after) - side(middle, before),
        ]
    )
    length = np.sqrt(rise[0] * rise[0] + rise[1] * rise[1]) + np.float32(1e-20)
    return rise / length * inside


def choose(_: Any2D) -> NumpyArrays:
    """Give the operations of an array: all arrays share them."""
    return NumpyArrays()
