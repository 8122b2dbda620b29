"""Count which predicted instances match which true ones, with memory for the overlaps only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from skimage.segmentation import relabel_sequential

Labels = NDArray[np.integer[Any]]


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
    if labels_true.shape != labels_pred.shape:
        raise ValueError(
            f"label images must have one shape, got {labels_true.shape} and {labels_pred.shape}"
        )
    n_true, true_ids = _number_from_one(labels_true)
    n_pred, pred_ids = _number_from_one(labels_pred)
    n_matched = 0
    if n_true and n_pred:
        pairs = _pairs_above(_count_overlaps(true_ids, pred_ids, (n_true, n_pred)), iou_min)
        n_matched = int((maximum_bipartite_matching(pairs, perm_type="column") >= 0).sum())
    return MatchCounts(tp=n_matched, fp=n_pred - n_matched, fn=n_true - n_matched)


def check_labels(labels: Labels) -> None:
    """Refuse an array that is no label image.

    Parameters
    ----------
    labels : ndarray
        To be checked; an empty array is accepted.

    Raises
    ------
    ValueError
        If the dtype is not integer or an id is negative.
    """
    if labels.dtype.kind not in "ui":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if labels.size and labels.min() < 0:
        raise ValueError(f"labels must not be negative, got {labels.min()}")


def _number_from_one(labels: Labels) -> tuple[int, Labels]:
    """Renumber instances 1..n; return n and the flat ids."""
    check_labels(labels)
    if not labels.any():
        return 0, np.zeros(labels.size, np.int64)
    numbered, _, _ = relabel_sequential(labels)
    return int(numbered.max()), numbered.ravel()


def _count_overlaps(true_ids: Labels, pred_ids: Labels, shape: tuple[int, int]) -> csr_array:
    """Count shared pixels: (n_true + 1, n_pred + 1), background included."""
    ones = np.ones(true_ids.size, np.int64)
    n_true, n_pred = shape
    overlaps = coo_array((ones, (true_ids, pred_ids)), shape=(n_true + 1, n_pred + 1))
    return overlaps.tocsr()


def _pairs_above(overlaps: csr_array, iou_min: float) -> csr_array:
    """Keep the pairs of instances whose IoU reaches ``iou_min``: (n_true, n_pred)."""
    area_true = np.asarray(overlaps.sum(axis=1)).ravel()
    area_pred = np.asarray(overlaps.sum(axis=0)).ravel()
    pairs = overlaps.tocoo()
    shared, true_ids, pred_ids = pairs.data, pairs.row, pairs.col
    iou = shared / (area_true[true_ids] + area_pred[pred_ids] - shared)
    kept = (iou >= iou_min) & (true_ids > 0) & (pred_ids > 0)
    return csr_array(
        (np.ones(int(kept.sum()), np.int8), (true_ids[kept] - 1, pred_ids[kept] - 1)),
        shape=(overlaps.shape[0] - 1, overlaps.shape[1] - 1),
    )
