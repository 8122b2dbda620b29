"""The size of cells, and the window of an image that an expert estimates it on."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.segmenter import FloatArray, LabelArray

LOOK_PX = 256  # largest side of a window whose cells are looked at, in network pixels
SPREAD_PX = 256  # and of one whose spread vector alone is asked for, or learnt from
WIDE_PX = 384  # where more must be seen: blind looks
MIN_VIEW_PX = 64
TEXTURE_GRID = 48  # blocks across a window in which its texture is measured: a quarter of a cell
EMPTY_SHARE = 0.2  # of the most texture that a window has: the middle one shows next to nothing
BUSY_SHARE = 0.75  # of the most texture: a window that has as much shows as much


def resize_view(view: FloatArray, factor: float, largest: int) -> FloatArray:
    """Resample a view and cut or mirror it to a window the network takes.

    Parameters
    ----------
    view : (Y, X, 3) ndarray of float32
        Normalised pixels.
    factor : float
        Window pixels a view pixel.
    largest : int
        Largest side, a multiple of 32 and at least 64.

    Returns
    -------
    (Y', X', 3) ndarray of float32
        Sides multiples of 32 from 64 to the largest; where more is seen, the part nearest to the
        middle that is not empty (:func:`cut_busy`).
    """
    view = cut_busy(view, int(np.ceil(largest / factor)))
    height, width = (max(2, round(side * factor)) for side in view.shape[:2])
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(view, (width, height), interpolation=smooth)
    y0, x0 = (max(0, (side - largest) // 2) for side in (height, width))
    small = small[y0 : y0 + largest, x0 : x0 + largest]
    pad = [(0, max(MIN_VIEW_PX - side, -side % 32)) for side in small.shape[:2]]
    return np.pad(small, (*pad, (0, 0)), mode="symmetric")


def cut_busy(view: FloatArray, side: int) -> FloatArray:
    """Cut a view to a side, where it shows something.

    Parameters
    ----------
    view : (Y, X, 3) ndarray of float32
        Normalised pixels.
    side : int
        Largest side of what is left, in pixels.

    Returns
    -------
    (Y', X', 3) ndarray of float32
        The middle of the view. Where that is empty beside other parts, as in an embryo or a colony
        whose cells line its edge: the nearest part that has about the most texture.
    """
    height, width = view.shape[:2]
    if max(height, width) <= side:
        return view
    block = max(1, side // TEXTURE_GRID)
    grid = (max(1, width // block), max(1, height // block))
    grey = cv2.resize(view, grid, interpolation=cv2.INTER_AREA).mean(axis=2)
    texture = np.zeros_like(grey)
    texture[:-1] += np.abs(np.diff(grey, axis=0))
    texture[:, :-1] += np.abs(np.diff(grey, axis=1))
    window = [min(n, max(1, side // block)) for n in grey.shape]
    sums = np.pad(texture.cumsum(0, np.float64).cumsum(1), ((1, 0), (1, 0)))
    rows, columns = window
    shown = sums[rows:, columns:] - sums[:-rows, columns:]
    shown += sums[:-rows, :-columns] - sums[rows:, :-columns]
    middle = [(n - 1) / 2 for n in shown.shape]
    is_empty = shown[tuple(int(place) for place in middle)] < EMPTY_SHARE * shown.max()
    places = np.argwhere(shown >= BUSY_SHARE * shown.max())
    nearest = places[np.square(places - middle).sum(1).argmin()] if is_empty else middle
    slack = (max(0, height - side), max(0, width - side))
    y, x = (
        round(free * place / max(1, n - 1))
        for free, place, n in zip(slack, nearest, shown.shape, strict=True)
    )
    return view[y : y + side, x : x + side]


def disc_diameters(areas: NDArray[np.intp] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the diameters of discs with these areas."""
    return np.sqrt(areas * 4.0 / np.pi)


def median_diameter(labels: LabelArray) -> float:
    """Compute the median diameter of the discs with the cells' areas, in pixels.

    Returns
    -------
    float
        NaN for an image without cells.
    """
    areas = np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    return float(np.median(disc_diameters(areas))) if areas.size else float("nan")
