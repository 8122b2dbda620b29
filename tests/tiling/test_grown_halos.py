"""Blocks that need wider halos take them one at a time, and in parts if they must."""

import functools
import threading
import time

import numpy as np
import pytest

from tests.fakes import UNCHANGED, DiscNetwork, array_image, assert_same_instances, draw_discs
from tiling.block_job import plan_slide
from tiling.engine import segment
from tiling.settings import TilingSettings

OBJECT_PX, BLOCK_PX, PART_PX = 16, 110, 32
ORDINARY_PX = (BLOCK_PX + 2 * OBJECT_PX) ** 2
LIMIT_PX = (PART_PX + 8 * OBJECT_PX) ** 2  # the smallest part with the widest halo


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr("tiling.block_job.MIN_PART_PX", PART_PX)


class WatchedNetwork(DiscNetwork):
    """Note the size of what is decoded, and how much else is decoded meanwhile."""

    def __init__(self, pause_s=0.0):
        super().__init__(style=0.1, object_px=OBJECT_PX)
        self.pause_s = pause_s
        self.decoded: list[tuple[int, int]] = []
        self.lock, self.n_now = threading.Lock(), 0

    def decode(self, maps):
        with self.lock:
            self.n_now += 1
            before = self.n_now
        time.sleep(self.pause_s)
        labels = super().decode(maps)
        with self.lock:
            self.decoded.append((maps[0].size, max(before, self.n_now)))
            self.n_now -= 1
        return labels


@functools.cache
def draw_large_and_small(seed):
    """Draw discs of 3 to 60 px radius that do not touch: (420, 480) float32."""
    rng = np.random.default_rng(seed)
    places: list[tuple[int, int, int]] = []
    for _ in range(300):
        radius = int(rng.integers(3, 61))
        y, x = int(rng.integers(-5, 425)), int(rng.integers(-5, 485))
        if all((y - b) ** 2 + (x - a) ** 2 > (radius + c + 4) ** 2 for b, a, c in places):
            places.append((y, x, radius))
    return draw_discs((420, 480), places)


def label(pixels, scale=1.0, network=None, **settings):
    """Label an image in small blocks; give the labels, the result and the network."""
    network = network or WatchedNetwork()
    wanted = TilingSettings(**{"block_px": BLOCK_PX, **settings})
    job = plan_slide(array_image(pixels), UNCHANGED, network, scale, wanted)
    labels = np.zeros(job.reader.geometry.native, np.int32)
    return labels, segment(job, labels), network


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.4])
@pytest.mark.parametrize("seed", range(2))
def test_cells_are_the_same_in_parts(seed, scale):
    pixels = draw_large_and_small(seed)
    whole, of_whole, grown = label(pixels, scale)
    parts, of_parts, limited = label(pixels, scale, max_decoded_px=LIMIT_PX)
    np.testing.assert_array_equal(whole > 0, parts > 0)
    assert_same_instances(whole, parts, iou_min=1.0)
    assert (of_parts.n_cells, of_parts.n_windows) == (of_whole.n_cells, of_whole.n_windows)
    assert max(size for size, _ in grown.decoded) > LIMIT_PX > ORDINARY_PX
    assert max(size for size, _ in limited.decoded) <= LIMIT_PX


@pytest.mark.parametrize("max_decoded_px", [None, LIMIT_PX])
def test_an_object_beyond_the_widest_halo_is_one_cell(max_decoded_px):
    pixels = draw_discs((300, 340), [(110, 120, 190), (285, 325, 9)])
    labels, result, _ = label(pixels, max_decoded_px=max_decoded_px)
    assert result.n_cells == labels.max() == 2
    assert len(np.unique(labels[:250, :250][pixels[:250, :250] > 0])) == 1


def test_parts_that_own_nothing_add_nothing():
    pixels = draw_discs((420, 480), [(210, 240, 100)])  # of one part of one block, and cut
    labels, result, _ = label(pixels, max_decoded_px=1)
    assert result.n_cells == labels.max() == 1
    np.testing.assert_array_equal(labels > 0, label(pixels)[0] > 0)


def test_nothing_is_decoded_beside_a_grown_halo():
    network = WatchedNetwork(pause_s=0.03)
    label(draw_large_and_small(0), network=network, n_decoders=3)
    assert max(n for _, n in network.decoded) > 1
    wide = [n for size, n in network.decoded if size > ORDINARY_PX]
    assert wide
    assert max(wide) == 1
