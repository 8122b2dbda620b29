"""The challenge's F1 of one image: cells at the border left out, slides scored in squares.

Written from the rules of the organisers' ``baseline/compute_metric.py`` (JunMa11/NeurIPS-CellSeg).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.matching import Labels, MatchCounts, check_labels, match_instances

BORDER_PX = 2  # instances that reach this frame are not scored
SLIDE_PX = 25_000_000  # from this many pixels on, an image is scored square by square
ROI_PX = 2000  # side of such a square


@dataclass(frozen=True)
class Rules:
    """How to score an image; the defaults are the challenge's.

    Attributes
    ----------
    iou_min : float in (0, 1]
        Smallest IoU of a match, inclusive.
    border_px : int
        Width of the frame whose instances are left out; 0 scores all instances.
    slide_px : int
        Number of pixels from which on the image is cut into squares.
    roi_px : int
        Side of these squares; the border is removed in each.
    with_quirks : bool
        Reproduce what the organisers' script does by accident, see :func:`score_labels`.
    """

    iou_min: float = 0.5
    border_px: int = BORDER_PX
    slide_px: int = SLIDE_PX
    roi_px: int = ROI_PX
    with_quirks: bool = False


@dataclass(frozen=True)
class ImageScore:
    """Score of one image.

    Attributes
    ----------
    counts : MatchCounts
        Instances away from the border, summed over the squares of a slide.
    dice : float
        Overlap of the two foregrounds, border included.
    fn_reported : int
        Missed instances as the organisers' table counts them: a region without any prediction
        adds none. It does not enter their F1. Equals ``counts.fn`` without quirks.
    """

    counts: MatchCounts
    dice: float
    fn_reported: int


def score_labels(
    labels_true: Labels, labels_pred: Labels, rules: Rules | None = None
) -> ImageScore:
    """Score the label image of one microscope image.

    Parameters
    ----------
    labels_true, labels_pred : (Y, X) ndarray of int
        0 is background; ids may have gaps.
    rules : Rules, optional
        By default the challenge's, without its accidents.

    Returns
    -------
    ImageScore
        All counts zero and F1 0 when both images are empty (Dice is 1 then).

    Raises
    ------
    ValueError
        If shapes differ, an array is not 2-D, a dtype is not integer, an id is negative, or (with
        quirks) an id becomes negative in the type it is cast to.

    Notes
    -----
    With quirks, as the organisers' script does: ids of a small image are cast to int32; predicted
    ids of a slide are cast to the dtype of the truth, where they wrap around and may merge; a
    region without prediction reports no missed cell; in an image of 4 px or less that has no
    background the lowest id survives the removal at the border.
    """
    rules = rules or Rules()
    if labels_true.ndim != 2 or labels_true.shape != labels_pred.shape:
        raise ValueError(
            "label images must be (Y, X) of one shape, "
            f"got {labels_true.shape} and {labels_pred.shape}"
        )
    is_slide = labels_true.size >= rules.slide_px
    dice = measure_dice(labels_true > 0, labels_pred > 0)
    if rules.with_quirks:
        labels_true, labels_pred = _cast_as_organisers(labels_true, labels_pred, is_slide)
    for labels in (labels_true, labels_pred):
        check_labels(labels)
    regions = _squares(labels_true.shape, rules.roi_px) if is_slide else iter([(slice(None),) * 2])
    counts, fn_reported = MatchCounts(), 0
    for region in regions:
        found = match_instances(
            _inner_instances(labels_true[region], is_slide, rules),
            _inner_instances(labels_pred[region], is_slide, rules),
            rules.iou_min,
        )
        counts += found
        fn_reported += found.fn if found.n_pred or not rules.with_quirks else 0
    return ImageScore(counts, dice, fn_reported)


def score_missing(labels_true: Labels, rules: Rules | None = None) -> ImageScore:
    """Score an image without a usable prediction: every true instance is missed.

    Parameters
    ----------
    labels_true : (Y, X) ndarray of int
        0 is background.
    rules : Rules, optional
        By default the challenge's, without its accidents.

    Returns
    -------
    ImageScore
        As for a prediction that is all background.
    """
    return score_labels(labels_true, np.zeros_like(labels_true), rules)


def remove_border_instances(
    labels: Labels, border_px: int = BORDER_PX, spare_lowest: bool = False
) -> Labels:
    """Erase the instances that reach the outer frame of an image.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.
    border_px : int
        Width of the frame; 0 removes nothing.
    spare_lowest : bool
        Where the image is all frame and has no background, keep its lowest id.

    Returns
    -------
    (Y, X) ndarray of int
        A new array; ids are kept, so they may have gaps.
    """
    if border_px == 0 or labels.size == 0:
        return labels.copy()
    is_frame = np.ones(labels.shape, bool)
    if min(labels.shape) > 2 * border_px:
        is_frame[border_px:-border_px, border_px:-border_px] = False
    touching = np.unique(labels[is_frame])
    if spare_lowest and is_frame.all():
        touching = touching[1:]
    return np.where(np.isin(labels, touching), 0, labels)


def measure_dice(mask_true: NDArray[np.bool_], mask_pred: NDArray[np.bool_]) -> float:
    """Measure the overlap of two masks: 2 |A and B| / (|A| + |B|), in [0, 1].

    Parameters
    ----------
    mask_true, mask_pred : (Y, X) ndarray of bool
        Foreground.

    Returns
    -------
    float
        1 when both masks are empty.
    """
    n_both = np.count_nonzero(mask_true) + np.count_nonzero(mask_pred)
    if n_both == 0:
        return 1.0
    return 2 * int(np.count_nonzero(mask_true & mask_pred)) / n_both


def _cast_as_organisers(
    labels_true: Labels, labels_pred: Labels, is_slide: bool
) -> tuple[Labels, Labels]:
    """Cast both label images the way the organisers' script does, wrapping around silently."""
    if is_slide:
        return labels_true, labels_pred.astype(labels_true.dtype)
    return labels_true.astype(np.int32), labels_pred.astype(np.int32)


def _squares(shape: tuple[int, ...], side_px: int) -> Iterator[tuple[slice, slice]]:
    """Cut an image into squares from its upper left corner."""
    for y0 in range(0, shape[0], side_px):
        for x0 in range(0, shape[1], side_px):
            yield slice(y0, y0 + side_px), slice(x0, x0 + side_px)


def _inner_instances(labels: Labels, is_slide: bool, rules: Rules) -> Labels:
    """Leave out border instances of a region; a slide's last squares are padded with zeros."""
    if is_slide:
        missing = [(0, rules.roi_px - n) for n in labels.shape]
        labels = np.pad(labels, missing)
    spare_lowest = rules.with_quirks and not is_slide
    return remove_border_instances(labels, rules.border_px, spare_lowest)
