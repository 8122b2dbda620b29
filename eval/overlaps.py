"""How the instances of two label images overlap: one sparse table, from which all scores follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Labels = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]

# Ids below this many times the number of runs are numbered by a look-up table instead of sorting.
DENSE_IDS = 8


@dataclass(frozen=True)
class Overlaps:
    """Areas of the instances and the pixels they share; instances are numbered from 0.

    Attributes
    ----------
    id_true, id_pred : (n_true,) and (n_pred,) ndarray of int
        Ids in the label images; they may repeat where regions were joined.
    area_true, area_pred : (n_true,) and (n_pred,) ndarray of int64
        Pixels of each instance.
    true, pred : (n_pairs,) ndarray of int64
        Instances that share at least one pixel, by true, then predicted instance.
    shared : (n_pairs,) ndarray of int64
        Pixels that they share, at least 1.
    """

    id_true: Labels
    id_pred: Labels
    area_true: Counts
    area_pred: Counts
    true: Counts
    pred: Counts
    shared: Counts

    @property
    def n_true(self) -> int:
        """Number of true instances."""
        return self.area_true.size

    @property
    def n_pred(self) -> int:
        """Number of predicted instances."""
        return self.area_pred.size

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, in (0, 1]."""
        union = self.area_true[self.true] + self.area_pred[self.pred] - self.shared
        iou: NDArray[np.float64] = self.shared / union
        return iou

    def without(self, true: NDArray[np.bool_], pred: NDArray[np.bool_]) -> "Overlaps":
        """Leave instances out, as if they were background.

        Parameters
        ----------
        true, pred : (n_true,) and (n_pred,) ndarray of bool
            Instances to leave out.

        Returns
        -------
        Overlaps
            The others, numbered anew in their order.
        """
        kept = ~(true[self.true] | pred[self.pred])
        new_true, new_pred = np.cumsum(~true) - 1, np.cumsum(~pred) - 1
        return Overlaps(
            self.id_true[~true],
            self.id_pred[~pred],
            self.area_true[~true],
            self.area_pred[~pred],
            new_true[self.true[kept]],
            new_pred[self.pred[kept]],
            self.shared[kept],
        )


def measure_overlaps(
    labels_true: Labels,
    labels_pred: Labels,
    ignored_true: Labels | None = None,
    ignored_pred: Labels | None = None,
) -> Overlaps:
    """Measure how the instances of two label images overlap.

    Parameters
    ----------
    labels_true, labels_pred : (Y, X) ndarray of int
        0 is background; ids may have gaps and any size.
    ignored_true, ignored_pred : ndarray of int, optional
        Ids that count as background.

    Returns
    -------
    Overlaps
        Without instances for empty images.

    Raises
    ------
    ValueError
        If shapes differ, a dtype is not integer, or an id is negative.

    Notes
    -----
    Pixels are first joined to runs along the rows in which both ids stay the same: what is
    sorted and counted afterwards is some fifty times less than the pixels.
    """
    if labels_true.shape != labels_pred.shape:
        raise ValueError(
            f"label images must have one shape, got {labels_true.shape} and {labels_pred.shape}"
        )
    for labels in (labels_true, labels_pred):
        check_labels(labels)
    ids_true, ids_pred, lengths = _find_runs(labels_true.ravel(), labels_pred.ravel())
    true_ids, true = _number(ids_true)
    pred_ids, pred = _number(ids_pred)
    both = (ids_true != 0) & (ids_pred != 0)
    shared = csr_array(
        (lengths[both], (true[both], pred[both])), shape=(true_ids.size, pred_ids.size)
    )
    shared.sum_duplicates()  # sorts by row and column, too
    pairs = shared.tocoo()
    with_background = Overlaps(
        true_ids,
        pred_ids,
        _sum_by(true, lengths, true_ids.size),
        _sum_by(pred, lengths, pred_ids.size),
        pairs.row.astype(np.int64),
        pairs.col.astype(np.int64),
        pairs.data,
    )
    return with_background.without(
        _is_left_out(true_ids, ignored_true), _is_left_out(pred_ids, ignored_pred)
    )


def join_overlaps(parts: Sequence[Overlaps]) -> Overlaps:
    """Join the tables of several regions; each instance belongs to its region only.

    Parameters
    ----------
    parts : sequence of Overlaps
        Any number.

    Returns
    -------
    Overlaps
        Instances numbered region by region.
    """
    first_true = np.cumsum([0, *(part.n_true for part in parts)])
    first_pred = np.cumsum([0, *(part.n_pred for part in parts)])
    none = [np.zeros(0, np.int64)]
    return Overlaps(
        np.concatenate(none + [part.id_true for part in parts]),
        np.concatenate(none + [part.id_pred for part in parts]),
        np.concatenate(none + [part.area_true for part in parts]),
        np.concatenate(none + [part.area_pred for part in parts]),
        np.concatenate(none + [p.true + n for p, n in zip(parts, first_true, strict=False)]),
        np.concatenate(none + [p.pred + n for p, n in zip(parts, first_pred, strict=False)]),
        np.concatenate(none + [part.shared for part in parts]),
    )


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
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(f"labels must not be negative, got {labels.min()}")


def _find_runs(ids_true: Labels, ids_pred: Labels) -> tuple[Labels, Labels, Counts]:
    """Give both ids and the length of each stretch of pixels in which neither changes."""
    changes = ids_true[1:] != ids_true[:-1]
    changes |= ids_pred[1:] != ids_pred[:-1]
    starts = np.concatenate(
        [np.zeros(min(1, ids_true.size), np.int64), np.flatnonzero(changes) + 1]
    )
    lengths = np.diff(starts, append=ids_true.size)
    return ids_true[starts], ids_pred[starts], lengths


def _number(ids: Labels) -> tuple[Labels, Counts]:
    """Give the sorted different ids, and the position of each id among them."""
    if ids.size == 0 or ids.max() >= DENSE_IDS * ids.size:
        different, index = np.unique(ids, return_inverse=True)
        return different, index
    occurs = np.zeros(int(ids.max()) + 1, bool)
    occurs[ids] = True
    different = np.flatnonzero(occurs)
    position = np.cumsum(occurs) - 1
    return different, position[ids]


def _sum_by(index: Counts, lengths: Counts, n: int) -> Counts:
    """Add up lengths by index; exact, as no image has 2^53 pixels."""
    return np.bincount(index, weights=lengths, minlength=n).astype(np.int64)


def _is_left_out(ids: Labels, ignored: Labels | None) -> NDArray[np.bool_]:
    """Tell which ids are background or ignored."""
    left_out = ids == 0
    return left_out if ignored is None else left_out | np.isin(ids, ignored)
