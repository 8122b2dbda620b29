"""How sure a mean or median over images is: bootstrap intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_DRAWS = 1000  # as the challenge's organisers drew
COVERAGE = 0.95
BLOCK_SIZE = 1_000_000  # scores drawn at once
SEED = 20221122  # fixed, so that the same scores give the same interval

Statistic = Callable[..., NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Interval:
    """A value over images and its bootstrap interval.

    Attributes
    ----------
    value : float
        Over all images.
    low, high : float
        Ends of the 95 % interval.
    """

    value: float
    low: float
    high: float


def bootstrap(scores: ArrayLike, statistic: Statistic = np.mean) -> Interval:
    """Estimate the interval of a mean or median over images by drawing images with replacement.

    Parameters
    ----------
    scores : (n,) array-like of float
        One an image (of a comparison: one difference an image); at least one.
    statistic : callable
        Takes an array and ``axis``, as ``np.mean`` and ``np.median`` do.

    Returns
    -------
    Interval
        Percentiles of 1000 draws with a fixed seed; of one image a single point.

    Raises
    ------
    ValueError
        If there is no score.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sec. 13.3 (percentile interval).
    """
    values = np.asarray(scores, np.float64)
    if values.size == 0:
        raise ValueError("the interval of no score is not defined")
    rng = np.random.default_rng(SEED)
    n_block = max(1, BLOCK_SIZE // values.size)
    draws = [
        statistic(values[rng.integers(0, values.size, (n, values.size))], axis=1)
        for n in np.diff([*range(0, N_DRAWS, n_block), N_DRAWS])
    ]
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(np.concatenate(draws), [tail, 1 - tail])
    return Interval(float(statistic(values, axis=0)), float(low), float(high))
