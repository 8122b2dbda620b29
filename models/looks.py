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
NEAR_RATIO = 1.15  # cells found at a scale so near to the one wanted are as good as those at it
OTHER_SCALES = (0.5, 2.0)  # tried, as factors of the guess, where it is not sound
DISTRUST = 0.15  # of these, in the unit of the score
LOST_KEPT = 0.3  # where no look keeps more of its mask, the guess tells nothing
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
    """

    scale: float
    size_ratio: float
    kept: float

    @property
    def is_sound(self) -> bool:
        """Whether no other scale needs to be looked at."""
        return self.kept >= SOUND_KEPT and abs(float(np.log(self.size_ratio))) < np.log(SOUND_RATIO)

    @property
    def is_lost(self) -> bool:
        """Whether hardly anything seen is a cell."""
        return not (np.isfinite(self.size_ratio) and self.kept >= LOST_KEPT)

    @property
    def score(self) -> float:
        """How well flows and size agree with the scale; the higher the better, 0 at best."""
        if not (np.isfinite(self.size_ratio) and self.kept > 0):
            return -np.inf
        return float(np.log(self.kept)) - abs(float(np.log(self.size_ratio)))

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
    n_sound = sum(view.sound * areas.sum() for view, areas in zip(seen, of_view, strict=True))
    areas = np.concatenate(of_view)
    share = float(n_sound) / max(int(areas.sum()), 1)
    return Look(scale, typical_diameter(areas) / wanted_px, share)


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


def is_near(scale: float, other: float) -> bool:
    """Tell whether a network sees the same at two scales, as far as it matters."""
    return abs(float(np.log(scale / other))) < np.log(NEAR_RATIO)


def best_look(guess: Look, others: Sequence[Look]) -> Look:
    """Choose the look that agrees best with itself; others must be clearly better than a guess."""
    best = max(others, key=lambda look: look.score, default=guess)
    return best if best.score - DISTRUST > guess.score else guess
