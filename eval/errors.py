"""What went wrong: true cells split or missed, predicted instances merged or invented."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.matching import match_overlaps
from eval.overlaps import Overlaps
from eval.run_file import ErrorCounts

ERROR_IOU = 0.5  # smallest IoU of a match, whatever threshold F1 is computed at


@dataclass(frozen=True)
class Errors:
    """Which instances are part of which error; an instance may be in none or in two.

    Attributes
    ----------
    split, missed : (n_true,) ndarray of bool
        Errors of true instances.
    merged, invented : (n_pred,) ndarray of bool
        Errors of predicted instances.
    """

    split: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    merged: NDArray[np.bool_]
    invented: NDArray[np.bool_]

    @property
    def counts(self) -> ErrorCounts:
        """Number of events of each kind."""
        return ErrorCounts(
            split=int(self.split.sum()),
            merged=int(self.merged.sum()),
            missed=int(self.missed.sum()),
            invented=int(self.invented.sum()),
        )


def find_errors(overlaps: Overlaps) -> Errors:
    """Sort the errors of an image by kind.

    Parameters
    ----------
    overlaps : Overlaps
        Of the two label images.

    Returns
    -------
    Errors
        In the order of the instances in the table.

    Notes
    -----
    An instance lies *in* another one if more than half of its pixels do; so it lies in at most one.

    - split: a true instance in which two or more predicted ones lie;
    - merged: a predicted instance in which two or more true ones lie;
    - missed: a true instance without a match at IoU >= 0.5 that is not split and does not lie in
      a merged one;
    - invented: a predicted instance without a match that is not merged and does not lie in a
      split one.

    Exchanging truth and prediction exchanges split with merged and missed with invented. A split
    cell may still have a match (a fragment beside a good outline): these kinds say what to mend,
    they do not add up to FP and FN.
    """
    matching = match_overlaps(overlaps, ERROR_IOU)
    pred_in_true = 2 * overlaps.shared > overlaps.area_pred[overlaps.pred]
    true_in_pred = 2 * overlaps.shared > overlaps.area_true[overlaps.true]
    split = np.bincount(overlaps.true[pred_in_true], minlength=overlaps.n_true) >= 2
    merged = np.bincount(overlaps.pred[true_in_pred], minlength=overlaps.n_pred) >= 2
    is_fragment = np.zeros(overlaps.n_pred, bool)
    is_fragment[overlaps.pred[pred_in_true & split[overlaps.true]]] = True
    is_swallowed = np.zeros(overlaps.n_true, bool)
    is_swallowed[overlaps.true[true_in_pred & merged[overlaps.pred]]] = True
    return Errors(
        split=split,
        missed=~(matching.true | split | is_swallowed),
        merged=merged,
        invented=~(matching.pred | merged | is_fragment),
    )


def count_errors(overlaps: Overlaps) -> ErrorCounts:
    """Count the errors of an image by kind; see :func:`find_errors`."""
    return find_errors(overlaps).counts
