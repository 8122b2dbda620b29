"""Scores of many images as tables: per modality and data set, and the organisers' CSV."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.official import ImageScore
from eval.pairs import Pair

# Other cells than in the remaining sets are annotated: all blood cells, or plasma cells only.
APART = ("bbbc041seg_bccd", "segpc2021_512")
DIGITS = 4  # the organisers round F1 of each image before they average
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


@dataclass(frozen=True)
class ScoredImage:
    """Score of one pair of label images.

    Attributes
    ----------
    pair : Pair
        The files.
    score : ImageScore
        Without a usable prediction all true cells are missed.
    problem : str
        Why there was no usable prediction; empty otherwise.
    """

    pair: Pair
    score: ImageScore
    problem: str = ""

    @property
    def f1(self) -> float:
        """F1 rounded to four digits, as the organisers average it."""
        return float(np.round(self.score.counts.f1, DIGITS))


@dataclass(frozen=True)
class Summary:
    """Scores of a group of images; means are over images.

    Attributes
    ----------
    name : str
        The group.
    n_images, n_missing, n_cells : int
        Images scored, those without a usable prediction among them, true cells.
    f1_mean, f1_median, recall_mean : float
        Over the images, in [0, 1].
    """

    name: str
    n_images: int
    n_missing: int
    n_cells: int
    f1_mean: float
    f1_median: float
    recall_mean: float


def summarise(name: str, images: Sequence[ScoredImage]) -> Summary:
    """Summarise a group of at least one image.

    Parameters
    ----------
    name : str
        Name of the group.
    images : sequence of ScoredImage
        Its images.

    Returns
    -------
    Summary
        Means and medians over images.

    Raises
    ------
    ValueError
        If there is no image.
    """
    if not images:
        raise ValueError(f"no images in group {name!r}")
    f1 = [image.f1 for image in images]
    return Summary(
        name=name,
        n_images=len(images),
        n_missing=sum(bool(image.problem) for image in images),
        n_cells=sum(image.score.counts.n_true for image in images),
        f1_mean=float(np.mean(f1)),
        f1_median=float(np.median(f1)),
        recall_mean=float(np.mean([image.score.counts.recall for image in images])),
    )


def summarise_modalities(images: Iterable[ScoredImage]) -> list[Summary]:
    """Summarise per modality and over all images; the sets in :data:`APART` on lines of their own.

    Parameters
    ----------
    images : iterable of ScoredImage
        Any number.

    Returns
    -------
    list of Summary
        Modalities by name, ``all``, then the sets apart, which no other line includes.
    """
    scored = list(images)
    counted = [image for image in scored if image.pair.dataset not in APART]
    apart = [image for image in scored if image.pair.dataset in APART]
    lines = _by_group(counted, lambda image: image.pair.modality or "unknown")
    if counted:
        lines.append(summarise("all", counted))
    return lines + _by_group(apart, lambda image: f"apart: {image.pair.dataset}")


def summarise_datasets(images: Iterable[ScoredImage]) -> list[Summary]:
    """Summarise per data set.

    Parameters
    ----------
    images : iterable of ScoredImage
        Any number; those without a data set are left out.

    Returns
    -------
    list of Summary
        Named ``MODALITY/DATASET``, sorted.
    """
    known = [image for image in images if image.pair.dataset]
    return _by_group(known, lambda image: f"{image.pair.modality}/{image.pair.dataset}")


def format_summaries(summaries: Iterable[Summary]) -> str:
    """Lay summaries out as lines of text with a heading."""
    lines = [
        f"{'':36}{'images':>7}{'missing':>9}{'cells':>8}{'F1 mean':>9}{'median':>8}{'recall':>8}"
    ]
    lines += [
        f"{s.name:36}{s.n_images:7d}{s.n_missing:9d}{s.n_cells:8d}"
        f"{s.f1_mean:9.4f}{s.f1_median:8.4f}{s.recall_mean:8.4f}"
        for s in summaries
    ]
    return "\n".join(lines)


def write_csv(path: Path, images: Iterable[ScoredImage]) -> None:
    """Write one line an image with the organisers' columns.

    Parameters
    ----------
    path : Path
        Overwritten.
    images : iterable of ScoredImage
        In the order of the lines.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for image in images:
            counts = image.score.counts
            rates = (counts.precision, counts.recall, image.score.dice, counts.f1)
            writer.writerow(
                [
                    image.pair.name,
                    counts.n_true,
                    counts.n_pred,
                    counts.tp,
                    image.score.fn_reported,
                    counts.fp,
                    *(float(np.round(rate, DIGITS)) for rate in rates),
                ]
            )


def _by_group(
    images: Iterable[ScoredImage], group_of: Callable[[ScoredImage], str]
) -> list[Summary]:
    """Summarise each group, sorted by name."""
    groups: dict[str, list[ScoredImage]] = {}
    for image in images:
        groups.setdefault(group_of(image), []).append(image)
    return [summarise(name, groups[name]) for name in sorted(groups)]
