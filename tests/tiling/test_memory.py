import pytest

from tests.fakes import DiscNetwork
from tiling.memory import BASE_BYTES, estimate_bytes, fit_memory
from tiling.settings import TilingSettings

NETWORK = DiscNetwork(object_px=128, n_maps=13)


def test_no_limit_changes_nothing():
    settings = TilingSettings()
    assert fit_memory(settings, NETWORK) is settings


@pytest.mark.parametrize("limit_gib", [1.6, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("n_decoders", [0, 1, 4])
def test_what_is_chosen_fits(limit_gib, n_decoders, caplog):
    limit = int(limit_gib * 2**30)
    wanted = TilingSettings(n_decoders=n_decoders, max_memory_bytes=limit)
    fitted = fit_memory(wanted, NETWORK)
    assert estimate_bytes(fitted, NETWORK) + fitted.cache_bytes <= limit
    assert fitted.block_px <= wanted.block_px
    assert fitted.n_decoders <= n_decoders
    assert fitted.cache_bytes <= wanted.cache_bytes
    assert not caplog.records


def test_more_memory_never_gives_smaller_blocks():
    sizes = [
        fit_memory(TilingSettings(max_memory_bytes=gib * 2**28), NETWORK).block_px
        for gib in range(6, 40)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == TilingSettings().block_px


def test_too_little_memory_is_said_and_the_smallest_blocks_are_taken(caplog):
    fitted = fit_memory(TilingSettings(max_memory_bytes=int(BASE_BYTES / 2)), NETWORK)
    assert (fitted.block_px, fitted.n_decoders, fitted.cache_bytes) == (256, 0, 0)
    assert "GiB" in caplog.text
