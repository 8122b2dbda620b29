"""The images to learn from: the index of a data folder, and the 80/20 split by image."""

import csv
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.reading import open_image

VALIDATION_SHARE = 0.2  # of the labelled training images (paper, section 3.2.1)
LABEL_SUFFIXES = ("_label.tiff", "_label.tif", "_label.png", ".png")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FRAME = re.compile(r"[-_]?[tf]\d+$")  # time point at the end of a file's stem


class DataError(Exception):
    """A data folder has neither an index nor the challenge's layout, or a file is off."""


@dataclass(frozen=True)
class Record:
    """One image of a data folder.

    Attributes
    ----------
    image : Path
        The image file.
    label : Path or None
        Its label image, 0 = background; None for an unlabelled image.
    modality, expert, dataset : str
        As the index says; empty where unknown. ``expert`` is a suggestion from cell size.
    split : {"train", "test", "unlabelled"}
        ``test`` is for reporting only.
    cells : int
        Number of labelled cells, 0 where unknown.
    median_diameter_px : float
        Median diameter of the labelled cells, NaN where unknown.
    annotated : str
        Which cells the labels hold, in words.
    """

    image: Path
    label: Path | None
    modality: str
    expert: str
    dataset: str
    split: str
    cells: int = 0
    median_diameter_px: float = float("nan")
    annotated: str = "all"

    @property
    def is_partial(self) -> bool:
        """Whether cells outside the labels may exist in the field."""
        return "partial" in self.annotated


def list_records(data_dir: Path) -> list[Record]:
    """List the images of a data folder.

    Parameters
    ----------
    data_dir : Path
        A folder with ``index.csv``, or with the challenge's own layout
        (``Training-labeled/{images,labels}``, ``Training-unlabeled``, ``Tuning``).

    Returns
    -------
    list of Record
        In the order of the index, or of the file names.

    Raises
    ------
    DataError
        If the folder has neither layout, or the index lacks a column.
    """
    if (data_dir / "index.csv").is_file():
        return _read_index(data_dir)
    records = [
        *_list_pairs(_child(data_dir, "training-labeled", "train_labeled"), "train"),
        *_list_pairs(_child(data_dir, "tuning"), "test"),
        *_list_pairs(_child(data_dir, "training-unlabeled", "train_unlabeled"), "unlabelled"),
    ]
    if not records:
        raise DataError(
            f"{data_dir}: neither index.csv nor Training-labeled/images found; "
            "point --data at the folder that holds one of them"
        )
    return records


def _read_index(data_dir: Path) -> list[Record]:
    """Read ``index.csv``."""
    with (data_dir / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return [
            Record(
                image=data_dir / row["image"],
                label=data_dir / row["label"] if row["label"] else None,
                modality=row["modality"],
                expert=row["expert"],
                dataset=row["dataset"],
                split=row["split"],
                cells=int(row["cells"] or 0),
                median_diameter_px=float(row["median_diameter_px"] or "nan"),
                annotated=row["annotated"],
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{data_dir / 'index.csv'}: column missing or not a number: {error}"
        ) from error


def _child(folder: Path, *names: str) -> Path | None:
    """Find a sub-folder by name, whatever its case."""
    if not folder.is_dir():
        return None
    return next((p for p in sorted(folder.iterdir()) if p.name.lower() in names), None)


def _list_pairs(folder: Path | None, split: str) -> list[Record]:
    """List the images of one folder of the challenge with their labels."""
    if folder is None:
        return []
    images, labels = folder / "images", folder / "labels"
    found = sorted((images if images.is_dir() else folder).rglob("*"))
    records = []
    for path in found:
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.stem.endswith("_label"):
            continue
        stem = path.name.split(".")[0]
        candidates = (labels / (stem + suffix) for suffix in LABEL_SUFFIXES)
        label = next((p for p in candidates if p.is_file()), None)
        records.append(Record(path, label, "", "", folder.name, split))
    return records


def find_orphans(data_dir: Path) -> list[Path]:
    """List the label files of the challenge's own layout that no image belongs to.

    Parameters
    ----------
    data_dir : Path
        A folder as for :func:`list_records`; one with an index has no orphans.

    Returns
    -------
    list of Path
        In the order of their names.
    """
    folder = _child(data_dir, "training-labeled", "train_labeled")
    if folder is None or (data_dir / "index.csv").is_file() or not (folder / "labels").is_dir():
        return []
    used = {record.label for record in _list_pairs(folder, "train")}
    found = sorted((folder / "labels").iterdir())
    return [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p not in used]


def split_validation(records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """Split labelled training records 80/20 by image, whole sequences on one side.

    Parameters
    ----------
    records : iterable of Record
        Records of any split; only labelled ``train`` ones are kept.

    Returns
    -------
    train, validation : list of Record
        About 20 % of the groups of each data set validate. A data set that is one single
        sequence gives its last fifth of frames, the best that it allows.
    """
    by_dataset: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.split == "train" and record.label is not None:
            group = FRAME.sub("", record.image.stem)
            by_dataset[record.dataset][group].append(record)
    train: list[Record] = []
    validation: list[Record] = []
    for groups in by_dataset.values():
        if len(groups) == 1:
            (frames,) = groups.values()
            frames = sorted(frames, key=lambda r: r.image.name)
            groups = {str(i): [frame] for i, frame in enumerate(frames)}
            order = list(groups)
        else:  # the CRC scatters neighbouring names, the same on every machine
            order = sorted(groups, key=lambda g: zlib.crc32(g.encode()))
        n_train = min(round(len(order) * (1 - VALIDATION_SHARE)), max(1, len(order) - 1))
        for i, group in enumerate(order):
            (train if i < n_train else validation).extend(groups[group])
    return train, validation


def read_image(record: Record) -> NDArray[np.generic]:
    """Read the whole image of a record as (Y, X, C), C in {1, 3}, in the file's dtype.

    Raises
    ------
    imaging.reading.ImageError
        If the file cannot be read.
    """
    with open_image(record.image) as image:
        return image.read((0, 0, *image.shape[:2]))


def read_labels(path: Path) -> NDArray[np.int32]:
    """Read a label image as (Y, X) int32, 0 = background.

    Raises
    ------
    imaging.reading.ImageError
        If the file cannot be read.
    """
    with open_image(path) as image:
        return image.read((0, 0, *image.shape[:2]))[:, :, 0].astype(np.int32)
