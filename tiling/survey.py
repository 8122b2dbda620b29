"""The first look at an image: where there is something to see, and what it looks like.

A slide reduced to an overview tells where its tissue is, but not what it looks like: cells are
averaged away, and blank glass fills most of it. Modality and range of intensities are therefore
measured where the cells are, on pixels like those that router and networks have learnt from.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from imaging.image import Box, Image
from tiling.cover import cover
from tiling.sampling import Float32

WHOLE_PX = 1536
"""Largest side of an image that is looked at as a whole; crops of it would overlap more than they
save."""

FIELD_PX = 512
"""Side of a field in native pixels: that of most images that the router has learnt from."""

GRIDS = ((4, 4), (3, 4), (3, 3), (2, 3), (2, 2), (1, 3), (1, 2), (1, 1))
"""Rows and columns in which fields may be set side by side: nearly square, since the router reduces
by the longer side."""

FAINTEST = 1e-3
"""Texture that counts as none, as a share of the strongest."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What the first look at an image gives.

    Attributes
    ----------
    overview : (y, x, C) ndarray of float32
        The whole image, possibly reduced, in its own units: where there is something to see.
    fields : (y, x, C) ndarray of float32
        What it looks like, in the same units: the overview, or, of an image larger than
        :data:`WHOLE_PX`, fields with texture in native pixels, set side by side.
    """

    overview: Float32
    fields: Float32


def survey_image(image: Image) -> Survey:
    """Look at an image for the first time.

    Parameters
    ----------
    image : Image

    Returns
    -------
    Survey

    Raises
    ------
    imaging.image.ImageError
        If the file's data cannot be decoded.
    """
    overview = image.overview()
    if max(image.shape[:2]) <= WHOLE_PX:
        return Survey(overview, overview)
    boxes = choose_fields(overview, image.shape[:2])
    n_columns = next(columns for rows, columns in GRIDS if rows * columns == len(boxes))
    read = [image.read(box).astype(np.float32) for box in boxes]
    rows = [np.hstack(read[at : at + n_columns]) for at in range(0, len(read), n_columns)]
    return Survey(overview, np.vstack(rows))


def choose_fields(overview: Float32, shape: tuple[int, int]) -> list[Box]:
    """Choose fields of an image that show more than its ground.

    Parameters
    ----------
    overview : (y, x, C) ndarray of float32
        The whole image, possibly reduced.
    shape : (int, int)
        Height and width of the image in native pixels.

    Returns
    -------
    list of Box
        At least 1, as many as one of :data:`GRIDS` holds, all of one shape, in raster order and
        spread evenly over all that have texture.

    Notes
    -----
    Texture lies over orders of magnitude, so that Otsu's threshold is taken of its logarithm.
    """
    boxes = [tile.window for tile in cover(shape, FIELD_PX, halo_px=0)]
    texture = measure_texture(overview, shape, boxes)
    faintest = max(FAINTEST * float(texture.max()), 1e-30)
    strength: Float32 = np.log(texture + np.float32(faintest))
    telling = np.flatnonzero(strength > _split(strength))
    if not len(telling):  # all alike
        telling = np.arange(len(boxes))
    n_fields = next(n for n in (rows * columns for rows, columns in GRIDS) if n <= len(telling))
    chosen = telling[np.linspace(0, len(telling) - 1, n_fields).round().astype(int)]
    return [boxes[index] for index in chosen]


def measure_texture(overview: Float32, shape: tuple[int, int], boxes: list[Box]) -> Float32:
    """Measure how much neighbouring pixels of an overview differ in each of some boxes.

    Parameters
    ----------
    overview : (y, x, C) ndarray of float32
        The whole image, possibly reduced.
    shape : (int, int)
        Height and width of the image in native pixels.
    boxes : list of Box
        In native pixels.

    Returns
    -------
    (N,) ndarray of float32
        Mean difference of a pixel from the one below and the one to its right.
    """
    grey: Float32 = overview.mean(axis=2)
    texture = np.zeros_like(grey)
    texture[:-1] += np.abs(np.diff(grey, axis=0))
    texture[:, :-1] += np.abs(np.diff(grey, axis=1))
    step_y, step_x = texture.shape[0] / shape[0], texture.shape[1] / shape[1]
    return np.array([_mean_over(texture, box, step_y, step_x) for box in boxes], np.float32)


def _mean_over(texture: Float32, box: Box, step_y: float, step_x: float) -> float:
    """Average the texture over a box of native pixels."""
    y0, y1 = int(box[0] * step_y), int(np.ceil(box[2] * step_y))
    x0, x1 = int(box[1] * step_x), int(np.ceil(box[3] * step_x))
    return float(texture[y0:y1, x0:x1].mean())


def _split(values: Float32) -> float:
    """Find Otsu's threshold between two kinds of values."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return low
    levels = np.round((values - low) / (high - low) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return low + (float(threshold) + 0.5) / 255 * (high - low)
