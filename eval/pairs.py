"""Find the prediction that belongs to each true label image."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from training.data import Record

PREDICTION_SUFFIX = "_label.tiff"  # the organisers' rule
TRUTH_NAME = re.compile(r"(?P<stem>.+?)(_label)?\.(tiff?|png)", re.IGNORECASE)


class PairError(Exception):
    """True and predicted label images cannot be told to belong together."""


@dataclass(frozen=True)
class Pair:
    """One image to score.

    Attributes
    ----------
    name : str
        Name of the prediction's file, with its folders below the folder of predictions.
    image : str
        File name of the image, or of the true label image where the image is not known.
    truth : Path
        True label image.
    prediction : Path or None
        None where there is no such file.
    modality, dataset : str
        Groups the image is reported in; empty where unknown.
    """

    name: str
    image: str
    truth: Path
    prediction: Path | None
    modality: str = ""
    dataset: str = ""


def pair_folders(
    truth_dir: Path,
    seg_dir: Path,
    modalities: Mapping[str, str] | None = None,
    by_folder: bool = False,
) -> list[Pair]:
    """Pair the true label images of a folder with predictions.

    Parameters
    ----------
    truth_dir : Path
        Holds ``NAME_label.tif``, ``NAME_label.tiff`` or ``NAME.png`` (``.tif``, ``.tiff``).
    seg_dir : Path
        Holds ``NAME_label.tiff``, in the sub-folder of the truth or flat.
    modalities : mapping, optional
        ``NAME`` to modality, see :func:`read_modalities`.
    by_folder : bool
        The truth lies in ``MODALITY/`` or ``MODALITY/DATASET/``; sub-folders are entered.

    Returns
    -------
    list of Pair
        Sorted by name.

    Raises
    ------
    PairError
        If a folder is none, there is no true label image, two would take one prediction, or the
        predictions are files of other names only.
    """
    check_folder(truth_dir, "-g")
    found = truth_dir.rglob("*") if by_folder else truth_dir.glob("*")
    pairs = []
    for truth in sorted(found):
        match = TRUTH_NAME.fullmatch(truth.name)
        if match is None or truth.name.startswith(".") or not truth.is_file():
            continue
        folder = truth.parent.relative_to(truth_dir)
        modality = folder.parts[0] if folder.parts else (modalities or {}).get(match["stem"], "")
        groups = (modality, "/".join(folder.parts[1:]))
        pairs.append(_pair(truth, seg_dir, folder, (match["stem"], truth.name), groups))
    if not pairs:
        raise PairError(f"{truth_dir}: no label images (NAME_label.tif, NAME.png); check -g")
    return _checked(pairs, seg_dir)


def pair_records(records: Iterable[Record], seg_dir: Path) -> list[Pair]:
    """Pair the labelled images of a data folder with predictions.

    Parameters
    ----------
    records : iterable of Record
        Those without labels are passed over.
    seg_dir : Path
        Holds ``MODALITY/DATASET/NAME_label.tiff`` or, if all names differ, ``NAME_label.tiff``.

    Returns
    -------
    list of Pair
        Sorted by name.

    Raises
    ------
    PairError
        If there is no folder of predictions, two images would take one prediction, or the
        predictions are files of other names only.
    """
    pairs = [
        _pair(
            record.label,
            seg_dir,
            Path(record.modality, record.dataset),
            (record.image.stem, record.image.name),
            (record.modality, record.dataset),
        )
        for record in records
        if record.label is not None
    ]
    return _checked(pairs, seg_dir)


def read_modalities(index: Path) -> dict[str, str]:
    """Read the modality of each image name from an index.

    Parameters
    ----------
    index : Path
        CSV file with the columns ``image`` and ``modality``.

    Returns
    -------
    dict
        File name without suffix to modality.

    Raises
    ------
    PairError
        If the file cannot be read, lacks a column, or gives one name two modalities.
    """
    modalities: dict[str, str] = {}
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = [(Path(row["image"]).stem, row["modality"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise PairError(f"{index}: no index with columns image and modality ({error})") from error
    for stem, modality in rows:
        if modalities.setdefault(stem, modality) != modality:
            raise PairError(
                f"{index}: {stem} is {modalities[stem]} and {modality}; "
                "score with --data, or with -g MODALITY folders and --modality-by-folder"
            )
    return modalities


def check_folder(folder: Path, option: str) -> None:
    """Refuse what is no folder; PairError names it and the option it was given with."""
    if not folder.is_dir():
        reason = "is a file, not a folder" if folder.exists() else "no such folder"
        raise PairError(f"{folder}: {reason}; check {option}")


def _pair(
    truth: Path, seg_dir: Path, folder: Path, names: tuple[str, str], groups: tuple[str, str]
) -> Pair:
    """Look for a prediction in the truth's sub-folder, then directly in the folder."""
    stem, image = names
    short = stem.split(".", maxsplit=1)[0]  # predictions are named up to the first dot
    places = [
        seg_dir / place / (name + PREDICTION_SUFFIX)
        for place in dict.fromkeys((folder, Path()))
        for name in dict.fromkeys((stem, short))
    ]
    prediction = next((path for path in places if path.is_file()), None)
    name = prediction.relative_to(seg_dir) if prediction else folder / (short + PREDICTION_SUFFIX)
    return Pair(name.as_posix(), image, truth, prediction, *groups)


def _checked(pairs: list[Pair], seg_dir: Path) -> list[Pair]:
    """Refuse two truths with one prediction and a folder of something else; sort by name."""
    check_folder(seg_dir, "-s")
    truth_of: dict[Path, Path] = {}
    for pair in pairs:
        if pair.prediction and truth_of.setdefault(pair.prediction, pair.truth) != pair.truth:
            raise PairError(
                f"{pair.prediction} would be scored against {truth_of[pair.prediction]} and "
                f"{pair.truth}; put predictions into MODALITY/DATASET sub-folders"
            )
    if not truth_of:  # a system that wrote nothing scores 0, another folder is a mistake
        other = next((path for path in seg_dir.rglob("*") if path.is_file()), None)
        if other is not None:
            raise PairError(
                f"{seg_dir}: no prediction for any of {len(pairs)} true label images, but other "
                f"files ({other.relative_to(seg_dir)}); {pairs[0].name} is wanted; check -s"
            )
    return sorted(pairs, key=lambda pair: pair.name)
