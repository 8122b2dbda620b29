"""What the experts' own decoders find does not depend on the blocks, or on how they are run."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from bench.tissue import draw_tissue, render_class_maps, render_flow_maps
from eval.matching import match_instances
from eval.seams import count_cut_instances
from imaging.normalise import Normaliser
from models.cdnet_decoding import decode_cdnet
from models.flows import decode_flows
from models.mask_classes import decode_mask
from tests.fakes import DiscNetwork, array_image
from tiling.block_job import plan_slide
from tiling.engine import segment
from tiling.settings import TilingSettings

DECODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flows": decode_flows,
    "mask": decode_mask,
    "cdnet": decode_cdnet,
}
SIDE_PX = 480  # its blocks are cut on a regular grid: every 120, 160 or 240 px
ROOM_PX = 64  # of tissue around it, from which images with other offsets are cut
WHOLE = 10_000
COORDINATES = Normaliser(np.zeros(3, np.float32), np.full(3, 1000, np.float32))


@functools.cache
def render(decoder, n_cells=320, offset=(0, 0)):
    """Draw noisy maps (K, SIDE_PX, SIDE_PX) of tissue, and its labels."""
    rng = np.random.default_rng(3)
    labels = draw_tissue((SIDE_PX + ROOM_PX,) * 2, n_cells, rng, stretch=1.4)
    maps = render_flow_maps(labels, rng, 0.2) if decoder == "flows" else None
    maps = render_class_maps(labels, rng, 0.8) if maps is None else maps
    (y, x), n_maps = offset, 3 if decoder == "mask" else len(maps)
    here = slice(y, y + SIDE_PX), slice(x, x + SIDE_PX)
    return np.ascontiguousarray(maps[:n_maps, *here]), labels[here]


@dataclass
class DrawnNetwork(DiscNetwork):
    """Give drawn maps at the places that the pixels name; every window sees them a bit otherwise.

    Pixels are their own coordinates, over 1000.
    """

    tile_px: int = 128
    object_px: int = 48
    decoder: str = "flows"
    maps: np.ndarray | None = None

    def __post_init__(self):
        assert self.maps is not None
        self.n_maps = len(self.maps)

    def forward(self, batch):
        return np.stack([self.look(*np.rint(1000 * window[0, 0, :2])) for window in batch])

    def look(self, y, x):
        """Crop the maps of a window whose first pixel lies at y, x; add noise of its own."""
        assert self.maps is not None
        rows, columns = (slice(int(at), int(at) + self.tile_px) for at in (y, x))
        seen = self.maps[:, rows, columns]
        rng = np.random.default_rng([int(y), int(x)])
        return seen + np.float32(0.2) * rng.standard_normal(seen.shape, np.float32)

    def decode(self, maps):
        return DECODERS[self.decoder](maps)


def label(network, **settings):
    """Label the image of a network: (SIDE_PX, SIDE_PX) int32, and how many blocks it took."""
    y, x = np.indices((SIDE_PX, SIDE_PX), np.float32)
    image = array_image(np.stack([y, x, 0 * y], axis=-1))
    job = plan_slide(image, COORDINATES, network, 1.0, TilingSettings(**settings))
    labels = np.zeros((SIDE_PX, SIDE_PX), np.int32)
    return labels, segment(job, labels).n_blocks


@functools.cache
def label_whole(decoder, halo_px, **drawn):
    """Label an image in one piece, at a time when the network gives one window after another."""
    maps, labels_true = render(decoder, **drawn)
    network = DrawnNetwork(halo_px=halo_px, decoder=decoder, maps=maps)
    whole, n_blocks = label(network, block_px=WHOLE, batch_size=1)
    assert n_blocks == 1
    return whole, match_instances(labels_true, whole, 0.5).f1


def assert_as_whole(whole, blocks, n_a_side):
    """Check what issue 5 asks of blocks: counts, outlines, no straight edges on their grid."""
    n_whole, n_blocks = whole.max(), blocks.max()
    assert abs(n_blocks - n_whole) <= 0.005 * n_whole
    assert match_instances(whole, blocks, 0.99).tp >= 0.995 * n_whole
    grid_px = SIDE_PX // n_a_side
    on_grid, before = (count_cut_instances(labels, grid_px) for labels in (blocks, whole))
    assert on_grid.n_cut <= before.n_cut


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("halo_px", "offset"), [(0, (0, 0)), (8, (23, 64)), (16, (64, 9))])
@pytest.mark.parametrize(
    ("n_a_side", "settings"),
    [
        (4, {"block_px": 128, "batch_size": 3, "n_decoders": 2}),
        (3, {"block_px": 200, "batch_size": 64, "n_decoders": 0}),
        (2, {"block_px": 333, "batch_size": 4, "n_decoders": 1, "cache_bytes": 0}),
    ],
)
def test_blocks_do_not_change_what_a_decoder_finds(decoder, halo_px, offset, n_a_side, settings):
    whole, f1 = label_whole(decoder, halo_px, offset=offset)
    assert whole.max() > 150
    assert 0.7 < f1 < 1.0  # the maps are neither nonsense nor perfect
    maps, _ = render(decoder, offset=offset)
    network = DrawnNetwork(halo_px=halo_px, decoder=decoder, maps=maps)
    blocks, n_blocks = label(network, **settings)
    assert n_blocks == n_a_side**2
    assert_as_whole(whole, blocks, n_a_side)


@pytest.mark.parametrize("decoder", DECODERS)
def test_cells_larger_than_the_halo_are_found_as_in_one_piece(decoder):
    whole, _ = label_whole(decoder, 8, n_cells=40)
    assert np.median(np.bincount(whole.ravel())[1:]) ** 0.5 > 40
    maps, _ = render(decoder, n_cells=40)
    network = DrawnNetwork(halo_px=8, object_px=32, decoder=decoder, maps=maps)
    blocks, n_blocks = label(network, block_px=200)
    assert n_blocks == 9
    assert_as_whole(whole, blocks, 3)
