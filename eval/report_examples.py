"""Which images are shown, where their files are, and what became of each of their cells."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.errors import find_errors
from eval.matching import match_overlaps
from eval.official import find_border_ids
from eval.overlaps import Labels, measure_overlaps
from eval.pairs import Pair
from eval.run_file import Run, RunImage
from imaging.reading import SUFFIXES

PER_DATASET = 3  # of the worst, and of the best, so that one bad data set does not fill the page

Ids = frozenset[int]


@dataclass(frozen=True)
class Example:
    """An image to be shown.

    Attributes
    ----------
    image : RunImage
        Its score.
    f1 : float
        At the first threshold.
    is_worst : bool
        One of the worst, or one of the best.
    """

    image: RunImage
    f1: float
    is_worst: bool


@dataclass(frozen=True)
class Files:
    """Where the files of an image are; None where there is none.

    Attributes
    ----------
    image, truth, prediction : Path or None
        The picture and its two label images.
    """

    image: Path | None
    truth: Path | None
    prediction: Path | None


@dataclass(frozen=True)
class Verdicts:
    """Ids of the instances by what became of them.

    Attributes
    ----------
    true : mapping of str to frozenset of int
        Keys ``matched``, ``missed``, ``split``, ``swallowed`` (in a merged one), ``unscored`` (at
        the border). A split cell that has a match all the same counts as split.
    pred : mapping of str to frozenset of int
        Keys ``matched``, ``invented``, ``merged``, ``fragment`` (of a split one), ``unscored``.
    """

    true: Mapping[str, Ids]
    pred: Mapping[str, Ids]


@dataclass(frozen=True)
class FileIndex:
    """The files of a test set by the name of the image.

    Attributes
    ----------
    places : mapping of str to list of (str, Files)
        Stem of the name to ``MODALITY/DATASET`` and files of each image that bears it.
    """

    places: Mapping[str, Sequence[tuple[str, Files]]] = field(default_factory=dict)

    def find(self, image: RunImage) -> Files | None:
        """Find the files of an image; None where there are none, or no telling which."""
        places = self.places.get(stem_of(image.name), ())
        group = f"{image.modality}/{image.dataset}"
        fitting = [files for place, files in places if place == group]
        if not fitting:
            fitting = [f for place, f in places if place.split("/")[0] == image.modality]
        if not fitting:
            fitting = [files for _, files in places]
        return fitting[0] if len(fitting) == 1 else None


def index_files(pairs: Iterable[Pair], images: Mapping[Path, Path]) -> FileIndex:
    """Index pairs of label images and their pictures.

    Parameters
    ----------
    pairs : iterable of Pair
        True and predicted label images.
    images : mapping of Path to Path
        True label image to picture.

    Returns
    -------
    FileIndex
        To be asked with the images of a run.
    """
    places: dict[str, list[tuple[str, Files]]] = {}
    for pair in pairs:
        files = Files(images.get(pair.truth), pair.truth, pair.prediction)
        group = f"{pair.modality}/{pair.dataset}"
        places.setdefault(stem_of(pair.name), []).append((group, files))
    return FileIndex(places)


def pair_pictures(truths: Sequence[Path], truth_dir: Path, image_dir: Path) -> dict[Path, Path]:
    """Find the picture of each true label image by its name.

    Parameters
    ----------
    truths : sequence of Path
        Files below ``truth_dir``.
    truth_dir, image_dir : Path
        The pictures lie flat, or in the same sub-folders as the labels.

    Returns
    -------
    dict of Path to Path
        Without those that have no picture, or several.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(image_dir.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(stem_of(path.name), []).append(path)
    pictures = {}
    for truth in truths:
        candidates = found.get(stem_of(truth.name), [])
        folder = truth.parent.relative_to(truth_dir)
        beside = [p for p in candidates if p.parent.relative_to(image_dir) == folder]
        chosen = beside or candidates
        if len(chosen) == 1:
            pictures[truth] = chosen[0]
    return pictures


def stem_of(name: str) -> str:
    """Cut a file's name at its first dot and leave the ending ``_label`` out."""
    return name.rsplit("/", 1)[-1].split(".", 1)[0].removesuffix("_label")


def choose_examples(run: Run, n_each: int) -> list[Example]:
    """Choose the worst and the best images.

    Parameters
    ----------
    run : Run
        Images without a usable prediction or without any cell are passed over.
    n_each : int
        How many of either; at most half of the images.

    Returns
    -------
    list of Example
        The worst, worst first, with more errors before fewer; then the best, best first, with
        more cells before fewer. At most :data:`PER_DATASET` of a data set, unless there are
        too few otherwise.
    """
    threshold = run.thresholds[0]
    shown = [
        (image.f1_at(threshold), image.counts_at(threshold), image)
        for image in run.images
        if not image.problem
    ]
    shown = [one for one in shown if one[1].n_true + one[1].n_pred]
    n_each = min(n_each, (len(shown) + 1) // 2)
    worst = sorted(shown, key=lambda s: (s[0], -s[1].fp - s[1].fn, s[2].key))
    best = sorted(shown, key=lambda s: (-s[0], -s[1].n_true, s[2].key))
    low = _spread([image for _, _, image in worst], n_each)
    taken = {image.key for image in low}
    high = _spread([i for _, _, i in best if i.key not in taken], n_each)
    return [
        Example(image, image.f1_at(threshold), is_worst)
        for group, is_worst in ((low, True), (high, False))
        for image in group
    ]


def judge_instances(
    labels_true: Labels, labels_pred: Labels, border_px: int, iou_min: float
) -> Verdicts:
    """Tell what became of each instance of an image.

    Parameters
    ----------
    labels_true, labels_pred : (Y, X) ndarray of int
        0 is background.
    border_px : int
        Instances that reach this frame are not scored.
    iou_min : float in (0, 1]
        Smallest IoU of a match.

    Returns
    -------
    Verdicts
        Every id is in exactly one set of its side.

    Raises
    ------
    ValueError
        If shapes differ, a dtype is not integer, or an id is negative.
    """
    edge_true = find_border_ids(labels_true, border_px)
    edge_pred = find_border_ids(labels_pred, border_px)
    overlaps = measure_overlaps(labels_true, labels_pred, edge_true, edge_pred)
    matching, errors = match_overlaps(overlaps, iou_min), find_errors(overlaps)
    ids_true = np.setdiff1d(np.unique(labels_true), np.append(edge_true, 0))
    ids_pred = np.setdiff1d(np.unique(labels_pred), np.append(edge_pred, 0))
    matched_true, matched_pred = matching.true & ~errors.split, matching.pred & ~errors.merged
    missed = errors.missed & ~matched_true
    invented = errors.invented & ~matched_pred
    return Verdicts(
        true={
            "matched": _ids(ids_true[matched_true]),
            "missed": _ids(ids_true[missed]),
            "split": _ids(ids_true[errors.split]),
            "swallowed": _ids(ids_true[~(matched_true | missed | errors.split)]),
            "unscored": _ids(edge_true),
        },
        pred={
            "matched": _ids(ids_pred[matched_pred]),
            "invented": _ids(ids_pred[invented]),
            "merged": _ids(ids_pred[errors.merged]),
            "fragment": _ids(ids_pred[~(matched_pred | invented | errors.merged)]),
            "unscored": _ids(edge_pred),
        },
    )


def _ids(values: Labels) -> Ids:
    """Make a set of ids without the background."""
    return frozenset(values.tolist()) - {0}


def _spread(images: Sequence[RunImage], n: int) -> list[RunImage]:
    """Take the first images, few of a data set; then those passed over, until there are enough."""
    taken: list[RunImage] = []
    count: dict[str, int] = {}
    for image in images:
        group = f"{image.modality}/{image.dataset}"
        if count.get(group, 0) < PER_DATASET:
            count[group] = count.get(group, 0) + 1
            taken.append(image)
    places = {id(image): i for i, image in enumerate(images)}
    taken = taken[:n]
    kept = {id(image) for image in taken}
    taken += [image for image in images if id(image) not in kept][: n - len(taken)]
    return sorted(taken, key=lambda image: places[id(image)])
