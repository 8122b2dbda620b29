"""Let one expert segment one image, from its normalisation to its label image."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imaging.image import Image
from imaging.normalise import fit_normaliser
from tiling.engine import TilingSettings, segment
from tiling.maps import TileNetwork
from tiling.raster import new_raster
from tiling.views import representative_views

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segmentation:
    """The instances of one image.

    Attributes
    ----------
    labels : (Y, X) ndarray of int32
        0 is background, ids are 1..n_cells; on disk if it is large.
    n_cells : int
    """

    labels: npt.NDArray[np.int32]
    n_cells: int


def apply_expert(
    network: TileNetwork,
    image: Image,
    overview: npt.NDArray[np.float32],
    folder: Path,
    settings: TilingSettings,
) -> Segmentation:
    """Segment an image at the scale that an expert chooses.

    Parameters
    ----------
    network : TileNetwork
        The expert.
    image : Image
        Open, of size (Y, X).
    overview : (y, x, C) ndarray of float32
        The whole image, possibly reduced: its percentiles normalise every region.
    folder : Path
        Where a large label image may take space.
    settings : TilingSettings

    Returns
    -------
    Segmentation

    Raises
    ------
    ImageError
        If the file's data cannot be decoded.
    MemoryError
        If not even one window fits in the device's memory.
    OSError
        If a large label image finds no space in the folder.
    """
    normaliser = fit_normaliser(overview, network.normalisation)
    scale = network.choose_scale(representative_views(image, overview, normaliser))
    logger.debug("%s: %.3g network pixels a pixel", image.path.name, scale)
    labels = new_raster(image.shape[:2], folder)
    n_cells = segment(image, normaliser, network, scale, labels, settings)
    return Segmentation(labels, n_cells)
