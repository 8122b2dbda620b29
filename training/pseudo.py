"""Pseudo-masks: what the current expert sees in unlabelled images, where it is sure of it.

An expert segments each image as a user's would be, size estimate included, and once more mirrored.
Cells that both times agree on become labels; where the two differ nothing is trusted, so that the
next network is not taught a guess. An image with too few cells, or with too little agreement, is
dropped whole.
"""

import csv
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.image import ArraySource, Box, Image, SourceImage
from imaging.reading import open_image
from models.flows import renumber
from tiling.expert import apply_expert
from tiling.maps import TileNetwork
from tiling.settings import TilingSettings
from tiling.survey import survey_image
from training.data import Record
from training.fields import Field, FieldSettings, encode_field

logger = logging.getLogger(__name__)

Labels = NDArray[np.int32]

AGREE_IOU = 0.5  # of the same cell in both answers


@dataclass(frozen=True)
class PseudoSettings:
    """Which pseudo-masks are learnt from.

    Attributes
    ----------
    min_cells : int
        Fewer agreed cells drop the image.
    min_agreement : float in [0, 1]
        Smallest F1 between the answers to the image and to its mirror image.
    region_px : int
        Images larger than this on a side give up to ``n_regions`` squares of it instead.
    n_regions : int
        Those with the most contrast.
    """

    min_cells: int = 3
    min_agreement: float = 0.7
    region_px: int = 1536
    n_regions: int = 4


@dataclass(frozen=True)
class PseudoMask:
    """The answer of an expert to one region of an unlabelled image.

    Attributes
    ----------
    labels : (Y, X) ndarray of int32
        The agreed cells, ids 1..N.
    trusted : (Y, X) ndarray of bool
        False on cells of either answer that the other does not have.
    agreement : float
        F1 between the two answers, 0 without any cell.
    """

    labels: Labels
    trusted: NDArray[np.bool_]
    agreement: float

    @property
    def n_cells(self) -> int:
        """Number of agreed cells."""
        return int(self.labels.max(initial=0))

    def is_sure(self, settings: PseudoSettings) -> bool:
        """Whether the mask is learnt from."""
        return self.n_cells >= settings.min_cells and self.agreement >= settings.min_agreement


def compare_answers(first: Labels, second: Labels) -> PseudoMask:
    """Keep what two label images of the same field agree on.

    Parameters
    ----------
    first, second : (Y, X) ndarray of int32
        Ids 1..N, 0 = background.

    Returns
    -------
    PseudoMask
        The cells of the first that have an IoU of more than 0.5 with one of the second (there
        can only be one), by the outlines of the first.
    """
    n_first, n_second = int(first.max(initial=0)), int(second.max(initial=0))
    area_first = np.bincount(first.ravel(), minlength=n_first + 1)
    area_second = np.bincount(second.ravel(), minlength=n_second + 1)
    keys = first.astype(np.int64) * (n_second + 1) + second
    pairs, shared = np.unique(keys[(first > 0) & (second > 0)], return_counts=True)
    a, b = np.divmod(pairs, n_second + 1)
    agrees = shared > AGREE_IOU * (area_first[a] + area_second[b] - shared)
    known_first, known_second = np.zeros(n_first + 1, bool), np.zeros(n_second + 1, bool)
    known_first[a[agrees]], known_second[b[agrees]] = True, True
    known_first[0] = known_second[0] = True  # background of either is no disagreement
    n_cells = int((area_first[1:] > 0).sum() + (area_second[1:] > 0).sum())
    agreed = known_first[first]
    return PseudoMask(
        labels=renumber(np.where(agreed, first, 0)),
        trusted=agreed & known_second[second],
        agreement=2.0 * int(agrees.sum()) / n_cells if n_cells else 0.0,
    )


def predict_pseudo(network: TileNetwork, pixels: NDArray[np.generic], folder: Path) -> PseudoMask:
    """Segment pixels and their mirror image, and compare.

    Parameters
    ----------
    network : TileNetwork
        The expert.
    pixels : (Y, X, C) ndarray
        In the file's own unit.
    folder : Path
        Where a large label image may take space.

    Returns
    -------
    PseudoMask
    """
    answers = []
    for seen in (pixels, np.ascontiguousarray(pixels[:, ::-1])):
        image = SourceImage(folder / "region", ArraySource(seen))
        found = apply_expert(network, image, survey_image(image), folder, TilingSettings())
        answers.append(np.array(found.labels))
    return compare_answers(answers[0], np.ascontiguousarray(answers[1][:, ::-1]))


def choose_regions(image: Image, settings: PseudoSettings) -> list[Box]:
    """Choose what is seen of an image: all of it, or the squares of a slide with most contrast."""
    height, width = image.shape[:2]
    side = settings.region_px
    if max(height, width) <= side:
        return [(0, 0, height, width)]
    overview = image.overview().mean(axis=2)
    k = max(height, width) / max(overview.shape)
    corners = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    boxes = [(max(0, min(y, height - side)), max(0, min(x, width - side))) for y, x in corners]
    whole = [(y, x, min(height, y + side), min(width, x + side)) for y, x in boxes]

    def contrast(box: Box) -> float:
        y0, x0, y1, x1 = (round(c / k) for c in box)
        return float(overview[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].std())

    return sorted(sorted(whole, key=contrast, reverse=True)[: settings.n_regions])


def prepare_unlabelled(
    records: Sequence[Record], settings: FieldSettings, pseudo: PseudoSettings
) -> list[Field]:
    """Prepare unlabelled images: fields without any cell, and nothing trusted.

    Parameters
    ----------
    records : sequence of Record
        Images that can be opened.
    settings : FieldSettings
        What the network needs.
    pseudo : PseudoSettings
        Size and number of the regions.

    Returns
    -------
    list of Field
        One a region.
    """
    fields = []
    for record in records:
        with open_image(record.image) as image:
            for box in choose_regions(image, pseudo):
                pixels = image.read(box)
                nothing = np.zeros(pixels.shape[:2], np.int32)
                fields.append(encode_field(record, pixels, nothing, nothing > 0, settings))
    logger.info("%d unlabelled fields prepared", len(fields))
    return fields


def prepare_pseudo(
    records: Sequence[Record],
    network: TileNetwork,
    settings: tuple[FieldSettings, PseudoSettings],
    folder: Path,
    is_stopped: Callable[[], bool] = lambda: False,
) -> list[Field] | None:
    """Segment unlabelled images and prepare those with sure masks as training fields.

    Parameters
    ----------
    records : sequence of Record
        Images that can be opened.
    network : TileNetwork
        The current expert.
    settings : (FieldSettings, PseudoSettings)
        What the network needs, and which masks count.
    folder : Path
        Keeps each mask as soon as it is made (a later call reads it), and ``masks.csv``.
    is_stopped : callable
        Asked after each image.

    Returns
    -------
    list of Field or None
        None when stopped before the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields, rows, began = [], [], time.monotonic()
    for i, record in enumerate(records, start=1):
        with open_image(record.image) as image:
            for box in choose_regions(image, settings[1]):
                pixels = image.read(box)
                mask = _kept_mask(folder / _mask_name(record, box), network, pixels)
                sure = mask.is_sure(settings[1])
                rows.append((record, box, mask, sure))
                if sure:
                    fields.append(
                        encode_field(record, pixels, mask.labels, mask.trusted, settings[0])
                    )
        if is_stopped():
            return None
        if i % 10 == 0 or i == len(records):
            left = (len(records) - i) * (time.monotonic() - began) / i / 60
            logger.info(
                "%d/%d images, %d sure masks, about %.0f min left",
                i, len(records), len(fields), left,
            )  # fmt: skip
    _write_table(folder / "masks.csv", rows)
    return fields


def _mask_name(record: Record, box: Box) -> str:
    """Name the file of a region's mask; images of one name in two folders differ."""
    key = hashlib.sha256(f"{record.dataset}/{record.image}".encode()).hexdigest()[:8]
    return f"{record.image.stem}-{box[0]}-{box[1]}-{key}.npz"


def _kept_mask(path: Path, network: TileNetwork, pixels: NDArray[np.generic]) -> PseudoMask:
    """Read a mask made earlier, or make and keep it."""
    if path.is_file():
        with np.load(path) as saved:
            return PseudoMask(saved["labels"], saved["trusted"], float(saved["agreement"]))
    mask = predict_pseudo(network, pixels, path.parent)
    partial = path.with_suffix(f".{os.getpid()}.partial.npz")
    np.savez_compressed(partial, labels=mask.labels, trusted=mask.trusted, agreement=mask.agreement)
    partial.replace(path)
    return mask


def _write_table(path: Path, rows: Sequence[tuple[Record, Box, PseudoMask, bool]]) -> None:
    """Write what was found in each region."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "image", "y0", "x0", "cells", "agreement", "learnt"])
        for record, box, mask, sure in rows:
            writer.writerow(
                [record.dataset, record.image.name, *box[:2], mask.n_cells,
                 round(mask.agreement, 4), int(sure)]
            )  # fmt: skip
