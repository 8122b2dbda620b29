"""Score pairs of label image files, each on its own, on all cores."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eval.errors import count_errors
from eval.instances import (
    measure_aji,
    measure_average_precision,
    measure_instance_dice,
    measure_panoptic_quality,
)
from eval.label_files import LabelFile, read_label_image
from eval.matching import Matching, match_overlaps
from eval.official import ImageScore, Rules, score_missing, score_rows
from eval.overlaps import Counts, Overlaps
from eval.pairs import Pair
from eval.run_file import MAX_SIZES, CellSize, RunImage, SizeBin, Unscored
from eval.seams import SeamCounts, check_tile, count_cut_instances
from imaging.reading import ImageError

# Diameters in px between which cells count as being of one size.
SIZE_EDGES_PX = (0, 8, 12, 16, 24, 32, 48, 64, 96, 128)

BAD_FILE = (ImageError, ValueError, OSError, MemoryError)


@dataclass(frozen=True)
class Task:
    """What is to be measured of each pair.

    Attributes
    ----------
    thresholds : tuple of float
        Smallest IoU of a match; of sizes and means the first one counts.
    rules : Rules
        Which instances are scored.
    seam_tile_px : int or None
        Look for instances that are cut on a grid of this size.
    """

    thresholds: tuple[float, ...] = (0.5,)
    rules: Rules = Rules()
    seam_tile_px: int | None = None

    def __post_init__(self) -> None:
        for iou_min in self.thresholds:
            if not 0 < iou_min <= 1:
                raise ValueError(f"thresholds must lie in (0, 1], got {iou_min}")
        if not self.thresholds or len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError(f"different thresholds are wanted, got {self.thresholds}")
        if self.seam_tile_px is not None:
            check_tile(self.seam_tile_px)


@dataclass(frozen=True)
class ScoredImage:
    """Score of one pair of label images.

    Attributes
    ----------
    pair : Pair
        The files.
    image : RunImage
        The scores; without a usable prediction all true cells are missed.
    n_unreported : int
        See :class:`eval.official.ImageScore`.
    by_size : tuple of SizeBin
        All bins, at the first threshold.
    seams : SeamCounts
        All zero if not asked for.
    """

    pair: Pair
    image: RunImage
    n_unreported: int
    by_size: tuple[SizeBin, ...]
    seams: SeamCounts = SeamCounts()


def score_pairs(
    pairs: Sequence[Pair], task: Task, n_jobs: int | None = None
) -> Iterator[ScoredImage | Unscored]:
    """Score pairs of label images on several cores.

    Parameters
    ----------
    pairs : sequence of Pair
        Files to read.
    task : Task
        What to measure.
    n_jobs : int, optional
        How many at a time; by default one a core that this process may use.

    Yields
    ------
    ScoredImage or Unscored
        In the order of the pairs; one bad pair never stops the others.
    """
    n_jobs = min(n_jobs or len(os.sched_getaffinity(0)), len(pairs))
    if n_jobs <= 1:
        yield from (score_pair(pair, task) for pair in pairs)
        return
    with ThreadPoolExecutor(n_jobs) as pool:
        yield from pool.map(partial(score_pair, task=task), pairs)


def score_pair(pair: Pair, task: Task) -> ScoredImage | Unscored:
    """Score one pair of label images.

    Parameters
    ----------
    pair : Pair
        Files to read.
    task : Task
        What to measure.

    Returns
    -------
    ScoredImage or Unscored
        Unscored if the true labels are unusable or, with quirks, the prediction is. Otherwise a
        prediction that is missing or unusable leaves a problem, and all cells count as missed.
    """
    try:
        with LabelFile(pair.truth) as true:
            score, seams, problem = _score_prediction(pair, true, task)
            if problem and task.rules.with_quirks:
                return Unscored(pair.image, pair.modality, pair.dataset, problem)
            # If it was the truth that could not be used, this fails for the same reason.
            score = score or score_missing(true, task.rules)
            image = _describe(pair, true.shape, score, problem, task)
    except BAD_FILE as error:
        return Unscored(pair.image, pair.modality, pair.dataset, f"true labels: {error}")
    matching = match_overlaps(score.overlaps, task.thresholds[0])
    by_size = _count_sizes(score.overlaps, matching)
    return ScoredImage(pair, image, score.n_unreported, by_size, seams)


def _score_prediction(
    pair: Pair, true: LabelFile, task: Task
) -> tuple[ImageScore | None, SeamCounts, str]:
    """Score a prediction; without a score, say why."""
    if pair.prediction is None:
        return None, SeamCounts(), "no prediction"
    try:
        with LabelFile(pair.prediction) as pred:
            score = score_rows(true, pred, task.rules)
        if task.seam_tile_px is None:
            return score, SeamCounts(), ""
        labels = read_label_image(pair.prediction)
        return score, count_cut_instances(labels, task.seam_tile_px), ""
    except BAD_FILE as error:
        return None, SeamCounts(), str(error) or type(error).__name__


def _describe(
    pair: Pair, shape: tuple[int, int], score: ImageScore, problem: str, task: Task
) -> RunImage:
    """Compute all scores of an image from its one table of overlaps."""
    overlaps = score.overlaps
    panoptic = measure_panoptic_quality(overlaps)
    return RunImage(
        name=pair.image,
        modality=pair.modality,
        dataset=pair.dataset,
        height=shape[0],
        width=shape[1],
        problem=problem,
        counts={repr(iou_min): score.counts(iou_min) for iou_min in task.thresholds},
        dice=score.dice,
        inst_dice=measure_instance_dice(overlaps),
        aji=measure_aji(overlaps),
        pq=panoptic.pq,
        sq=panoptic.sq,
        ap=measure_average_precision(overlaps),
        errors=count_errors(overlaps),
        sizes=_list_sizes(overlaps, match_overlaps(overlaps, task.thresholds[0])),
    )


def _measure_diameters(areas: Counts) -> NDArray[np.float64]:
    """Give the diameters of the discs of some areas."""
    return 2 * np.sqrt(areas / np.pi)


def _list_sizes(overlaps: Overlaps, matching: Matching) -> tuple[CellSize, ...]:
    """List the true cells by size; many are thinned evenly, so that the sizes' shares stay."""
    diameters = _measure_diameters(overlaps.area_true)
    order = np.argsort(diameters, kind="stable")
    if order.size > MAX_SIZES:
        order = order[np.linspace(0, order.size - 1, MAX_SIZES).round().astype(np.intp)]
    sizes = np.round(diameters[order], 2).tolist()
    return tuple(map(CellSize, sizes, matching.true[order].tolist()))


def _count_sizes(overlaps: Overlaps, matching: Matching) -> tuple[SizeBin, ...]:
    """Count matched and unmatched instances by size."""
    n = len(SIZE_EDGES_PX)
    bin_true = np.digitize(_measure_diameters(overlaps.area_true), SIZE_EDGES_PX) - 1
    bin_pred = np.digitize(_measure_diameters(overlaps.area_pred), SIZE_EDGES_PX) - 1
    tp = np.bincount(bin_true[matching.true], minlength=n)
    fn = np.bincount(bin_true[~matching.true], minlength=n)
    fp = np.bincount(bin_pred[~matching.pred], minlength=n)
    ends = (*SIZE_EDGES_PX[1:], 0)
    return tuple(
        SizeBin(float(SIZE_EDGES_PX[i]), float(ends[i]), int(tp[i]), int(fp[i]), int(fn[i]))
        for i in range(n)
    )
