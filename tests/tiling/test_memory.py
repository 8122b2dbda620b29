import dataclasses
import logging

import pytest

from models import cdnet_expert, cellpose_expert, unet_expert
from tests.fakes import DiscNetwork
from tiling.blocks import GROWTHS
from tiling.expert import NOT_IN_KEY
from tiling.memory import BASE_BYTES, estimate_bytes, fit_memory
from tiling.settings import DEFAULT_MEMORY_GIB, TilingSettings

NETWORK = DiscNetwork(object_px=128, n_maps=13)
GIB = 2**30
USUAL = round(DEFAULT_MEMORY_GIB * GIB)
CPNET, CDNET, UNET = (
    DiscNetwork(tile_px=of.tile_px, object_px=of.object_px, n_maps=of.n_maps)
    for of in (cellpose_expert.WINDOWS, cdnet_expert.WINDOWS, unet_expert.WINDOWS)
)


def test_no_limit_changes_nothing():
    settings = TilingSettings()
    assert fit_memory(settings, NETWORK) is settings


@pytest.mark.parametrize("limit_gib", [1.6, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("n_decoders", [0, 1, 4])
def test_what_is_chosen_fits(limit_gib, n_decoders, caplog):
    limit = int(limit_gib * GIB)
    wanted = TilingSettings(n_decoders=n_decoders, max_memory_bytes=limit)
    fitted = fit_memory(wanted, NETWORK)
    assert estimate_bytes(fitted, NETWORK) + fitted.cache_bytes <= limit
    assert fitted.block_px <= wanted.block_px
    assert fitted.n_decoders <= n_decoders
    assert fitted.n_ahead <= wanted.n_ahead
    assert fitted.cache_bytes <= wanted.cache_bytes
    assert not caplog.records


@pytest.mark.parametrize("network", [CPNET, CDNET, UNET])
@pytest.mark.parametrize("n_decoders", [1, 2, 4])
def test_every_expert_fits_the_usual_limit_without_small_blocks(network, n_decoders):
    wanted = TilingSettings(n_decoders=n_decoders, n_ahead=n_decoders + 1, usual_memory_bytes=USUAL)
    fitted = fit_memory(wanted, network)
    assert estimate_bytes(fitted, network) + fitted.cache_bytes <= USUAL
    assert fitted.block_px >= 1536
    assert fitted.n_decoders >= min(2, n_decoders)
    if n_decoders == 1:  # as on two cores: nothing is slower than without the limit
        assert fitted.block_px == wanted.block_px
    # A halo of twice the width is mostly decoded at once; parts of it are no small ones.
    assert (fitted.max_decoded_px or 0) >= 2048**2


def test_a_limit_that_is_named_overrules_the_usual_one_upwards_and_downwards():
    wanted = TilingSettings(n_decoders=4, n_ahead=5, usual_memory_bytes=USUAL)
    usual, more, less = (
        fit_memory(dataclasses.replace(wanted, max_memory_bytes=limit), CPNET)
        for limit in (None, 8 * GIB, 2 * GIB)
    )
    assert (more.block_px, more.n_decoders, more.cache_bytes) == (2048, 4, wanted.cache_bytes)
    assert usual.n_decoders < more.n_decoders
    assert less.block_px < usual.block_px


def test_what_only_memory_decides_does_not_name_stored_blocks():
    fitted = [fit_memory(TilingSettings(max_memory_bytes=gib * GIB), CPNET) for gib in (3, 4)]
    assert fitted[0] != fitted[1]
    keys = [
        {k: v for k, v in dataclasses.asdict(settings).items() if k not in NOT_IN_KEY}
        for settings in fitted
    ]
    assert keys[0] == keys[1]


def test_more_memory_never_gives_smaller_blocks():
    for network in (NETWORK, CPNET):
        sizes = [
            fit_memory(TilingSettings(max_memory_bytes=gib * 2**28), network).block_px
            for gib in range(6, 40)
        ]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1] == TilingSettings().block_px


def test_the_widest_halo_counts_once_and_as_far_as_it_is_decoded_at_once():
    widest_px = (2048 + 2 * GROWTHS[-1] * CPNET.object_px) ** 2
    whole, bounded, small = (
        estimate_bytes(TilingSettings(max_decoded_px=limit), CPNET)
        for limit in (None, widest_px // 2, 1)
    )
    assert estimate_bytes(TilingSettings(max_decoded_px=widest_px), CPNET) == whole
    assert whole > bounded > small
    several = TilingSettings(n_decoders=2)  # with the maps of one block more, not its decoding
    assert estimate_bytes(several, CPNET) - whole < 0.1 * whole


def test_larger_batches_and_windows_count():
    usual = estimate_bytes(TilingSettings(), NETWORK)
    assert estimate_bytes(TilingSettings(batch_size=64), NETWORK) > usual
    assert estimate_bytes(TilingSettings(tile_px=1024), NETWORK) > usual


def test_too_little_for_a_grown_halo_is_told_and_blocks_stay_useful(caplog):
    caplog.set_level(logging.INFO)
    limit = round(1.75 * GIB)
    fitted = fit_memory(TilingSettings(max_memory_bytes=limit), CPNET)
    assert fitted.block_px == 1024
    assert estimate_bytes(fitted, CPNET) > limit
    assert "wider than 256 pixels" in caplog.text


def test_too_little_memory_is_said_and_the_smallest_blocks_are_taken(caplog):
    fitted = fit_memory(TilingSettings(max_memory_bytes=int(BASE_BYTES / 2)), NETWORK)
    assert (fitted.block_px, fitted.n_decoders, fitted.cache_bytes) == (256, 0, 0)
    assert "GiB" in caplog.text
