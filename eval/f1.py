"""The challenge's F1 over a folder of predictions: ``python -m eval.f1 -g TRUTH -s PREDICTIONS``.

Three ways to say which truth belongs to which prediction: two folders (with the modality from
``--index`` or from the folder's name), or a data folder with an index
(``--data DIR --split test``).
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from eval.matching import Labels
from eval.official import Rules, score_labels, score_missing
from eval.pairs import Pair, PairError, pair_folders, pair_records, read_modalities
from eval.tables import (
    ScoredImage,
    format_summaries,
    summarise_datasets,
    summarise_modalities,
    write_csv,
)
from imaging.reading import ImageError, open_image
from training.data import DataError, list_records

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m eval.f1", description=__doc__)
    parser.add_argument(
        "-s",
        "--seg",
        type=Path,
        required=True,
        metavar="DIR",
        help="predictions: NAME_label.tiff, flat or in MODALITY/DATASET",
    )
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("-g", "--gt", type=Path, metavar="DIR", help="true label images")
    truth.add_argument("--data", type=Path, metavar="DIR", help="data folder with index.csv")
    parser.add_argument("--split", default="test", help="split of --data (default: test)")
    modality = parser.add_mutually_exclusive_group()
    modality.add_argument("--index", type=Path, metavar="CSV", help="modality of the names in -g")
    modality.add_argument(
        "--modality-by-folder", action="store_true", help="-g holds one folder a modality"
    )
    add_rule_arguments(parser)
    return parser


def add_rule_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to score and where to write."""
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.5], metavar="IOU")
    parser.add_argument(
        "--count-border-cells", action="store_true", help="score cells at the border too"
    )
    parser.add_argument(
        "--as-organisers",
        action="store_true",
        help="leave missing predictions out and repeat the script's accidents",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="one line an image")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the tables")


def main(argv: Sequence[str] | None = None) -> int:
    """Score what the command line names; 0 when scored, 2 when the arguments do not fit."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        report(list_pairs(args), args)
    except (DataError, ImageError, PairError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    return 0


def list_pairs(args: argparse.Namespace) -> list[Pair]:
    """List the pairs that the command line names; raises PairError or DataError."""
    if args.data is not None:
        records = [r for r in list_records(args.data) if r.split == args.split and r.label]
        if not records:
            raise PairError(f"{args.data}: no labelled images in split {args.split!r}")
        return pair_records(records, args.seg)
    modalities = read_modalities(args.index) if args.index else None
    return pair_folders(args.gt, args.seg, modalities, args.modality_by_folder)


def report(pairs: Sequence[Pair], args: argparse.Namespace) -> None:
    """Score at every threshold; write the tables to standard output and to files."""
    rules = Rules(with_quirks=args.as_organisers)
    if args.count_border_cells:
        rules = replace(rules, border_px=0)
    results = []
    for iou_min in args.threshold:
        images = score_pairs(pairs, replace(rules, iou_min=iou_min))
        modalities, datasets = summarise_modalities(images), summarise_datasets(images)
        sys.stdout.write(f"IoU >= {iou_min:g}\n{format_summaries([*modalities, *datasets])}\n")
        if args.as_organisers and images:
            f1 = [image.f1 for image in images]
            sys.stdout.write(
                f"threshold: {iou_min} mean F1 Score: {np.mean(f1)} "
                f"median F1 Score: {np.median(f1)}\n"
            )
        if args.csv:
            write_csv(_numbered(args.csv, iou_min, len(args.threshold)), images)
        results.append(
            {
                "iou_min": iou_min,
                "modalities": [asdict(line) for line in modalities],
                "datasets": [asdict(line) for line in datasets],
            }
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def score_pairs(pairs: Iterable[Pair], rules: Rules) -> list[ScoredImage]:
    """Score pairs of label images.

    Parameters
    ----------
    pairs : iterable of Pair
        Files to read.
    rules : Rules
        How to score. With quirks, images without a usable prediction are left out; otherwise
        all their cells are missed.

    Returns
    -------
    list of ScoredImage
        In the order of the pairs.

    Raises
    ------
    imaging.reading.ImageError
        If a true label image cannot be read.
    """
    images = []
    for pair in pairs:
        image = _score_pair(pair, rules)
        if image.problem:
            logger.warning("%s: %s", pair.name, image.problem)
        if not (image.problem and rules.with_quirks):
            images.append(image)
    return images


def read_label_image(path: Path) -> Labels:
    """Read a label image in the dtype of its file.

    Parameters
    ----------
    path : Path
        One channel; of several the first is taken.

    Returns
    -------
    (Y, X) ndarray
        Integer; whole numbers stored as float become int64.

    Raises
    ------
    imaging.reading.ImageError
        If the file cannot be read or holds fractions.
    """
    with open_image(path) as image:
        pixels = image.read((0, 0, *image.shape[:2]))[:, :, 0]
    if pixels.dtype.kind == "f":
        if (pixels != np.rint(pixels)).any():
            raise ImageError.about(path, "holds fractions, not labels", "write integer labels")
        return pixels.astype(np.int64)
    labels: Labels = pixels
    return labels


def _score_pair(pair: Pair, rules: Rules) -> ScoredImage:
    """Score one pair; a prediction that is missing or unusable leaves a problem."""
    labels_true = read_label_image(pair.truth)
    problem = "no prediction"
    if pair.prediction is not None:
        try:
            return ScoredImage(
                pair, score_labels(labels_true, read_label_image(pair.prediction), rules)
            )
        except (ImageError, ValueError) as error:
            problem = str(error)
    return ScoredImage(pair, score_missing(labels_true, rules), problem)


def _numbered(path: Path, iou_min: float, n_thresholds: int) -> Path:
    """Name the CSV of one of several thresholds as the organisers do: NAME-0.5.csv."""
    return path if n_thresholds == 1 else path.with_name(f"{path.stem}-{iou_min}{path.suffix}")


if __name__ == "__main__":
    sys.exit(main())
