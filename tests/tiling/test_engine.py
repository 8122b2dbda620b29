import tracemalloc

import numpy as np
import pytest

from tests.fakes import (
    UNCHANGED,
    DiscNetwork,
    array_image,
    assert_same_instances,
    draw_discs,
    scatter_discs,
)
from tiling.block_job import plan_slide
from tiling.engine import segment
from tiling.raster import new_raster
from tiling.settings import TilingSettings


def run(pixels, network, scale=1.0, block_px=10_000, **settings):
    labels = np.zeros(pixels.shape[:2], np.int32)
    tiling = TilingSettings(block_px=block_px, **settings)
    job = plan_slide(array_image(pixels), UNCHANGED, network, scale, tiling)
    n_found = segment(job, labels).n_cells
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), np.arange(1, n_found + 1))
    return labels


@pytest.mark.parametrize("scale", [0.4, 0.71, 1.0, 1.5])
@pytest.mark.parametrize("block_px", [37, 64, 101])
def test_blocks_do_not_change_the_instances(scale, block_px):
    pixels = scatter_discs((310, 257), spacing=24, radius=7)
    network = DiscNetwork(style=0.1)
    whole = run(pixels, network, scale)
    assert whole.max() == 12 * 10
    blocks = run(pixels, network, scale, block_px=block_px)
    assert_same_instances(whole, blocks)
    np.testing.assert_array_equal(whole > 0, blocks > 0)


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.8, 1.0, 2.0])
def test_native_outlines_are_those_of_the_discs(scale):
    pixels = scatter_discs((200, 180), spacing=60, radius=22)
    labels = run(pixels, DiscNetwork(), scale, block_px=70)
    true = np.zeros_like(labels)
    true[pixels > 0] = labels[pixels > 0]
    assert labels.max() == 9
    assert_same_instances(true, labels, iou_min=0.9)


def test_batches_do_not_change_anything():
    pixels = scatter_discs((200, 300), spacing=24, radius=7)
    one = run(pixels, DiscNetwork(style=0.1), batch_size=1)
    np.testing.assert_array_equal(one, run(pixels, DiscNetwork(style=0.1), batch_size=7))


def test_ids_are_deterministic():
    pixels = scatter_discs((200, 200), spacing=24, radius=7)
    first = run(pixels, DiscNetwork(), 0.8, block_px=50)
    np.testing.assert_array_equal(first, run(pixels, DiscNetwork(), 0.8, block_px=50))


@pytest.mark.parametrize("offset", range(-4, 5))
def test_a_cell_on_a_seam_is_neither_cut_nor_doubled(offset):
    pixels = draw_discs((128, 128), [(64 + offset, 64 - offset, 11)])
    whole = run(pixels, DiscNetwork())
    np.testing.assert_array_equal(whole, run(pixels, DiscNetwork(), block_px=64))
    assert whole.max() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (3, 2), (33, 47), (64, 64)])
@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7])
def test_any_size_is_segmented(shape, scale):
    labels = run(np.ones(shape, np.float32), DiscNetwork(), scale)
    assert (labels == 1).all()
    assert run(np.zeros(shape, np.float32), DiscNetwork(), scale).max() == 0


def test_an_object_larger_than_the_first_halo_gets_a_wider_one():
    pixels = draw_discs((300, 300), [(150, 150, 90)])
    whole = run(pixels, DiscNetwork())
    np.testing.assert_array_equal(whole, run(pixels, DiscNetwork(object_px=24), block_px=50))


def test_an_object_larger_than_every_halo_is_joined_and_said(caplog):
    pixels = draw_discs((200, 200), [(100, 100, 92), (5, 5, 4)])
    blocks = run(pixels, DiscNetwork(object_px=10), block_px=30)
    assert blocks.max() == 2
    np.testing.assert_array_equal(blocks > 0, run(pixels, DiscNetwork()) > 0)
    assert "larger than a block's halo" in caplog.text


def test_touching_cells_of_different_blocks_keep_their_pixels():
    class SplitNetwork(DiscNetwork):
        """Cut what is bright into columns of 16 pixels that touch."""

        def forward(self, batch):
            return batch[..., :2].transpose(0, 3, 1, 2)

        def decode(self, maps):
            return (np.rint(maps[1]) * (maps[0] > 0)).astype(np.int32)

    pixels = np.ones((40, 160, 3), np.float32)
    pixels[..., 1] = 1 + (np.arange(160) // 16 % 2)
    whole = run(pixels, SplitNetwork(n_maps=2))
    assert whole.max() == 2  # one id for every other column: each spans the whole image
    assert (whole > 0).all()


def test_memory_does_not_grow_with_the_image(tmp_path):
    def peak(n_rows):
        shape = (n_rows, 400)
        pixels = np.zeros(shape, np.uint8)
        pixels[::20, ::20] = 1
        image = array_image(pixels)
        tracemalloc.start()
        labels = new_raster(shape, tmp_path, in_memory_px=1000)
        settings = TilingSettings(block_px=200)
        segment(plan_slide(image, UNCHANGED, DiscNetwork(), 1, settings), labels)
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    assert peak(2000) < 1.2 * peak(600)
    assert list(tmp_path.iterdir()) == []


def test_labels_of_another_shape_are_refused():
    image = array_image(np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="labels must have"):
        segment(
            plan_slide(image, UNCHANGED, DiscNetwork(), 1.0, TilingSettings()),
            np.zeros((5, 6), np.int32),
        )
