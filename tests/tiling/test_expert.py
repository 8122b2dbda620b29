import imageio.v3 as iio
import numpy as np
import pytest

from imaging.reading import open_image
from tests.fakes import DiscNetwork, scatter_discs
from tiling.expert import apply_expert
from tiling.settings import TilingSettings


class SizedNetwork(DiscNetwork):
    """Guess one scale; know better once it has looked at views, or at the labels."""

    def __init__(self, guess, refined=None, checked=None):
        super().__init__(tile_px=128, scale=guess)
        self.refined, self.checked, self.asked = refined, checked, []

    def guess_scale(self, views):
        self.asked.append("guess")
        return self.scale

    def refine_scale(self, views, scale):
        self.asked.append("refine")
        assert scale == self.scale
        return self.refined or scale

    def check_scale(self, labels, scale):
        self.asked.append("check")
        self.n_seen = int(labels.max())
        return self.checked or scale

    def forward(self, batch):
        self.window = batch.shape[1:3]
        return super().forward(batch)


@pytest.fixture
def label(tmp_path):
    """Label a square picture of discs with a network."""

    def run(network, side):
        pixels = scatter_discs((side, side), 32, 9)
        iio.imwrite(tmp_path / "a.png", (200 * pixels).astype(np.uint8))
        with open_image(tmp_path / "a.png") as image:
            found = apply_expert(network, image, image.overview(), tmp_path, TilingSettings())
            return np.array(found.labels), found.n_cells

    return run


def test_one_window_is_labelled_at_the_guess_if_the_cells_agree(label):
    network = SizedNetwork(1.0)
    labels, n_cells = label(network, 96)
    assert network.asked == ["guess", "check"]
    assert network.calls == 1
    assert network.n_seen == n_cells == labels.max() == 9


def test_one_window_is_labelled_anew_if_the_cells_disagree(label):
    network = SizedNetwork(0.5, checked=1.0)
    labels, n_cells = label(network, 96)
    assert network.asked == ["guess", "check"]
    assert network.calls == 2
    assert network.window == (96, 96)
    expected, _ = label(SizedNetwork(1.0), 96)
    np.testing.assert_array_equal(labels, expected)
    assert n_cells == 9


def test_a_larger_image_is_looked_at_first(label):
    network = SizedNetwork(1.0, refined=0.5)
    labels, n_cells = label(network, 160)
    assert network.asked[:2] == ["guess", "refine"]
    assert labels.max() == n_cells == 25
