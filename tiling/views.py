"""Choose a few views of an image that show what its cells look like."""

import numpy as np

from imaging.image import Box, Image
from imaging.normalise import Normaliser
from tiling.cover import cover
from tiling.sampling import Float32
from tiling.survey import WHOLE_PX, measure_texture

VIEW_PX = 1024
"""Side of a view in native pixels."""

STEP_PX = 512
"""Distance of the places where a view may lie: tissue hardly larger than a view then fills one."""

FEWEST_VIEWS, N_VIEWS = 2, 4
"""How many views, where there is room: not the best alone, since that may show dirt."""

FULL_SHARE = 0.6
"""Least texture, beside the best, of views that are not needed: in a view half of glass the tissue
looks like one large cell."""


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
        Normalised. The whole image where no side exceeds `tiling.survey.WHOLE_PX`; otherwise
        crops of `VIEW_PX` that do not overlap, with the most texture, in raster order.
    """
    height, width = image.shape[:2]
    if max(height, width) <= WHOLE_PX:
        return [normaliser.apply(image.read((0, 0, height, width)))]
    boxes = choose_views(overview, (height, width))
    return [normaliser.apply(image.read(box)) for box in boxes]


def choose_views(overview: Float32, shape: tuple[int, int]) -> list[Box]:
    """Choose where a large image shows most.

    Parameters
    ----------
    overview : (Y, X, C) ndarray of float32
        The whole image, possibly reduced.
    shape : (int, int)
        Height and width of the image in native pixels.

    Returns
    -------
    list of Box
        At least one, in raster order.
    """
    boxes = [tile.window for tile in cover(shape, VIEW_PX, halo_px=(VIEW_PX - STEP_PX) // 2)]
    texture = measure_texture(overview, shape, boxes)
    full = FULL_SHARE * texture.max()
    chosen: list[int] = []
    for index in np.argsort(-texture, kind="stable").tolist():
        if len(chosen) == N_VIEWS or (len(chosen) >= FEWEST_VIEWS and texture[index] < full):
            break
        if not any(_overlap(boxes[index], boxes[other]) for other in chosen):
            chosen.append(index)
    return [boxes[index] for index in sorted(chosen)]


def _overlap(one: Box, other: Box) -> bool:
    """Tell whether two boxes share a pixel."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
