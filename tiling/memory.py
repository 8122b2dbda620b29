"""Cut the work on an image so that it stays within an amount of memory."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tiling.blocks import GROWTHS
from tiling.settings import TilingSettings

if TYPE_CHECKING:
    from tiling.maps import TileNetwork

logger = logging.getLogger(__name__)

BASE_BYTES = 1.25 * 2**30
"""Interpreter, libraries, weights, one batch in the network, decoded pieces of a slide, and a label
image of which the large part is on disk. Measured: 0.6 to 0.9 GiB without the reader's pieces."""

DECODING_BYTES = 100
"""Working memory of the greediest decoder (CDNet's) for a pixel; flows take 30. Measured on 2048 x
2048 pixels."""

MAP_BYTES = 4
"""Of one map's pixel, float32."""

SMALLER_BLOCKS_PX = (1536, 1024, 768, 512, 384, 256)
"""Sides tried where the wanted one does not fit. Smaller ones cost time: halos stay as wide."""

SERIAL_BELOW_PX = 1024
"""Blocks are decoded beside the network down to this side; then that memory serves them better."""


def fit_memory(settings: TilingSettings, network: "TileNetwork") -> TilingSettings:
    """Choose the size of blocks, how many are decoded at once, and what is kept of maps.

    Parameters
    ----------
    settings : TilingSettings
        Its `block_px`, `n_decoders` and `cache_bytes` are the largest that are wanted.
    network : TileNetwork

    Returns
    -------
    TilingSettings
        The same without a limit. Where not even the smallest block fits, that one, with a warning.
    """
    limit = settings.max_memory_bytes
    if limit is None:
        return settings
    chosen = settings
    for block_px, n_decoders in _sizes(settings):
        chosen = replace(settings, block_px=block_px, n_decoders=n_decoders)
        left = limit - estimate_bytes(chosen, network)
        if left >= 0:
            return replace(chosen, cache_bytes=min(settings.cache_bytes, int(left)))
    need = estimate_bytes(chosen, network)
    logger.warning(
        "large images need %.1f GiB, more than the %.1f allowed", need / 2**30, limit / 2**30
    )
    return replace(chosen, cache_bytes=0)


def estimate_bytes(settings: TilingSettings, network: "TileNetwork") -> float:
    """Estimate the memory that a large image takes, without what is kept for later blocks.

    Parameters
    ----------
    settings : TilingSettings
    network : TileNetwork

    Returns
    -------
    float
        The base, and for the pixels of a block with its halo: the decoder's memory and the maps of
        each block that is decoded, the maps of the one that is being computed, and those of the
        windows of all of them.
    """
    side = settings.block_px + 2 * GROWTHS[0] * network.object_px
    maps = MAP_BYTES * network.n_maps
    n_decoded = max(1, settings.n_decoders)
    n_at_work = settings.n_decoders + 1  # with the next one, which the network is busy with
    return BASE_BYTES + side**2 * (n_decoded * DECODING_BYTES + 2 * n_at_work * maps)


def _sizes(settings: TilingSettings) -> Iterator[tuple[int, int]]:
    """List sides of blocks and numbers of decoders, what is wanted first, the smallest last."""
    n_wanted = settings.n_decoders
    yield from ((settings.block_px, n) for n in range(n_wanted, 0, -1))
    for block_px in SMALLER_BLOCKS_PX:
        if block_px < settings.block_px:
            if block_px >= SERIAL_BELOW_PX and n_wanted:
                yield block_px, 1
            else:
                yield block_px, 0
