"""What experts make of a cell size that the user knows."""

from typing import Any

import numpy as np
import pytest

from models import cdnet_expert, unet_expert
from models.cellpose_expert import NET_DIAMETER_PX, SCALE_RANGE, CellposeSegmenter
from models.segmenter import Segmenter
from models.size_model import SizeModel


class SilentRuntime:
    """A network that nobody may ask."""

    device = "cpu"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked for {name}")


@pytest.fixture
def cellpose() -> Segmenter:
    return CellposeSegmenter(
        SilentRuntime(), SizeModel(np.ones((1, 1), np.float32), np.ones(1, np.float32), 0.0)
    )


@pytest.mark.parametrize("diameter_px", [8.0, 15.0, 30.0, 61.7, 400.0])
def test_cellpose_brings_cells_of_a_known_diameter_to_its_own(cellpose, diameter_px):
    scale = cellpose.scale_for(diameter_px)
    assert scale * diameter_px == pytest.approx(NET_DIAMETER_PX)
    assert type(scale) is float  # as the store of blocks wants it


@pytest.mark.parametrize(("diameter_px", "end"), [(1e-320, 1), (7.0, 1), (481.0, 0), (1e300, 0)])
def test_the_scale_of_a_known_diameter_stays_in_range(cellpose, diameter_px, end):
    assert cellpose.scale_for(diameter_px) == SCALE_RANGE[end]


@pytest.mark.parametrize("room", [cdnet_expert, unet_expert])
def test_experts_of_native_pixels_keep_their_own_way(room):
    assert room.build_expert(SilentRuntime(), {}).scale_for(60.0) is None
