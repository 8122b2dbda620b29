"""Scores of instances beyond F1: AP, AJI, panoptic quality and object Dice, from one table.

All are 0 when there is no instance on either side, as the challenge's F1 is.
"""

from dataclasses import dataclass

import numpy as np

from eval.matching import MatchCounts, match_overlaps
from eval.overlaps import Counts, Overlaps

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # 0.5, 0.55, ..., 0.95
PANOPTIC_IOU = 0.5  # exclusive


@dataclass(frozen=True)
class PanopticQuality:
    """Panoptic quality of one class.

    Attributes
    ----------
    sq : float
        Segmentation quality: mean IoU of the matched pairs.
    rq : float
        Recognition quality: F1 at IoU > 0.5.
    """

    sq: float
    rq: float

    @property
    def pq(self) -> float:
        """The product of both."""
        return self.sq * self.rq


def measure_average_precision(overlaps: Overlaps) -> float:
    """Average TP / (TP + FP + FN) over the IoU thresholds 0.5, 0.55, ..., 0.95.

    Parameters
    ----------
    overlaps : Overlaps
        Of the two label images.

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    The data science bowl 2018, StarDist and Cellpose call this average precision; it has no
    confidence scores and is not the area under a precision-recall curve.
    """
    scores = [match_overlaps(overlaps, iou_min).counts.jaccard for iou_min in AP_THRESHOLDS]
    return float(np.mean(scores))


def measure_aji(overlaps: Overlaps) -> float:
    """Measure the aggregated Jaccard index.

    Parameters
    ----------
    overlaps : Overlaps
        Of the two label images.

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    Each true instance takes the predicted one with the highest IoU, also one that another has
    taken; intersections and unions are added up, and the areas of the predictions that none took
    are added to the unions [1]_. Where two predictions tie, the larger one is taken, so that the
    numbering of instances does not matter (the paper leaves this open).

    References
    ----------
    .. [1] Kumar et al., A dataset and a technique for generalized nuclear segmentation for
       computational pathology, IEEE TMI 36(7), 2017, algorithm 1.
    """
    best = _best_pair(overlaps.true, overlaps.iou, overlaps.area_pred[overlaps.pred])
    pred, shared = overlaps.pred[best], overlaps.shared[best]
    is_taken = np.zeros(overlaps.n_pred, bool)
    is_taken[pred] = True
    intersection = int(shared.sum())
    union = (
        int(overlaps.area_true.sum())
        + int((overlaps.area_pred[pred] - shared).sum())
        + int(overlaps.area_pred[~is_taken].sum())
    )
    return intersection / union if union else 0.0


def measure_panoptic_quality(overlaps: Overlaps) -> PanopticQuality:
    """Measure segmentation, recognition and panoptic quality.

    Parameters
    ----------
    overlaps : Overlaps
        Of the two label images.

    Returns
    -------
    PanopticQuality
        Both 0 when nothing matches.

    Notes
    -----
    Pairs with an IoU above 0.5 match, each instance at most once [1]_. (F1 of the challenge counts
    0.5 itself too.)

    References
    ----------
    .. [1] Kirillov et al., Panoptic Segmentation, CVPR 2019, sec. 4.
    """
    iou = overlaps.iou[overlaps.iou > PANOPTIC_IOU]
    if not iou.size:
        return PanopticQuality(sq=0.0, rq=0.0)
    counts = MatchCounts(iou.size, overlaps.n_pred - iou.size, overlaps.n_true - iou.size)
    return PanopticQuality(sq=float(iou.mean()), rq=counts.f1)


def measure_instance_dice(overlaps: Overlaps) -> float:
    """Measure the Dice of instances, weighted by their area.

    Parameters
    ----------
    overlaps : Overlaps
        Of the two label images.

    Returns
    -------
    float
        In [0, 1]; does not change when truth and prediction are exchanged.

    Notes
    -----
    Each true instance is compared with the predicted one it shares most pixels with, each
    predicted instance with the true one; without any shared pixel its Dice is 0. The mean over
    true instances and the mean over predicted ones, both weighted by area, are averaged: the
    object-level Dice of the GlaS challenge [1]_. The paper that this project follows reports an
    ``mInstDice`` without defining it. Of partners that share equally many pixels the smaller one,
    the better fit, is taken.

    References
    ----------
    .. [1] Sirinukunwattana et al., Gland segmentation in colon histology images: the GlaS
       challenge contest, Medical Image Analysis 35, 2017, sec. 4.2.
    """
    area_true, area_pred = overlaps.area_true[overlaps.true], overlaps.area_pred[overlaps.pred]
    dice = 2 * overlaps.shared / (area_true + area_pred)
    sides = (
        (overlaps.true, area_true, area_pred, overlaps.area_true),
        (overlaps.pred, area_pred, area_true, overlaps.area_pred),
    )
    means = []
    for instance, own_area, other_area, areas in sides:
        best = _best_pair(instance, overlaps.shared, -other_area)
        total = int(areas.sum())
        means.append(float((own_area[best] * dice[best]).sum()) / total if total else 0.0)
    return sum(means) / 2


def _best_pair(instance: Counts, score: np.ndarray, tie_break: Counts) -> Counts:
    """Give, for each instance that is in a pair, the index of its pair with the highest score."""
    order = np.lexsort((-tie_break, -score, instance))
    is_first = np.diff(instance[order], prepend=-1) != 0
    best: Counts = order[is_first]
    return best
