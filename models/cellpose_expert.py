"""The Cellpose experts: estimate the cell size, and see cells at 30 px."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.flows import (
    STOCK_THRESHOLDS,
    CheckedInstances,
    FlowThresholds,
    decode_and_check,
    decode_flows,
)
from models.looks import (
    BLIND_SCALES,
    FINER_SCALES,
    OTHER_SCALES,
    Look,
    best_look,
    is_near,
    measure_look,
)
from models.segmenter import FloatArray, LabelArray, Runtime, Segmenter, WindowSpec
from models.size_model import SizeModel, read_size_model
from models.size_view import LOOK_PX, SPREAD_PX, WIDE_PX, resize_view
from stopwatch import SCALE, Stopwatch

N_MAPS = 3  # flow y, flow x, cell logit
NET_DIAMETER_PX = 30.0  # median cell diameter that the network is trained at (diam_mean)
WINDOWS = WindowSpec(
    tile_px=896,
    side_multiple=16,  # three halvings ask for 8; each new size takes time once
    halo_px=48,
    object_px=256,
    n_maps=N_MAPS,
    normalisation="joint",
)
GREY_WINDOWS = replace(WINDOWS, normalisation="grey")
DYE_WINDOWS = replace(WINDOWS, normalisation="per_channel")
N_ROUNDS = 3  # estimates from the spread vector, each at the scale the last one gave
SETTLED_STEP = 0.15  # the first one changes the scale by less: the cells seen there mend the rest
AGREEING = 1.5  # two of them that differ by less are as good as each other: their mean is taken
SCALE_RANGE = (1 / 16, 4.0)  # cells of 480 px down to 7.5 px


class CellposeSegmenter(Segmenter):
    """A Cellpose expert.

    Parameters
    ----------
    runtime : Runtime
        Computes CPnet: ``maps`` (N, 3, Y, X) and ``spread`` (N, 384).
    size : SizeModel
    watch : Stopwatch, optional
    windows : WindowSpec
        ``GREY_WINDOWS`` for an expert to whom colour tells nothing, ``DYE_WINDOWS`` for one whose
        channels are separate dyes.
    thresholds : FlowThresholds
        What decides which pixels and instances are cells.

    Notes
    -----
    The scale brings the median cell to 30 px: the spread vector gives a guess, repeated at its own
    scale; the cells found there mend it (Stringer et al. 2021, "size model"). Where they and the
    flows contradict each other, the scale that they ask for is looked at, then half and twice the
    better of the two, and then beside the best. A small image is labelled at the guess, and the
    labels are its look (`tiling.trial.ScaleJudge`).
    """

    def __init__(
        self,
        runtime: Runtime,
        size: SizeModel,
        watch: Stopwatch | None = None,
        windows: WindowSpec = WINDOWS,
        thresholds: FlowThresholds = STOCK_THRESHOLDS,
    ) -> None:
        super().__init__(runtime, windows, watch)
        self.size, self.thresholds = size, thresholds

    def spread_scale(self, view: FloatArray) -> float:
        """Estimate the scale of one view from its spread vector alone."""
        asked = min(1.0, SPREAD_PX / max(view.shape[:2]))
        for number in range(N_ROUNDS):
            (spread,) = self.compute("spread", resize_view(view, asked, SPREAD_PX)[None])
            step = self.size.scale_step(spread)
            estimate = float(np.clip(asked * step, *SCALE_RANGE))
            if number and abs(np.log(estimate / asked)) < np.log(AGREEING):
                return float(np.sqrt(asked * estimate))
            if abs(step - 1.0) < SETTLED_STEP:
                return estimate
            asked = estimate
        return asked

    def scale_for(self, diameter_px: float) -> float:
        """Give the scale, within 1/16 and 4, that brings cells of this diameter to 30 px."""
        return float(np.clip(NET_DIAMETER_PX / diameter_px, *SCALE_RANGE))

    def look(self, views: Sequence[FloatArray], scale: float, side_px: int = LOOK_PX) -> Look:
        """See what the cells in the middles of views are like at a scale."""
        maps = (self.forward(resize_view(view, scale, side_px)[None])[0] for view in views)
        seen = [self._check(of_view) for of_view in maps]
        return measure_look(scale, seen, NET_DIAMETER_PX)

    def foreground(self, maps: FloatArray) -> FloatArray:
        """Give the cell logit (Y, X)."""
        return maps[2]

    def _choose_scale(self, views: Sequence[FloatArray]) -> float:
        """Choose a scale within 1/16 and 4: by the spread vectors, then by the cells."""
        return self.refine_scale(views, self.guess_scale(views)) if views else 1.0

    def guess_scale(self, views: Sequence[FloatArray]) -> float:
        """Guess the scale of an image from the spread vectors of one or more views."""
        with self.watch.stage(SCALE):
            guesses = [self.spread_scale(view) for view in views]
            return float(np.exp(np.median(np.log(guesses))))

    def refine_scale(self, views: Sequence[FloatArray], scale: float) -> float:
        """Mend a guess by the cells seen at it, and beside it if need be."""
        with self.watch.stage(SCALE):
            return self._mend(views, self.look(views, scale))

    def judge_scale(
        self, views: Sequence[FloatArray], scale: float, maps: FloatArray
    ) -> tuple[float, LabelArray]:
        """Label a whole image, and mend the guess at which its maps were computed.

        Parameters
        ----------
        views : sequence of (Y, X, 3) ndarray of float32
            Normalised native crops of the image.
        scale : float
            The guess.
        maps : (K, Y, X) ndarray of float32
            Of the whole image at that scale.

        Returns
        -------
        float
            The scale to take; the guess itself if the one it is mended to is near.
        (Y, X) ndarray of int32
            What :meth:`decode` gives for the maps.
        """
        with self.watch.stage("decoding"):
            seen = self._check(maps)
        with self.watch.stage(SCALE):
            mended = self._mend(views, measure_look(scale, [seen], NET_DIAMETER_PX))
        return scale if is_near(scale, mended) else mended, seen.kept

    def _mend(self, views: Sequence[FloatArray], guess: Look) -> float:
        """Follow a look if it or the one it leads to is sound, else the best of several."""
        if guess.is_sound:
            return guess.fit(SCALE_RANGE)
        trusted, looks, wanted = guess.scale, [guess], guess.fit(SCALE_RANGE)
        if not is_near(guess.scale, wanted):
            looks.append(self.look(views, wanted))
            if looks[-1].is_sound:
                return looks[-1].fit(SCALE_RANGE)
        middle = best_look(looks, trusted).scale
        looks += self._look_around(views, middle, OTHER_SCALES)
        best = best_look(looks, trusted)
        if best.is_poor:
            looks += [self.look(views, scale, WIDE_PX) for scale in BLIND_SCALES]
            best = best_look(looks, trusted)
            trusted = best.scale  # the guess told nothing
        if np.isfinite(best.score):
            looks = [best, *self._look_around(views, best.scale, FINER_SCALES)]
            best = best_look(looks, trusted)
        return best.fit(SCALE_RANGE)

    def _look_around(
        self, views: Sequence[FloatArray], scale: float, factors: Sequence[float]
    ) -> list[Look]:
        """Look at some factors of a scale, as far as they are scales."""
        low, high = SCALE_RANGE
        return [self.look(views, scale * f) for f in factors if low <= scale * f <= high]

    def _check(self, maps: FloatArray) -> CheckedInstances:
        """Turn raw maps (3, Y, X) into instances and check them."""
        return decode_and_check(maps, self.runtime.device, self.thresholds)

    def _decode(self, maps: FloatArray) -> LabelArray:
        """Turn raw maps (3, Y, X) into labels."""
        return decode_flows(maps, self.runtime.device, self.thresholds)


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
        The network's weights; those whose names begin with ``size_`` are read here.
    watch : Stopwatch, optional
        Counts the seconds of network and decoding.
    windows : WindowSpec

    Returns
    -------
    CellposeSegmenter

    Raises
    ------
    ValueError
        If the size model is of an earlier version.
    """
    size = read_size_model(state)
    return CellposeSegmenter(runtime, size, watch, windows)


def build_grey_expert(
    runtime: Runtime, state: Mapping[str, NDArray[Any]], watch: Stopwatch | None = None
) -> CellposeSegmenter:
    """Build a Cellpose expert of phase contrast or DIC, as :func:`build_expert` the others."""
    return build_expert(runtime, state, watch, GREY_WINDOWS)


def build_dye_expert(
    runtime: Runtime, state: Mapping[str, NDArray[Any]], watch: Stopwatch | None = None
) -> CellposeSegmenter:
    """Build the Cellpose expert of fluorescence, as :func:`build_expert` the others."""
    return build_expert(runtime, state, watch, DYE_WINDOWS)
