"""The CDNet expert: mask, point and direction maps of fluorescent nuclei."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from models.cdnet_decoding import N_MAPS, N_MASK, decode_cdnet
from models.cdnet_scale import choose_cdnet_scale, measure_cells
from models.mask_classes import mask_foreground
from models.segmenter import FloatArray, LabelArray, Runtime, Segmenter, WindowSpec
from models.size_view import WIDE_PX, resize_view
from stopwatch import Stopwatch

WINDOWS = WindowSpec(
    tile_px=256,
    side_multiple=32,
    halo_px=32,
    object_px=128,
    n_maps=N_MAPS,
    normalisation="per_channel",
)


class CDNetSegmenter(Segmenter):
    """The CDNet expert."""

    def _choose_scale(self, views: Sequence[FloatArray]) -> float:
        """Look at the middles of the views at full and at half size, and choose."""
        full, half = (
            measure_cells(
                [resize_view(view, scale, WIDE_PX) for view in views], self._segment, scale
            )
            for scale in (1.0, 0.5)
        )
        return choose_cdnet_scale(full, half)

    def _segment(self, window: FloatArray) -> LabelArray:
        """Label one window (Y, X, 3)."""
        return decode_cdnet(self.forward(window[None])[0], self.runtime.device)

    def _decode(self, maps: FloatArray) -> LabelArray:
        """Turn raw maps (13, Y, X) into labels."""
        return decode_cdnet(maps, self.runtime.device)

    def foreground(self, maps: FloatArray) -> FloatArray:
        """Give a score (Y, X) above 0 where background does not win the mask head."""
        return mask_foreground(maps[:N_MASK])


def build_expert(
    runtime: Runtime, state: Mapping[str, NDArray[Any]], watch: Stopwatch | None = None
) -> CDNetSegmenter:
    """Build the expert on the runtime that computes its network."""
    del state
    return CDNetSegmenter(runtime, WINDOWS, watch)
