"""Scores of many images as tables: per modality and data set, and the organisers' CSV."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from eval.intervals import bootstrap
from eval.run_file import DIGITS, ErrorCounts, RunImage, RunSummary, SizeBin
from eval.scoring import ScoredImage

# Other cells than in the remaining sets are annotated: all blood cells, or plasma cells only.
APART = ("bbbc041seg_bccd", "segpc2021_512")
CSV_COLUMNS = (
    "names",
    "true_num",
    "pred_num",
    "correct_num(TP)",
    "missed_num(FN)",
    "wrong_num(FP)",
    "precision",
    "recall",
    "dice",
    "F1",
)


def summarise_run(images: Iterable[ScoredImage], thresholds: tuple[float, ...]) -> list[RunSummary]:
    """Summarise per modality, over all images, and per data set.

    Parameters
    ----------
    images : iterable of ScoredImage
        Any number.
    thresholds : tuple of float
        Those that the images were scored at; the first is the one of the summaries.

    Returns
    -------
    list of RunSummary
        Modalities by name, ``all``, data sets by name. The sets in :data:`APART` are in no other
        line; images without a data set in no line of that kind.
    """
    scored = list(images)
    counted = [image for image in scored if image.pair.dataset not in APART]
    known = [image for image in scored if image.pair.dataset]
    lines = _by_group(counted, "modality", lambda one: one.pair.modality or "unknown", thresholds)
    if counted:
        lines.append(summarise("all", "all", counted, thresholds))
    return lines + _by_group(
        known, "dataset", lambda one: f"{one.pair.modality}/{one.pair.dataset}", thresholds
    )


def summarise(
    name: str, kind: str, images: Sequence[ScoredImage], thresholds: tuple[float, ...]
) -> RunSummary:
    """Summarise a group of at least one image.

    Parameters
    ----------
    name, kind : str
        Of the group.
    images : sequence of ScoredImage
        Its images.
    thresholds : tuple of float
        Those that the images were scored at; the first is the one of the summary.

    Returns
    -------
    RunSummary
        Means and medians over images.

    Raises
    ------
    ValueError
        If there is no image.

    Notes
    -----
    In the words of the paper's Table 3, ``dice_mean`` is mDice, ``precision_mean`` mPrecision,
    ``recall_mean`` mRecall, ``f1_mean`` mF1-score and ``inst_dice_mean`` mInstDice; its Table 4
    has ``f1_median`` and ``f1_mean`` by modality.
    """
    if not images:
        raise ValueError(f"no images in group {name!r}")
    scores = [one.image for one in images]
    counts = [score.counts_at(thresholds[0]) for score in scores]
    f1 = [score.f1_at(thresholds[0]) for score in scores]
    mean, median = bootstrap(f1, np.mean), bootstrap(f1, np.median)
    return RunSummary(
        name=name,
        kind=kind,
        n_images=len(images),
        n_missing=sum(bool(score.problem) for score in scores),
        n_cells=sum(count.n_true for count in counts),
        f1_mean=mean.value,
        f1_mean_low=mean.low,
        f1_mean_high=mean.high,
        f1_median=median.value,
        f1_median_low=median.low,
        f1_median_high=median.high,
        dice_mean=_mean(score.dice for score in scores),
        precision_mean=_mean(count.precision for count in counts),
        recall_mean=_mean(count.recall for count in counts),
        inst_dice_mean=_mean(score.inst_dice for score in scores),
        aji_mean=_mean(score.aji for score in scores),
        pq_mean=_mean(score.pq for score in scores),
        ap_mean=_mean(score.ap for score in scores),
        f1_means={repr(t): _mean(score.f1_at(t) for score in scores) for t in thresholds},
        errors=_add_errors(scores),
        by_size=_add_sizes(images),
        apart=images[0].pair.dataset in APART,
    )


def format_summaries(summaries: Sequence[RunSummary]) -> str:
    """Lay F1 of summaries out as lines of text with a heading."""
    head = (
        f"{'':36}{'images':>7}{'missing':>9}{'cells':>8}{'F1 mean':>9}{'95 %':>15}"
        f"{'median':>9}{'95 %':>15}{'precision':>11}{'recall':>8}"
    )
    lines = [
        f"{_title(s):36}{s.n_images:7d}{s.n_missing:9d}{s.n_cells:8d}"
        f"{s.f1_mean:9.4f}{_range(s.f1_mean_low, s.f1_mean_high):>15}"
        f"{s.f1_median:9.4f}{_range(s.f1_median_low, s.f1_median_high):>15}"
        f"{s.precision_mean:11.4f}{s.recall_mean:8.4f}"
        for s in summaries
    ]
    return "\n".join([head, *lines])


def format_details(summaries: Sequence[RunSummary]) -> str:
    """Lay the other scores, means over images, and the sums of errors out as lines of text."""
    head = (
        f"{'':36}{'Dice':>8}{'InstDice':>10}{'AP':>8}{'AJI':>8}{'PQ':>8}"
        f"{'split':>8}{'merged':>8}{'missed':>8}{'invented':>10}"
    )
    lines = [
        f"{_title(s):36}{s.dice_mean:8.4f}{s.inst_dice_mean:10.4f}{s.ap_mean:8.4f}"
        f"{s.aji_mean:8.4f}{s.pq_mean:8.4f}{s.errors.split:8d}{s.errors.merged:8d}"
        f"{s.errors.missed:8d}{s.errors.invented:10d}"
        for s in summaries
    ]
    return "\n".join([head, *lines])


def format_sizes(bins: Iterable[SizeBin]) -> str:
    """Lay recall and F1 by cell size out as lines of text with a heading."""
    lines = [f"{'diameter in px':36}{'cells':>8}{'recall':>8}{'F1':>8}"]
    lines += [
        f"{f'{b.low_px:g} to {b.high_px:g}' if b.high_px else f'{b.low_px:g} and more':36}"
        f"{b.counts.n_true:8d}{b.counts.recall:8.4f}{b.counts.f1:8.4f}"
        for b in bins
    ]
    return "\n".join(lines)


def write_csv(path: Path, images: Iterable[ScoredImage], iou_min: float) -> None:
    """Write one line an image with the organisers' columns.

    Parameters
    ----------
    path : Path
        Overwritten.
    images : iterable of ScoredImage
        In the order of the lines.
    iou_min : float
        One of the thresholds that the images were scored at.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for scored in images:
            counts = scored.image.counts_at(iou_min)
            rates = (counts.precision, counts.recall, scored.image.dice, counts.f1)
            writer.writerow(
                [
                    scored.pair.name,
                    counts.n_true,
                    counts.n_pred,
                    counts.tp,
                    counts.fn - scored.n_unreported,
                    counts.fp,
                    *(float(np.round(rate, DIGITS)) for rate in rates),
                ]
            )


def _by_group(
    images: Iterable[ScoredImage],
    kind: str,
    group_of: Callable[[ScoredImage], str],
    thresholds: tuple[float, ...],
) -> list[RunSummary]:
    """Summarise each group, sorted by name."""
    groups: dict[str, list[ScoredImage]] = {}
    for image in images:
        groups.setdefault(group_of(image), []).append(image)
    return [summarise(name, kind, groups[name], thresholds) for name in sorted(groups)]


def _add_errors(images: Sequence[RunImage]) -> ErrorCounts:
    """Add up the errors of several images."""
    return ErrorCounts(
        split=sum(image.errors.split for image in images),
        merged=sum(image.errors.merged for image in images),
        missed=sum(image.errors.missed for image in images),
        invented=sum(image.errors.invented for image in images),
    )


def _add_sizes(images: Sequence[ScoredImage]) -> tuple[SizeBin, ...]:
    """Add up the bins of several images; empty ones are left out."""
    sums = [
        SizeBin(
            same[0].low_px,
            same[0].high_px,
            tp=sum(one.tp for one in same),
            fp=sum(one.fp for one in same),
            fn=sum(one.fn for one in same),
        )
        for same in zip(*(image.by_size for image in images), strict=True)
    ]
    return tuple(one for one in sums if one.tp or one.fp or one.fn)


def _mean(values: Iterable[float]) -> float:
    """Mean over images."""
    return float(np.mean(list(values)))


def _title(summary: RunSummary) -> str:
    """Name a group, and say whether it is left out of the others."""
    return f"{summary.name} (apart)" if summary.apart else summary.name


def _range(low: float, high: float) -> str:
    """Write an interval."""
    return f"{low:.4f}-{high:.4f}"
