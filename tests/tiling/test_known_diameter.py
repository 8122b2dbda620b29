"""A cell size that the user knows takes the place of the estimate, and never of another size."""

import dataclasses
import logging
from dataclasses import asdict, dataclass

import numpy as np
import pytest

from imaging.normalise import fit_normaliser
from tests.fakes import DiscNetwork, array_image, scatter_discs
from tiling.expert import NOT_IN_KEY, Keeping, apply_expert, describe_inputs
from tiling.settings import TilingSettings
from tiling.survey import survey_image

PIXELS = scatter_discs((310, 257), spacing=24, radius=7)
BLOCKS = TilingSettings(block_px=100)  # of 12 blocks at scale 1


@dataclass
class EstimatingNetwork(DiscNetwork):
    """Want discs at 14 px; estimate another size."""

    style: float = 0.1
    scale: float = 0.8
    wanted_px: float | None = 14.0


class SilentNetwork(EstimatingNetwork):
    """The same, but refuse to estimate."""

    def choose_scale(self, views):
        raise AssertionError("asked for an estimate")


class Stopped(BaseException):
    """Stands for a kill."""


def apply(network, folder, diameter_px, settings=BLOCKS, n_blocks=None):
    """Segment the discs, keeping blocks; be killed after some of them."""

    def stop(progress):
        if progress.n_done == n_blocks:
            raise Stopped

    image = array_image(PIXELS)
    told = dataclasses.replace(settings, diameter_px=diameter_px)
    keeping = Keeping(folder / "blocks", "expert")
    return apply_expert(network, image, survey_image(image), folder, told, keeping, stop)


def kill(network, folder, diameter_px):
    """Leave some blocks behind."""
    with pytest.raises(Stopped):
        apply(network, folder, diameter_px, n_blocks=5)


@pytest.mark.parametrize("settings", [TilingSettings(), BLOCKS], ids=["small", "slide"])
@pytest.mark.parametrize("diameter_px", [10.0, 14.0, 20.0])
def test_a_network_that_is_told_the_size_is_not_asked_for_it(tmp_path, settings, diameter_px):
    told = apply(SilentNetwork(), tmp_path, diameter_px, settings)
    at_scale = DiscNetwork(style=0.1, scale=14 / diameter_px)
    expected = apply(at_scale, tmp_path / "none", None, settings)
    assert told.labels.max() == 120
    np.testing.assert_array_equal(told.labels, expected.labels)
    assert told.done == expected.done


def test_a_network_without_a_size_of_its_own_keeps_its_choice(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "tiling"):
        done = apply(EstimatingNetwork(wanted_px=None), tmp_path, 28.0)
    assert "does not use the known diameter" in caplog.text
    assert "0.8 network pixels a pixel" in caplog.text
    assert done.n_cells == 120


@pytest.mark.parametrize(
    ("first", "then"), [(14.0, 15.0), (14.0, None), (None, 14.0)], ids=["other", "none", "now"]
)
def test_stored_blocks_of_another_diameter_are_not_reused(tmp_path, first, then, caplog):
    kill(EstimatingNetwork(), tmp_path, first)
    with caplog.at_level("INFO"):
        found = apply(EstimatingNetwork(), tmp_path, then)
    assert found.done.n_stored == 0
    assert "dropped" in caplog.text
    afresh = apply(EstimatingNetwork(), tmp_path / "none", then)
    np.testing.assert_array_equal(found.labels, afresh.labels)


def test_stored_blocks_of_the_same_diameter_are(tmp_path):
    kill(SilentNetwork(), tmp_path, 16.0)
    network = SilentNetwork()
    found = apply(network, tmp_path, 16.0)
    assert found.done.n_stored >= 5
    whole = SilentNetwork()
    np.testing.assert_array_equal(found.labels, apply(whole, tmp_path / "none", 16.0).labels)
    assert network.calls < whole.calls


@pytest.mark.parametrize(
    ("wanted_px", "first", "then"),
    [(14.0, 3.0, 5.0), (None, 14.0, 28.0), (None, 14.0, None)],
    ids=["both beyond the range", "not used", "not used, not told"],
)
def test_a_diameter_that_changes_no_scale_costs_no_block(tmp_path, wanted_px, first, then):
    kill(EstimatingNetwork(wanted_px=wanted_px), tmp_path, first)
    assert apply(EstimatingNetwork(wanted_px=wanted_px), tmp_path, then).done.n_stored >= 5


def test_blocks_stored_before_diameters_could_be_told_are_still_good():
    image = array_image(PIXELS)
    normaliser = fit_normaliser(image.overview(), "joint")
    facts = describe_inputs(image, normaliser, DiscNetwork(), BLOCKS)
    known = {"batch_size", "tile_px", "block_px", "skip_empty", "ground"}
    assert set(facts["settings"]) == known == set(asdict(BLOCKS)) - set(NOT_IN_KEY)
    assert "diameter" not in str(facts)
