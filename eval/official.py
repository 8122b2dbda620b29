"""The challenge's way to score an image: cells at the border left out, slides in squares.

Written from the rules of the organisers' ``baseline/compute_metric.py`` (JunMa11/NeurIPS-CellSeg).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eval.label_files import ArrayLabels, LabelRows, NoLabels
from eval.matching import MatchCounts, match_overlaps
from eval.overlaps import Labels, Overlaps, check_labels, join_overlaps, measure_overlaps

BORDER_PX = 2  # instances that reach this frame are not scored
SLIDE_PX = 25_000_000  # from this many pixels on, an image is scored square by square
ROI_PX = 2000  # side of such a square


@dataclass(frozen=True)
class Rules:
    """Which instances of an image are scored; the defaults are the challenge's.

    Attributes
    ----------
    border_px : int
        Width of the frame whose instances are left out; 0 scores all instances.
    slide_px : int
        Number of pixels from which on the image is cut into squares.
    roi_px : int
        Side of these squares; the border is removed in each.
    with_quirks : bool
        Reproduce what the organisers' script does by accident, see :func:`score_labels`.
    """

    border_px: int = BORDER_PX
    slide_px: int = SLIDE_PX
    roi_px: int = ROI_PX
    with_quirks: bool = False


@dataclass(frozen=True)
class ImageScore:
    """What is scored of one image.

    Attributes
    ----------
    overlaps : Overlaps
        Of the instances away from the border; of all squares of a slide.
    dice : float
        Overlap of the two foregrounds, border included.
    n_unreported : int
        True instances in regions without any prediction, under the organisers' accidents: their
        table does not count them as missed, their F1 does. 0 without quirks.
    """

    overlaps: Overlaps
    dice: float
    n_unreported: int = 0

    def counts(self, iou_min: float = 0.5) -> MatchCounts:
        """Count the matches at a threshold.

        Parameters
        ----------
        iou_min : float in (0, 1]
            Smallest IoU of a match, inclusive.

        Returns
        -------
        MatchCounts
            All zero when both images are empty.

        Raises
        ------
        ValueError
            If ``iou_min`` is out of range.
        """
        return match_overlaps(self.overlaps, iou_min).counts


def score_labels(
    labels_true: Labels, labels_pred: Labels, rules: Rules | None = None
) -> ImageScore:
    """Score the label image of one microscope image; see :func:`score_rows`.

    Parameters
    ----------
    labels_true, labels_pred : (Y, X) ndarray of int
        0 is background; ids may have gaps.
    rules : Rules, optional
        By default the challenge's, without its accidents.

    Returns
    -------
    ImageScore
        Without instances when both images are empty (Dice is 1 then).

    Raises
    ------
    ValueError
        As :func:`score_rows`.
    """
    return score_rows(ArrayLabels(labels_true), ArrayLabels(labels_pred), rules)


def score_missing(labels_true: LabelRows, rules: Rules | None = None) -> ImageScore:
    """Score an image without a usable prediction: every true instance is missed.

    Parameters
    ----------
    labels_true : LabelRows
        0 is background.
    rules : Rules, optional
        By default the challenge's, without its accidents.

    Returns
    -------
    ImageScore
        As for a prediction that is all background.
    """
    return score_rows(labels_true, NoLabels(labels_true.shape), rules)


def score_rows(
    labels_true: LabelRows, labels_pred: LabelRows, rules: Rules | None = None
) -> ImageScore:
    """Score the label image of one microscope image, a slide band by band.

    Parameters
    ----------
    labels_true, labels_pred : LabelRows
        0 is background; ids may have gaps.
    rules : Rules, optional
        By default the challenge's, without its accidents.

    Returns
    -------
    ImageScore
        Without instances when both images are empty (Dice is 1 then).

    Raises
    ------
    ValueError
        If shapes differ, a dtype is not integer, an id is negative, or (with quirks) an id
        becomes negative in the type it is cast to.

    Notes
    -----
    With quirks, as the organisers' script does: ids of a small image are cast to int32; predicted
    ids of a slide are cast to the dtype of the truth, where they wrap around and may merge; a
    region without prediction reports no missed cell; in an image of 4 px or less that has no
    background the lowest id survives the removal at the border.
    """
    rules = rules or Rules()
    if labels_true.shape != labels_pred.shape:
        raise ValueError(
            "label images must have one shape, "
            f"got {_size(labels_true.shape)} (true) and {_size(labels_pred.shape)} (predicted)"
        )
    height, width = labels_true.shape
    is_slide = height * width >= rules.slide_px
    parts, n_foreground, n_shared, n_unreported = [], 0, 0, 0
    for y0, y1 in _bands(height, rules.roi_px if is_slide else height):
        true, pred = labels_true.read_rows(y0, y1), labels_pred.read_rows(y0, y1)
        n_foreground += int(np.count_nonzero(true > 0)) + int(np.count_nonzero(pred > 0))
        n_shared += int(np.count_nonzero((true > 0) & (pred > 0)))
        if rules.with_quirks:
            true, pred = _cast_as_organisers(true, pred, is_slide)
        for x0, x1 in _bands(width, rules.roi_px if is_slide else width):
            part = _measure_region(true[:, x0:x1], pred[:, x0:x1], is_slide, rules)
            parts.append(part)
            if rules.with_quirks and part.n_pred == 0:
                n_unreported += part.n_true
    dice = 2 * n_shared / n_foreground if n_foreground else 1.0
    return ImageScore(join_overlaps(parts), dice, n_unreported)


def find_border_ids(
    labels: Labels, border_px: int = BORDER_PX, frame_shape: tuple[int, int] | None = None
) -> Labels:
    """List the values that occur in the outer frame of an image.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.
    border_px : int
        Width of the frame; 0 finds nothing.
    frame_shape : (int, int), optional
        Size of the frame, at least the image's own: the image is its upper left part, as if it
        were padded below and to the right.

    Returns
    -------
    (n,) ndarray of int
        Sorted, 0 among them where the frame has background inside the image.
    """
    height, width = frame_shape or labels.shape
    if border_px == 0:
        return labels.ravel()[:0]
    strips = (
        labels[:border_px],
        labels[max(0, height - border_px) :],
        labels[:, :border_px],
        labels[:, max(0, width - border_px) :],
    )
    return np.unique(np.concatenate([strip.ravel() for strip in strips]))


def _measure_region(true: Labels, pred: Labels, is_slide: bool, rules: Rules) -> Overlaps:
    """Measure the overlaps of the instances of one region that do not reach its border."""
    ignored = []
    for labels in (true, pred):
        check_labels(labels)
        # A slide's last squares are padded with zeros to their full size.
        frame_shape = (rules.roi_px, rules.roi_px) if is_slide else None
        ids = find_border_ids(labels, rules.border_px, frame_shape)
        is_all_frame = min(labels.shape) <= 2 * rules.border_px
        if rules.with_quirks and not is_slide and is_all_frame:
            ids = ids[1:]
        ignored.append(ids)
    return measure_overlaps(true, pred, *ignored)


def _cast_as_organisers(
    labels_true: Labels, labels_pred: Labels, is_slide: bool
) -> tuple[Labels, Labels]:
    """Cast both label images the way the organisers' script does, wrapping around silently."""
    if is_slide:
        return labels_true, labels_pred.astype(labels_true.dtype)
    return labels_true.astype(np.int32), labels_pred.astype(np.int32)


def _bands(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut a length into half-open stretches of ``step``, the last one maybe shorter."""
    return ((start, min(start + step, length)) for start in range(0, length, max(1, step)))


def _size(shape: tuple[int, int]) -> str:
    """Write a size for messages."""
    return f"{shape[0]} x {shape[1]} px"
