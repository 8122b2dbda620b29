"""Whether two systems differ on the same images: signed ranks, and many tests at once.

Apart from the intervals because importing SciPy's statistics takes a second.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import wilcoxon


def compare_signed_ranks(scores_a: ArrayLike, scores_b: ArrayLike) -> float:
    """Give the two-sided p value of Wilcoxon's signed-rank test between paired scores.

    Parameters
    ----------
    scores_a, scores_b : (n,) array-like of float
        Scores of two systems on the same images, in the same order.

    Returns
    -------
    float
        1 when no image differs, or there is none.

    Raises
    ------
    ValueError
        If the numbers of scores differ.

    Notes
    -----
    The challenge tested its ranking with this test. Images without a difference are left out
    (Wilcoxon's own treatment).
    """
    a, b = np.asarray(scores_a, np.float64), np.asarray(scores_b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired scores are wanted, got {a.size} and {b.size}")
    differences = (b - a)[b != a]
    if differences.size == 0:
        return 1.0
    return float(wilcoxon(differences).pvalue)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for the number of tests.

    Parameters
    ----------
    p_values : sequence of float
        Of tests that are looked at together.

    Returns
    -------
    list of float
        In the same order, at most 1.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6, 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
