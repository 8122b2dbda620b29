"""Cut the work on an image so that it stays within an amount of memory."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiling.blocks import GROWTHS, MIN_PART_PX
from tiling.settings import TilingSettings

if TYPE_CHECKING:
    from tiling.maps import TileNetwork

logger = logging.getLogger(__name__)

BASE_BYTES = 1.2 * 2**30
"""Interpreter, libraries, weights, one batch in the network in float32 (measured: CPnet 832 MiB,
CDNet 727, U-Net 557), decoded pieces of a slide (256), and a label image, of which the large part
is on disk (128)."""

DECODING_BYTES = 90
"""Working memory of a decoder for a pixel. Measured on 2048 x 2048 pixels: flows take 70 where 72 %
are cell and 82 where all are, U-Net's classes 25, CDNet's 98, which its smaller base outweighs."""

MAP_BYTES = 4
"""Of one map's pixel, float32."""

WINDOW_BYTES = 12
"""Of a pixel that was read for the network: three channels of float32."""

SMALLER_BLOCKS_PX = (1536, 1024, 768, 512, 384, 256)
"""Sides tried where the wanted one does not fit. Smaller ones cost time: halos stay as wide."""

SEVERAL_FROM_PX = 1536
"""More than one decoder is not worth smaller blocks than these."""

SERIAL_BELOW_PX = 1024
"""Blocks are decoded beside the network down to this side; then that memory serves them better."""

MIN_CACHE_BYTES = 2**28
"""More than one decoder is not worth keeping less of maps than this: what is dropped is computed
again."""

GROWN_SHARE = 0.75
"""Of the memory that is left where a halo is grown, the largest share that decoding it takes from
the cache."""


@dataclass(frozen=True)
class _Demand:
    """Bytes that an image takes at its two fullest moments, besides what is kept for later blocks.

    Attributes
    ----------
    usual : float
        While blocks are decoded beside the network.
    grown : float
        While one block has the widest halo and is decoded alone, without that decoding.
    pixel : float
        Of each pixel that is then decoded at once.
    """

    usual: float
    grown: float
    pixel: float


def fit_memory(settings: TilingSettings, network: "TileNetwork") -> TilingSettings:
    """Choose the size of blocks, how many are decoded at once, and what is kept of maps.

    Parameters
    ----------
    settings : TilingSettings
        Its `block_px`, `n_decoders`, `n_ahead` and `cache_bytes` are the largest that are wanted.
    network : TileNetwork

    Returns
    -------
    TilingSettings
        The same without a limit. Where not even the smallest block fits, that one, with a warning.

    Notes
    -----
    Below `SERIAL_BELOW_PX` smaller blocks hardly help where a halo is grown, and cost the more: the
    limit then holds without that, and a message tells what it may take.

    Peaks measured on 6144 x 6144 pixels of CPnet that cells fill (72 %), one block with the widest
    halo: 2.2 GiB under a limit of 3, 1.7 under 2.
    """
    limit = settings.max_memory_bytes
    if limit is None:
        limit = settings.usual_memory_bytes
    if limit is None:
        return settings
    chosen = settings
    for block_px, n_decoders in _sizes(settings):
        n_ahead = min(settings.n_ahead, n_decoders + 1)
        chosen = replace(settings, block_px=block_px, n_decoders=n_decoders, n_ahead=n_ahead)
        fitted = _share_out(limit, chosen, network)
        if fitted is not None:
            _tell_of_grown(limit, fitted, network)
            return fitted
    smallest = replace(chosen, cache_bytes=0, max_decoded_px=_smallest_part_px(network))
    need = estimate_bytes(smallest, network)
    logger.warning(
        "large images need %.1f GiB, more than the %.1f allowed", need / 2**30, limit / 2**30
    )
    return smallest


def estimate_bytes(settings: TilingSettings, network: "TileNetwork") -> float:
    """Estimate the most memory that a large image takes, without what is kept for later blocks.

    Parameters
    ----------
    settings : TilingSettings
    network : TileNetwork

    Returns
    -------
    float
        The base, the windows that are read ahead, and the larger of two amounts: for the pixels of
        a block with its halo, the decoder's memory and the maps of each block that is decoded, the
        maps of the one that is being computed, and those of the windows of all of them; or the
        maps, and the decoder's memory for one block whose halo had to grow, which is decoded alone,
        in parts if that is more than `max_decoded_px`.
    """
    demand = _count(settings, network)
    decoded_px: float = (settings.block_px + 2 * GROWTHS[-1] * network.object_px) ** 2
    if settings.max_decoded_px is not None:
        decoded_px = min(decoded_px, settings.max_decoded_px)
    return max(demand.usual, demand.grown + decoded_px * demand.pixel)


def _count(settings: TilingSettings, network: "TileNetwork") -> _Demand:
    """Count what blocks of a size take."""
    side, widest = (
        settings.block_px + 2 * growth * network.object_px for growth in (GROWTHS[0], GROWTHS[-1])
    )
    maps, n_decoders = MAP_BYTES * network.n_maps, settings.n_decoders
    n_batches = settings.n_ahead + 1 + max(1, n_decoders)  # readers make each of a copy
    tile_px = settings.tile_px or network.tile_px
    rest = BASE_BYTES + n_batches * settings.batch_size * tile_px**2 * WINDOW_BYTES
    n_at_work = n_decoders + 1  # with the next one, which the network is busy with
    usual = max(1, n_decoders) * DECODING_BYTES + 2 * n_at_work * maps
    grown = side**2 * 2 * n_decoders * maps + widest**2 * maps  # the block's own are in the latter
    return _Demand(rest + side**2 * usual, rest + grown, DECODING_BYTES + maps)


def _share_out(
    limit: float, settings: TilingSettings, network: "TileNetwork"
) -> TilingSettings | None:
    """Share what blocks leave between the cache and a grown halo; None if that is too little."""
    demand = _count(settings, network)
    left, left_grown = limit - demand.usual, limit - demand.grown
    smallest_px = _smallest_part_px(network)
    smallest = smallest_px * demand.pixel
    if left < 0 or (left_grown < smallest and settings.block_px > SERIAL_BELOW_PX):
        return None
    if left_grown < smallest:
        cache = int(min(settings.cache_bytes, left))
        return replace(settings, cache_bytes=cache, max_decoded_px=smallest_px)
    twofold = (settings.block_px + 2 * GROWTHS[1] * network.object_px) ** 2 * demand.pixel
    decoding = max(smallest, min(twofold, GROWN_SHARE * left_grown))
    cache = int(min(settings.cache_bytes, left, left_grown - decoding))
    if settings.n_decoders > 1 and cache < min(settings.cache_bytes, MIN_CACHE_BYTES):
        return None
    decoded_px = (left_grown - cache) / demand.pixel
    return replace(settings, cache_bytes=cache, max_decoded_px=int(decoded_px))


def _tell_of_grown(limit: float, settings: TilingSettings, network: "TileNetwork") -> None:
    """Say so if an object that its halo does not hold may take more than the limit."""
    need = estimate_bytes(settings, network) + settings.cache_bytes
    if need > limit:
        logger.info(
            "cells wider than %d pixels of the network may take %.1f GiB, more than the %.1f"
            " allowed",
            network.object_px,
            need / 2**30,
            limit / 2**30,
        )


def _smallest_part_px(network: "TileNetwork") -> int:
    """Count the pixels of the smallest part of a block with the widest halo."""
    return (MIN_PART_PX + 2 * GROWTHS[-1] * network.object_px) ** 2


def _sizes(settings: TilingSettings) -> Iterator[tuple[int, int]]:
    """List sides of blocks and numbers of decoders, what is wanted first, the smallest last."""
    smaller = [block_px for block_px in SMALLER_BLOCKS_PX if block_px < settings.block_px]
    for n_decoders in range(settings.n_decoders, 1, -1):
        yield settings.block_px, n_decoders
        yield from ((px, n_decoders) for px in smaller if px >= SEVERAL_FROM_PX)
    n_decoders = min(1, settings.n_decoders)
    yield settings.block_px, n_decoders
    yield from ((px, n_decoders if px >= SERIAL_BELOW_PX else 0) for px in smaller)
