"""Segment an image of any size with one network, block by block, as if it were one piece."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging.image import Box, Image
from imaging.normalise import Normaliser
from tiling.blocks import GROWTHS, Instances, find_owned, grow_box, split_blocks
from tiling.maps import MapSource, TileNetwork
from tiling.raster import LabelRaster
from tiling.sampling import Float32, ScaledImage, build_geometry
from tiling.settings import TilingSettings

__all__ = ["TilingSettings", "segment"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Decoded:
    """One decoded region and what its block owns of it."""

    region: Box
    labels: npt.NDArray[np.int32]
    foreground: Float32
    owned: Instances


def segment(
    image: Image,
    normaliser: Normaliser,
    network: TileNetwork,
    scale: float,
    labels: npt.NDArray[np.int32],
    settings: TilingSettings | None = None,
) -> int:
    """Segment an image into a label image of its own size.

    Parameters
    ----------
    image : Image
        Read region by region.
    normaliser : Normaliser
        Fitted to an overview of the whole image.
    network : TileNetwork
    scale : float
        Network pixels per native pixel, positive.
    labels : (Y, X) ndarray of int32
        Zeros of the image's size (`tiling.raster.new_raster`); filled in place with 0 for
        background and ids 1..N.
    settings : TilingSettings, optional

    Returns
    -------
    int
        N, the number of instances.

    Raises
    ------
    ValueError
        If the scale, the tile or the label image does not fit.
    MemoryError
        If not even one window fits in the device's memory.

    Notes
    -----
    Windows lie on one lattice fixed to the image; blocks of them are decoded with a halo, and every
    instance is written by the one block whose core holds its canonical point. Ids follow the blocks
    in raster order. Memory depends on the block, the tile and the batch, not on the image.

    An object larger than its block's halo makes that block try again with a halo two and four times
    as wide. Beyond that (a warning says so) its parts are joined under one id, never counted twice,
    but its outline may depend on the blocks.
    """
    settings = settings or TilingSettings()
    native = image.shape[0], image.shape[1]
    if labels.shape != native:
        raise ValueError(f"labels must have the image's shape {native}, got {labels.shape}")
    geometry = build_geometry(native, scale)
    maps = MapSource(
        ScaledImage(image, normaliser, geometry),
        geometry.network,
        network,
        settings.tile_px or network.tile_px,
        settings.batch_size,
    )
    raster = LabelRaster(labels, geometry)
    n_cut = 0
    for core in split_blocks(geometry.network, settings.block_px):
        decoded = _decode_block(maps, network, core, geometry.network)
        raster.add(decoded.labels, decoded.foreground, decoded.region, decoded.owned)
        n_cut += int(decoded.owned.cut.sum())
    if n_cut:
        logger.warning(
            "%s: %d parts of objects larger than a block's halo were joined, their outlines may be"
            " rough",
            image.path.name,
            n_cut,
        )
    return raster.close_gaps()


def _decode_block(
    maps: MapSource, network: TileNetwork, core: Box, shape: tuple[int, int]
) -> _Decoded:
    """Decode a block with the narrowest halo that holds all it owns."""
    regions = [grow_box(core, growth * network.object_px, shape) for growth in GROWTHS]
    decoded = _decode_region(maps, network, regions[0], core, shape)
    for region in regions[1:]:
        if not decoded.owned.cut.any():
            break
        decoded = _decode_region(maps, network, region, core, shape)
    return decoded


def _decode_region(
    maps: MapSource, network: TileNetwork, region: Box, core: Box, shape: tuple[int, int]
) -> _Decoded:
    """Decode a region and find what its block owns."""
    region_maps = maps.read(region)
    labels = network.decode(region_maps)
    owned = find_owned(labels, region, core, shape)
    return _Decoded(region, labels, network.foreground(region_maps), owned)
