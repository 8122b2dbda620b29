"""The size of cells, and the window of an image that an expert estimates it on."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.segmenter import FloatArray, LabelArray

LOOK_PX = 384  # largest side of a window whose cells are looked at, in network pixels
STYLE_PX = 256  # and of one whose style vector alone is asked for; the grey experts take the other
MIN_VIEW_PX = 64


def resize_view(view: FloatArray, factor: float, largest: int) -> FloatArray:
    """Resample a view and cut or mirror its middle to a window the network takes.

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
        Sides multiples of 32 from 64 to the largest.
    """
    height, width = (max(2, round(side * factor)) for side in view.shape[:2])
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(view, (width, height), interpolation=smooth)
    y0, x0 = (max(0, (side - largest) // 2) for side in (height, width))
    small = small[y0 : y0 + largest, x0 : x0 + largest]
    pad = [(0, max(MIN_VIEW_PX - side, -side % 32)) for side in small.shape[:2]]
    return np.pad(small, (*pad, (0, 0)), mode="symmetric")


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
