"""What cells look like at a scale, and which scale suits a network that wants them at one size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.flows import CheckedInstances
from models.size_view import disc_diameters

DEBRIS = 0.5  # of the diameter that most of the area found has: what is smaller is no cell
SOUND_KEPT = 0.8  # share of the mask that passes the flow check where the scale is good
SOUND_RATIO = 1.3  # and how far the median cell may then be from the size the network wants
NEAR_RATIO = 1.15  # cells found at a scale so near to the one wanted are as good as those at it,
LARGER_RATIO = 1.2  # those seen larger than wanted up to here
OTHER_SCALES = (0.5, 2.0)  # tried, as factors of the guess, where it is not sound
FINER_SCALES = (0.5**0.5, 2.0**0.5)  # and then of the best of these
DISTRUST = 0.1  # of an octave away from the guess, in the unit of the score; it grows squared
FLOW_WEIGHT = 2.0  # of the flow's length in the score: it peaks nearer to the true scale
POOR_SCORE = -1.5  # where no look beside the guess has more, the guess tells nothing
BLIND_SCALES = (0.25, 0.5, 1.0, 2.0)  # of the image's own pixels, tried then: cells of 120 to 15 px


@dataclass(frozen=True)
class Look:
    """Cells found at a scale.

    Attributes
    ----------
    scale : float
        Network pixels a native pixel.
    size_ratio : float
        Diameter found (:func:`typical_diameter`) over the one the network wants; NaN without cells.
    kept : float
        Share of the mask that passes the flow check, 0 to 1. It falls where cells are taken
        apart or merged, as they are far from the right scale.
    flow : float
        Mean length of the flow in what was found, about 0 to 1.
    """

    scale: float
    size_ratio: float
    kept: float
    flow: float = 1.0

    @property
    def is_sound(self) -> bool:
        """Whether no other scale needs to be looked at."""
        return self.kept >= SOUND_KEPT and abs(float(np.log(self.size_ratio))) < np.log(SOUND_RATIO)

    @property
    def is_poor(self) -> bool:
        """Whether what is seen says that this is not the scale."""
        return self.score < POOR_SCORE

    @property
    def score(self) -> float:
        """How well flows and size agree with the scale: 0 at best, minus infinity without cells."""
        if not (np.isfinite(self.size_ratio) and self.kept > 0 and self.flow > 0):
            return -np.inf
        agreement = np.log(self.kept) + FLOW_WEIGHT * np.log(self.flow)
        return float(agreement - abs(np.log(self.size_ratio)))

    def fit(self, limits: tuple[float, float]) -> float:
        """Give the scale at which the cells would have the size wanted.

        Parameters
        ----------
        limits : (float, float)
            Smallest and largest scale.

        Returns
        -------
        float
            The same scale without cells. What was seen counts less the fewer flows agree.
        """
        if not np.isfinite(self.size_ratio):
            return self.scale
        return float(np.clip(self.scale * self.size_ratio**-self.kept, *limits))


def measure_look(scale: float, seen: Sequence[CheckedInstances], wanted_px: float) -> Look:
    """Measure cells found at a scale.

    Parameters
    ----------
    scale : float
        Network pixels a native pixel.
    seen : sequence of CheckedInstances
        Of one or more views.
    wanted_px : float
        Diameter that the network wants, in network pixels.

    Returns
    -------
    Look
    """
    of_view = [np.bincount(view.found.ravel())[1:] for view in seen]
    n_found = np.array([areas.sum() for areas in of_view])
    shares = n_found / max(n_found.sum(), 1)
    kept = float(shares @ np.array([view.sound for view in seen]))
    flow = float(shares @ np.array([view.flow for view in seen]))
    return Look(scale, typical_diameter(np.concatenate(of_view)) / wanted_px, kept, flow)


def typical_diameter(areas: NDArray[np.intp]) -> float:
    """Estimate the median diameter of cells among which there may be debris.

    Parameters
    ----------
    areas : (N,) ndarray of int
        In pixels; those of 0 count for nothing.

    Returns
    -------
    float
        Of the discs with these areas, in pixels; NaN without any. What has less than half the
        diameter of the cell in the middle of the area found is left out: a few specks beside a
        cell, or a hundred beside forty, do not decide.
    """
    ordered = np.sort(areas)
    filled = np.cumsum(ordered)
    if not (filled.size and filled[-1]):
        return float("nan")
    middle = ordered[np.searchsorted(filled, filled[-1] / 2)]
    cells = ordered[ordered >= DEBRIS**2 * middle]
    return float(np.median(disc_diameters(cells)))


def is_near(seen: float, wanted: float) -> bool:
    """Tell whether what a network sees at a scale is as good as at the scale wanted."""
    return 1 / NEAR_RATIO < seen / wanted < LARGER_RATIO


def best_look(looks: Sequence[Look], guess: float) -> Look:
    """Choose the look that agrees best with itself, the less willingly the further from a guess.

    Parameters
    ----------
    looks : sequence of Look
        One at least; the first wins where nothing was seen in any.
    guess : float
        Scale.

    Returns
    -------
    Look
    """
    return max(looks, key=lambda look: look.score - DISTRUST * np.log2(look.scale / guess) ** 2)
