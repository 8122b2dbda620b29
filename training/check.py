"""Look at every labelled image before hours are spent on training."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.reading import ImageError, open_image
from training.data import DataError, Record

logger = logging.getLogger(__name__)

MAX_ID = 2**24  # ids beyond are resampled inexactly, and are no count of cells
LOSSY = (".jpg", ".jpeg")
MASK_PARTS = 5  # regions of one value that make a mask, not instances
MASK_PART_PX = 15  # smaller regions are specks


@dataclass(frozen=True)
class Finding:
    """What was found in one record.

    Attributes
    ----------
    record : Record
        The image and its labels.
    problem : str
        Why it cannot be learnt from, beginning with the file; empty if it can.
    has_cells : bool
        Whether its labels hold any cell.
    """

    record: Record
    problem: str
    has_cells: bool


def check_records(records: Sequence[Record]) -> None:
    """Check that labelled images and their labels can be read and fit together.

    Parameters
    ----------
    records : sequence of Record
        Of the training split, with or without a label file.

    Raises
    ------
    DataError
        If an image has no labels, sizes differ, or a file cannot be read or is no label image.
        It names the first file; the others are in the log.
    """
    with ThreadPoolExecutor() as pool:
        findings = list(pool.map(check_record, records))
    bad = [finding.problem for finding in findings if finding.problem]
    for problem in bad[1:]:
        logger.warning("%s", problem)
    if bad:
        others = f" ({len(bad) - 1} more are named above)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{others}")
    empty = [finding.record.image.name for finding in findings if not finding.has_cells]
    if empty:
        logger.warning("left out, as their labels hold no cell: %s", ", ".join(empty))


def check_record(record: Record) -> Finding:
    """Read one image and its labels whole, and compare them."""
    if record.label is None:
        return Finding(
            record, f"{record.image}: no label image found for it; add it or remove the image", True
        )
    try:
        with open_image(record.image) as image:
            shape = image.shape[:2]
            image.read((0, 0, *shape))
        with open_image(record.label) as label:
            label_shape = label.shape[:2]
            labels = label.read((0, 0, *label_shape))
    except ImageError as error:
        return Finding(record, f"{record.image.parent}: {error}", True)
    if shape != label_shape:
        problem = f"{record.image}: {shape} px, its labels {record.label.name} {label_shape} px"
        return Finding(record, problem, True)
    kind = label_problem(labels, record.label)
    problem = f"{record.label}: {kind}" if kind else ""
    return Finding(record, problem, bool(labels.any()))


def label_problem(labels: NDArray[Any], path: Path) -> str:
    """Say why pixels are no label image.

    Parameters
    ----------
    labels : (Y, X, C) ndarray
        Pixels of a label file.
    path : Path
        The file; its suffix tells whether its format keeps numbers.

    Returns
    -------
    str
        A reason with its remedy, empty if there is none.
    """
    if path.suffix.lower() in LOSSY:
        return "JPEG changes the numbers of the cells; write labels as PNG or TIFF"
    if labels.shape[2] > 1 and (labels != labels[:, :, :1]).any():
        return "a colour picture, not labels; write one channel, 0 = background, 1..N the cells"
    ids = labels[:, :, 0]
    if ids.dtype.kind == "f" and (ids != np.rint(ids)).any():
        return "holds fractions, not labels; write whole numbers"
    if ids.min() < 0 or ids.max() > MAX_ID:
        return f"ids from {ids.min()} to {ids.max()}; number the cells from 1"
    if ids.any() and ids.min() == 0 and len(np.unique(ids)) == 2:
        parts, n_parts = ndimage.label(ids > 0)
        areas = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]
        n_large = int((areas >= MASK_PART_PX).sum())
        if n_large >= MASK_PARTS:
            return f"one value for {n_large} regions, a mask; give each cell a number of its own"
    return ""


def check_unlabelled(records: Sequence[Record]) -> list[Record]:
    """Keep the unlabelled images that can be opened; the others are logged and left out."""
    kept = []
    for record in records:
        try:
            with open_image(record.image):
                kept.append(record)
        except ImageError as error:
            logger.warning("left out: %s", error)
    return kept
