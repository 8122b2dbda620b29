"""Choose the scale that CDNet sees an image at, by what it finds at two scales."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.segmenter import FloatArray, LabelArray
from models.size_view import disc_diameters

# Chosen on validation images (see ARCHITECTURE.md).
SMALL_PX = 14.5  # median diameter below which the boundary class, 3 px wide, leaves no inside
ENLARGED = 1.5
LARGE_PX = 32.0  # median diameter, seen at half size, from which texture may be taken for cells
GROWTH = 1.15  # by which such cells must look larger at half size than at full size
REDUCED = 0.5
CROWDED = 0.15  # share of the image that cells cover, from which small ones are not enlarged
MIN_CELLS = 5  # fewer say nothing of the size


@dataclass(frozen=True)
class CellSizes:
    """Diameters of the cells that were found at one scale.

    Attributes
    ----------
    median_px : float
        Of the discs with the cells' areas, in native pixels; 0 without cells.
    n_cells : int
    covered : float
        Share of the pixels that they cover.
    """

    median_px: float
    n_cells: int
    covered: float = 0.0


def choose_cdnet_scale(full: CellSizes, half: CellSizes) -> float:
    """Choose network pixels a native pixel.

    Parameters
    ----------
    full, half : CellSizes
        As found at one network pixel a native pixel, and at a half.

    Returns
    -------
    float
        1.5 for scattered cells so small that their boundaries fill them; 0.5 for large cells that
        fall into pieces at full size (seen at half size they are larger); otherwise 1.

    Notes
    -----
    The network learns at the files' own scale, where the cells of the data sets differ by a
    factor of ten; this brings the ends of that range nearer to its middle.
    """
    if half.n_cells >= MIN_CELLS and half.median_px >= max(LARGE_PX, GROWTH * full.median_px):
        return REDUCED
    is_small = full.n_cells >= MIN_CELLS and full.median_px < SMALL_PX
    if is_small and full.covered < CROWDED:
        return ENLARGED
    return 1.0


def measure_cells(
    windows: Sequence[FloatArray], segment: Callable[[FloatArray], LabelArray], scale: float
) -> CellSizes:
    """Measure the cells in some windows of an image.

    Parameters
    ----------
    windows : sequence of (Y, X, 3) ndarray of float32
        Normalised, sides as the network takes them.
    segment : callable
        A window to its labels (Y, X).
    scale : float
        Window pixels a native pixel.

    Returns
    -------
    CellSizes
    """
    areas = np.concatenate([np.zeros(0), *(_areas(segment(window)) for window in windows)])
    if not areas.size:
        return CellSizes(0.0, 0)
    n_pixels = sum(window.shape[0] * window.shape[1] for window in windows)
    diameters = disc_diameters(areas) / scale
    return CellSizes(float(np.median(diameters)), areas.size, float(areas.sum()) / n_pixels)


def _areas(labels: LabelArray) -> NDArray[np.int64]:
    """Count the pixels of each cell."""
    areas: NDArray[np.int64] = np.bincount(labels.ravel())[1:]
    return areas
