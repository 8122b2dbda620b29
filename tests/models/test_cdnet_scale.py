"""Tests of the scale that CDNet sees an image at."""

import numpy as np
import pytest
from scipy import ndimage

from models.cdnet_decoding import N_MAPS
from models.cdnet_expert import CDNetSegmenter, build_expert
from models.cdnet_scale import CellSizes, choose_cdnet_scale, measure_cells
from tests.cells import draw_discs


@pytest.mark.parametrize(
    ("full", "half", "scale"),
    [
        (CellSizes(10.0, 40), CellSizes(20.0, 7), 1.5),  # boundaries fill the cells
        (CellSizes(10.0, 40, 0.3), CellSizes(20.0, 7), 1.0),  # crowded
        (CellSizes(27.0, 40), CellSizes(28.0, 90), 1.0),
        (CellSizes(48.0, 20), CellSizes(50.0, 20), 1.0),  # large, and whole at both sizes
        (CellSizes(22.0, 70), CellSizes(44.0, 40), 0.5),  # pieces at full size
        (CellSizes(12.0, 70), CellSizes(44.0, 40), 0.5),
        (CellSizes(0.0, 0), CellSizes(90.0, 6), 0.5),
        (CellSizes(22.0, 70), CellSizes(44.0, 4), 1.0),  # too few to say
        (CellSizes(10.0, 4), CellSizes(0.0, 0), 1.0),
        (CellSizes(0.0, 0), CellSizes(0.0, 0), 1.0),
    ],
)
def test_scale_follows_the_sizes_seen(full, half, scale):
    assert choose_cdnet_scale(full, half) == scale


def test_diameters_are_native_whatever_the_scale():
    labels = draw_discs((96, 96), [(24, 24, 10), (24, 70, 10), (70, 48, 10)])
    sizes = measure_cells([labels[:, :, None].astype(np.float32)], lambda _: labels, 0.5)
    assert sizes.n_cells == 3
    assert sizes.covered == pytest.approx((labels > 0).mean())
    assert sizes.median_px == pytest.approx(2 * np.sqrt(4 * (labels == 1).sum() / np.pi))


def test_no_view_or_no_cell_gives_no_size():
    assert measure_cells([], lambda w: w[:, :, 0].astype(np.int32), 1.0) == CellSizes(0.0, 0)
    empty = np.zeros((64, 64, 3), np.float32)
    assert measure_cells([empty], lambda _: np.zeros((64, 64), np.int32), 1.0).n_cells == 0


class DiscRuntime:
    """Stand-in for CDNet: the insides of bright discs, the rest as background or boundary."""

    device = "cpu"

    def run(self, output, batch):
        bright = batch[:, :, :, 0] > 0.5
        inside = np.stack([ndimage.binary_erosion(image, iterations=2) for image in bright])
        maps = np.zeros((len(batch), N_MAPS, *bright.shape[1:]), np.float32)
        for channel, where in enumerate((~bright, inside, bright & ~inside)):
            maps[:, channel] = np.where(where, 8.0, 0.0)
        maps[:, 4] = 8.0  # no direction anywhere
        return maps


@pytest.mark.parametrize(("radius", "scale"), [(5, 1.5), (14, 1.0)])
def test_expert_enlarges_small_cells(radius, scale):
    discs = [(y, x, radius) for y in range(24, 240, 36) for x in range(24, 240, 36)]
    view = np.repeat((draw_discs((256, 256), discs) > 0)[:, :, None], 3, axis=2)
    expert = build_expert(DiscRuntime(), {})
    assert isinstance(expert, CDNetSegmenter)
    assert expert.choose_scale([view.astype(np.float32)]) == scale
