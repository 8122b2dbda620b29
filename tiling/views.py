"""Choose a few views of an image that show what its cells look like."""

import numpy as np

from imaging.image import Image
from imaging.normalise import Normaliser
from tiling.cover import cover
from tiling.sampling import Float32
from tiling.survey import WHOLE_PX, measure_texture

VIEW_PX = 1024
"""Side of a view in native pixels."""

N_VIEWS = 4
"""Largest number of views."""


def representative_views(image: Image, overview: Float32, normaliser: Normaliser) -> list[Float32]:
    """Read the views from which a network estimates the size of cells.

    Parameters
    ----------
    image : Image
        Read in native pixels.
    overview : (Y, X, C) ndarray of float32
        The whole image, possibly reduced; tells where there is something to see.
    normaliser : Normaliser
        Of the image.

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
    texture = measure_texture(overview, (height, width), boxes)
    chosen = sorted(np.argsort(texture, kind="stable")[::-1][:N_VIEWS].tolist())
    return [normaliser.apply(image.read(boxes[index])) for index in chosen]
