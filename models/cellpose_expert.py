"""The Cellpose experts: estimate the cell size, and see cells at 30 px."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.flows import decode_flows
from models.segmenter import FloatArray, LabelArray, Runtime, Segmenter, WindowSpec
from models.size_view import SIZE_VIEW_PX, median_diameter, resize_view
from stopwatch import Stopwatch

N_MAPS = 3  # flow y, flow x, cell logit
NET_DIAMETER_PX = 30.0  # median cell diameter that the network is trained at (diam_mean)
WINDOWS = WindowSpec(tile_px=640, halo_px=64, object_px=256, n_maps=N_MAPS, normalisation="joint")
DYE_WINDOWS = replace(WINDOWS, normalisation="per_channel")
GOOD_RATIO = 1.2  # cells this much too large or too small are found as well as those of 30 px
N_ROUNDS = 3  # estimates from the style vector, each at the scale the last one gave
SCALE_RANGE = (1 / 16, 4.0)  # cells of 480 px down to 7.5 px


@dataclass(frozen=True, eq=False)
class SizeModel:
    """The linear size model on the style vector (Stringer et al. 2021).

    Attributes
    ----------
    weight : (256,) ndarray of float32
    bias : float
        The natural logarithm of the cell diameter over 30 px is ``style @ weight + bias``.
    """

    weight: FloatArray
    bias: float

    def scale_step(self, style: FloatArray) -> float:
        """Give the factor that brings the cells of a window to 30 px.

        Parameters
        ----------
        style : (256,) ndarray of float32
            A unit vector; not finite where no feature of the network responds.

        Returns
        -------
        float
            Positive; 1 if the style tells nothing.
        """
        log_ratio = float(style @ self.weight) + self.bias
        return float(np.exp(-log_ratio)) if np.isfinite(log_ratio) else 1.0


class CellposeSegmenter(Segmenter):
    """A Cellpose expert.

    Parameters
    ----------
    runtime : Runtime
        Computes CPnet: ``maps`` (N, 3, Y, X) and ``style`` (N, 256).
    size : SizeModel
    watch : Stopwatch, optional
    windows : WindowSpec
        ``DYE_WINDOWS`` for an expert whose channels are separate dyes.

    Notes
    -----
    The scale brings the median cell to 30 px: the style vector gives a first estimate, repeated
    at its own scale; the cells found there give the second (Stringer et al. 2021, "size model").
    """

    def __init__(
        self,
        runtime: Runtime,
        size: SizeModel,
        watch: Stopwatch | None = None,
        windows: WindowSpec = WINDOWS,
    ) -> None:
        super().__init__(runtime, windows, watch)
        self.size = size

    def style_scale(self, view: FloatArray) -> float:
        """Estimate the scale of one view from its style vector alone."""
        scale = min(1.0, SIZE_VIEW_PX / max(view.shape[:2]))
        for _ in range(N_ROUNDS):
            (style,) = self.compute("style", resize_view(view, scale)[None])
            step = self.size.scale_step(style)
            scale = float(np.clip(scale * step, *SCALE_RANGE))
            if abs(step - 1.0) < 0.05:
                break
        return scale

    def view_scale(self, view: FloatArray, scale: float) -> float:
        """Correct a scale by the median diameter of the cells found at it; same if none."""
        (maps,) = self.forward(resize_view(view, scale)[None])
        labels = decode_flows(maps, self.runtime.device, max_flow_error=0.0)
        return _fit_scale(scale, median_diameter(labels))

    def foreground(self, maps: FloatArray) -> FloatArray:
        """Give the cell logit (Y, X)."""
        return maps[2]

    def _guess_scale(self, views: Sequence[FloatArray]) -> float:
        """Choose a scale within 1/16 and 4 by the style vectors, the median of the views' own."""
        return _vote([self.style_scale(view) for view in views])

    def _refine_scale(self, views: Sequence[FloatArray], scale: float) -> float:
        """Choose a scale within 1/16 and 4 by the cells, the median of the views' own."""
        return _vote([self.view_scale(view, scale) for view in views])

    def _check_scale(self, labels: LabelArray, scale: float) -> float:
        """Keep a scale at which the median cell is about as large as the network wants it."""
        seen_px = median_diameter(labels) * scale
        is_wrong = abs(np.log(seen_px / NET_DIAMETER_PX)) > np.log(GOOD_RATIO)  # not for NaN
        return _fit_scale(scale, seen_px) if is_wrong else scale

    def _decode(self, maps: FloatArray) -> LabelArray:
        """Turn raw maps (3, Y, X) into labels."""
        return decode_flows(maps, self.runtime.device)


def _fit_scale(scale: float, diameter_px: float) -> float:
    """Bring cells of a diameter at a scale to the network's; the same scale if there are none."""
    if not np.isfinite(diameter_px):
        return scale
    return float(np.clip(scale * NET_DIAMETER_PX / diameter_px, *SCALE_RANGE))


def _vote(scales: Sequence[float]) -> float:
    """Give the median, in the logarithm, of the views' scales; 1 without any."""
    return float(np.exp(np.median(np.log(scales)))) if scales else 1.0


def build_expert(
    runtime: Runtime,
    state: Mapping[str, NDArray[Any]],
    watch: Stopwatch | None = None,
    windows: WindowSpec = WINDOWS,
) -> CellposeSegmenter:
    """Build a Cellpose expert.

    Parameters
    ----------
    runtime : Runtime
        Computes its network.
    state : mapping of str to ndarray
        The network's weights; ``size_weight`` and ``size_bias`` are read here.
    watch : Stopwatch, optional
        Counts the seconds of network and decoding.
    windows : WindowSpec

    Returns
    -------
    CellposeSegmenter
    """
    size = SizeModel(state["size_weight"].astype(np.float32), float(state["size_bias"][0]))
    return CellposeSegmenter(runtime, size, watch, windows)


def build_dye_expert(
    runtime: Runtime, state: Mapping[str, NDArray[Any]], watch: Stopwatch | None = None
) -> CellposeSegmenter:
    """Build the Cellpose expert of fluorescence, as :func:`build_expert` the others."""
    return build_expert(runtime, state, watch, DYE_WINDOWS)
