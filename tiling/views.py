"""Choose a few views of an image that show what its cells look like."""

import numpy as np
import numpy.typing as npt

from imaging.image import Box, Image
from imaging.normalise import Normaliser
from tiling.cover import cover
from tiling.sampling import Float32

VIEW_PX = 1024
"""Side of a view in native pixels."""

N_VIEWS = 4
"""Largest number of views."""

WHOLE_PX = 1536
"""Largest side of an image that is one view; crops of it would overlap more than they save."""


def representative_views(
    image: Image, overview: npt.NDArray[np.generic], normaliser: Normaliser
) -> list[Float32]:
    """Read the views from which a network estimates the size of cells.

    Parameters
    ----------
    image : Image
        Read in native pixels.
    overview : (Y, X, C) ndarray
        The whole image, possibly reduced; tells where there is something to see.
    normaliser : Normaliser
        Fitted to the overview.

    Returns
    -------
    list of (Y, X, 3) ndarray of float32
        Normalised. The whole image where no side exceeds `WHOLE_PX`; otherwise the `N_VIEWS`
        crops of `VIEW_PX` with the most texture, in raster order.
    """
    height, width = image.shape[:2]
    if max(height, width) <= WHOLE_PX:
        return [normaliser.apply(image.read((0, 0, height, width)))]
    boxes = [tile.window for tile in cover((height, width), VIEW_PX, halo_px=0)]
    texture = _texture(overview)
    step_y, step_x = texture.shape[0] / height, texture.shape[1] / width
    means = [_mean_over(texture, box, step_y, step_x) for box in boxes]
    chosen = sorted(np.argsort(means, kind="stable")[::-1][:N_VIEWS].tolist())
    return [normaliser.apply(image.read(boxes[index])) for index in chosen]


def _texture(overview: npt.NDArray[np.generic]) -> Float32:
    """Measure how much each pixel differs from the one below and the one to its right."""
    grey: Float32 = overview.astype(np.float32).mean(axis=2)
    texture = np.zeros_like(grey)
    texture[:-1] += np.abs(np.diff(grey, axis=0))
    texture[:, :-1] += np.abs(np.diff(grey, axis=1))
    return texture


def _mean_over(texture: Float32, box: Box, step_y: float, step_x: float) -> float:
    """Average the texture over a box of native pixels."""
    y0, y1 = int(box[0] * step_y), int(np.ceil(box[2] * step_y))
    x0, x1 = int(box[1] * step_x), int(np.ceil(box[3] * step_x))
    return float(texture[y0:y1, x0:x1].mean())
