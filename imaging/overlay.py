"""Outlines of labels on an image, to look at."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from imaging.image import Image
from imaging.writing import replacing

SIDE_PX = 4096  # longest side of a written overlay; slides are reduced to it
SHOWN_PERCENTILES = (0.5, 99.5)  # black and white of the display, per cent
# Eight bright colours that stand out on grey, dark, and pink images; neighbours rarely share one
COLOURS = np.array(
    [
        (255, 225, 25),
        (60, 255, 75),
        (0, 220, 255),
        (255, 60, 60),
        (255, 150, 0),
        (240, 50, 230),
        (70, 110, 255),
        (190, 255, 60),
    ],
    np.uint8,
)


def draw_overlay(image: NDArray[np.generic], labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Draw the outline of every instance on an image.

    Parameters
    ----------
    image : (Y, X, C) ndarray of int or float, C in {1, 3}
        Stretched for display from its 0.5th to its 99.5th percentile, channels jointly.
    labels : (Y, X) ndarray of int
        0 is background. The outline is the instance's own outermost pixels, so that touching
        instances keep a line each.

    Returns
    -------
    (Y, X, 3) ndarray of uint8
        The image, with outlines coloured by id.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.shape[:2] != labels.shape:
        raise ValueError(
            f"wanted (Y, X, 1 or 3) and (Y, X) of one size, got {image.shape} and {labels.shape}"
        )
    pixels = image.astype(np.float32)
    if pixels.size == 0:
        return np.zeros((*labels.shape, 3), np.uint8)
    low, high = np.percentile(pixels, SHOWN_PERCENTILES)
    shown = np.clip((pixels - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    drawn = np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown
    outlines = find_outlines(labels)
    drawn[outlines] = COLOURS[labels[outlines] % len(COLOURS)]
    return drawn


def find_outlines(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Find the outermost pixels of every instance.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.

    Returns
    -------
    (Y, X) ndarray of bool
        Pixels of an instance with one of four neighbours outside it; the image's edge does
        not count as outside.
    """
    outlines = np.zeros(labels.shape, bool)
    differs_y = labels[1:] != labels[:-1]
    differs_x = labels[:, 1:] != labels[:, :-1]
    outlines[1:] |= differs_y
    outlines[:-1] |= differs_y
    outlines[:, 1:] |= differs_x
    outlines[:, :-1] |= differs_x
    outlines &= labels != 0
    return outlines


def write_overlay(
    path: Path, image: Image, labels: NDArray[np.integer[Any]], side_px: int = SIDE_PX
) -> None:
    """Write an overlay as a PNG; slides are reduced, so that memory stays bounded.

    Parameters
    ----------
    path : Path
        Final name; an existing file is replaced.
    image : Image
        Open image of size (Y, X).
    labels : (Y, X) ndarray or memmap of int
        0 is background.
    side_px : int
        Longest side of the PNG.

    Raises
    ------
    ValueError
        If the sizes differ.
    ImageError
        If the image cannot be read or the file cannot be written.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"wanted labels of {image.shape[:2]}, got {labels.shape}")
    overview = image.overview(side_px)
    rows, columns = (
        _nearest(n_full, n_reduced)
        for n_full, n_reduced in zip(labels.shape, overview.shape, strict=False)
    )
    reduced = np.stack([labels[row][columns] for row in rows])
    with replacing(path) as hidden:
        PillowImage.fromarray(draw_overlay(overview, reduced)).save(hidden, format="PNG")


def _nearest(n_full: int, n_reduced: int) -> NDArray[np.int64]:
    """Index of the full axis nearest to each step of the reduced one.

    Blocks of a whole number of pixels have a last one that may be cut; anything else comes from
    a pyramid level, whose steps are a fraction.
    """
    whole = math.ceil(n_full / n_reduced)
    step = whole if math.ceil(n_full / whole) == n_reduced else n_full / n_reduced
    centres = ((np.arange(n_reduced) + 0.5) * step).astype(np.int64)
    return np.minimum(centres, n_full - 1)
