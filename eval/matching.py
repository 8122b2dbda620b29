"""Which predicted instances match which true ones, and the counts that scores are made of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from eval.overlaps import Labels, Overlaps, measure_overlaps

UNIQUE_ABOVE = 0.5  # above this IoU an instance has at most one match


@dataclass(frozen=True)
class MatchCounts:
    """Matched and unmatched instances; counts of several regions add up.

    Attributes
    ----------
    tp, fp, fn : int
        True instances with a match, predicted ones without, true ones without.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: "MatchCounts") -> "MatchCounts":
        return MatchCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def n_true(self) -> int:
        """Number of true instances."""
        return self.tp + self.fn

    @property
    def n_pred(self) -> int:
        """Number of predicted instances."""
        return self.tp + self.fp

    @property
    def precision(self) -> float:
        """Share of the predicted instances that match; 0 when none does."""
        return self.tp / self.n_pred if self.tp else 0.0

    @property
    def recall(self) -> float:
        """Share of the true instances that match; 0 when none does."""
        return self.tp / self.n_true if self.tp else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 when nothing matches.

        Written as the organisers write it, not as 2 TP / (2 TP + FP + FN), so that both round
        to the same last digit.
        """
        if not self.tp:
            return 0.0
        return 2 * (self.precision * self.recall) / (self.precision + self.recall)

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN), 0 when nothing matches."""
        return self.tp / (self.tp + self.fp + self.fn) if self.tp else 0.0


@dataclass(frozen=True)
class Matching:
    """A largest one-to-one matching of instances.

    Attributes
    ----------
    true, pred : (n_true,) and (n_pred,) ndarray of bool
        Whether each instance has a match.
    """

    true: NDArray[np.bool_]
    pred: NDArray[np.bool_]

    @property
    def counts(self) -> MatchCounts:
        """Numbers of matched and unmatched instances."""
        tp = int(np.count_nonzero(self.true))
        return MatchCounts(tp=tp, fp=self.pred.size - tp, fn=self.true.size - tp)


def match_overlaps(overlaps: Overlaps, iou_min: float = 0.5) -> Matching:
    """Match true and predicted instances one to one.

    Parameters
    ----------
    overlaps : Overlaps
        Of the two label images.
    iou_min : float in (0, 1]
        Smallest IoU of a match, inclusive.

    Returns
    -------
    Matching
        As many pairs as any can have.

    Raises
    ------
    ValueError
        If ``iou_min`` is out of range.

    Notes
    -----
    The organisers minimise ``-(iou >= t) - iou / (2 n)`` over one-to-one assignments, n being the
    smaller number of instances. The second terms add up to at most 1/2, so the assignment has as
    many pairs with ``iou >= t`` as any can have: the size of a maximum matching in the graph of
    these pairs. That graph is sparse, hence no dense matrix here. Above 0.5 the match of an
    instance is unique [1]_; at 0.5 and below it is not, and the matching chooses.

    References
    ----------
    .. [1] Kirillov et al., Panoptic Segmentation, CVPR 2019, sec. 4.1.
    """
    if not 0 < iou_min <= 1:
        raise ValueError(f"iou_min must lie in (0, 1], got {iou_min}")
    close = overlaps.iou >= iou_min
    true, pred = overlaps.true[close], overlaps.pred[close]
    if iou_min <= UNIQUE_ABOVE and true.size:
        graph = csr_array(
            (np.ones(true.size, np.int8), (true, pred)), shape=(overlaps.n_true, overlaps.n_pred)
        )
        partner = maximum_bipartite_matching(graph, perm_type="column")
        true, pred = np.flatnonzero(partner >= 0), partner[partner >= 0]
    has_true, has_pred = np.zeros(overlaps.n_true, bool), np.zeros(overlaps.n_pred, bool)
    has_true[true], has_pred[pred] = True, True
    return Matching(has_true, has_pred)


def match_instances(labels_true: Labels, labels_pred: Labels, iou_min: float = 0.5) -> MatchCounts:
    """Count one-to-one instance matches between two label images.

    Parameters
    ----------
    labels_true, labels_pred : (Y, X) ndarray of int
        0 is background; ids may have gaps.
    iou_min : float in (0, 1]
        Smallest IoU of a match, inclusive.

    Returns
    -------
    MatchCounts
        All zero when both images are empty.

    Raises
    ------
    ValueError
        If shapes differ, a dtype is not integer, an id is negative, or ``iou_min`` is out of range.

    Notes
    -----
    See :func:`match_overlaps` for how this equals the organisers' linear assignment.
    """
    return match_overlaps(measure_overlaps(labels_true, labels_pred), iou_min).counts
