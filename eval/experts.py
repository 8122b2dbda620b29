"""Compare experts on the same images: ``python -m eval.experts --data DIR -o OUT --experts A B``.

The router is left out: every expert named segments every image chosen, at the cell size that it
estimates, at the true one, or at a constant one. So one table tells which expert should serve a
modality, what a wrong turn of the router costs, and what the estimate of the size costs.
"""

import argparse
import csv
import itertools
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from arguments import read_count
from eval.leave_one_out import GivenScale, choose_images, score_image
from eval.tables import APART
from imaging.reading import ImageError
from manifest import WEIGHTS_DIR, WeightsError, sha256_of, verified_path
from models.cellpose_expert import NET_DIAMETER_PX
from models.registry import EXPERTS, SPECS, load_segmenter, resolve_device
from models.size_view import median_diameter
from router.names import MODALITIES
from tiling.maps import TileNetwork
from training.data import DataError, Record, list_records, read_labels, split_validation

logger = logging.getLogger(__name__)

ESTIMATED, TRUE = "estimated", "true"
TEXTS = ("expert", "weights", "size", "modality", "dataset", "image")  # columns of a score


@dataclass(frozen=True)
class Score:
    """What one expert found in one image.

    Attributes
    ----------
    expert : str
    weights : str
        First 12 digits of the weight file's SHA-256.
    size : str
        ``estimated``, ``true``, or the constant diameter in px, as the command named it.
    modality, dataset, image : str
        Of the image, as the index says.
    f1 : float
        At IoU 0.5, by the organisers' rules.
    """

    expert: str
    weights: str
    size: str
    modality: str
    dataset: str
    image: str
    f1: float

    @property
    def key(self) -> tuple[str, ...]:
        """What a score is of; two scores of one key are equal."""
        return self.expert, self.weights, self.size, self.dataset, self.image


def choose_records(
    records: Sequence[Record], split: str, modalities: Sequence[str], n_images: int
) -> list[Record]:
    """Choose the images to compare on, evenly over the names of each data set.

    Parameters
    ----------
    records : sequence of Record
        All of a data folder.
    split : {"validation", "test"}
        The fifth of the training images that no expert learns from, or the test images.
    modalities : sequence of str
        Those wanted.
    n_images : int
        Largest number of each data set.

    Returns
    -------
    list of Record
        Labelled throughout; sets that annotate other cells than the rest are left out.

    Raises
    ------
    DataError
        If no image is left.
    """
    if split == "validation":
        wanted = split_validation(records)[1]
    else:
        wanted = [r for r in records if r.split == split and r.label is not None]
    by_set: dict[str, list[Record]] = defaultdict(list)
    for record in wanted:
        if record.modality in modalities and not record.is_partial and record.dataset not in APART:
            by_set[record.dataset].append(record)
    chosen = [r for name in sorted(by_set) for r in choose_images(by_set[name], n_images)]
    if not chosen:
        raise DataError(f"no labelled {split} images of {' or '.join(modalities)}; check --data")
    return chosen


def tell_size(network: TileNetwork, size: str, diameter_px: float) -> TileNetwork:
    """Give an expert the cell size, unless it is to estimate it.

    Parameters
    ----------
    network : TileNetwork
        A Cellpose expert, for any ``size`` but ``estimated``.
    size : str
        ``estimated``, ``true`` or a number of pixels.
    diameter_px : float
        True median diameter; NaN without cells, which leaves the estimate.

    Returns
    -------
    TileNetwork
    """
    told_px = diameter_px if size == TRUE else np.nan if size == ESTIMATED else float(size)
    if not np.isfinite(told_px):
        return network
    return cast("TileNetwork", GivenScale(network, NET_DIAMETER_PX / told_px))


def compare(
    records: Sequence[Record],
    experts: Sequence[str],
    sizes: Sequence[str],
    weights_dir: Path,
    known: Iterable[Score],
) -> Iterator[Score]:
    """Let every expert segment every image, one expert after the other.

    Parameters
    ----------
    records : sequence of Record
        With label files.
    experts : sequence of str
        Names.
    sizes : sequence of str
        For the Cellpose experts; the others see native pixels and count as ``estimated``.
    weights_dir : Path
        Folder of the weights.
    known : iterable of Score
        Scores of an earlier call, which are not computed again.

    Yields
    ------
    Score

    Raises
    ------
    imaging.reading.ImageError, manifest.WeightsError
        If a file cannot be read.
    """
    done = {score.key: score for score in known}
    for expert in experts:
        digest = sha256_of(verified_path(SPECS[expert].weights, weights_dir))[:12]
        network: Any = load_segmenter(expert, resolve_device("auto"), weights_dir)
        own = sizes if expert.startswith("cellpose") else (ESTIMATED,)
        for size, record in itertools.product(own, records):
            name = record.image.name
            score = Score(expert, digest, size, record.modality, record.dataset, name, 0.0)
            if score.key not in done:
                assert record.label is not None
                labels = read_labels(record.label)
                told = tell_size(network, size, median_diameter(labels))
                f1 = score_image(told, record, labels)
                done[score.key] = replace(score, f1=round(f1, 4))
                logger.info("%s (%s), %s: F1 %.3f", expert, size, name, f1)
            yield done[score.key]


def read_scores(path: Path) -> list[Score]:
    """Read the scores of earlier calls; none where there is no file; ValueError if it is off."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return [Score(**{name: row[name] for name in TEXTS}, f1=float(row["f1"])) for row in rows]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: no scores of this program; remove it") from error


def format_table(scores: Sequence[Score]) -> str:
    """Write mean F1 (and the median of a modality) as a Markdown table, one column an expert."""
    columns = list(dict.fromkeys((score.expert, score.size) for score in scores))
    heads = [f"{expert} ({size} size)" for expert, size in columns]
    lines = [
        f"| images of | number | {' | '.join(heads)} |",
        "|---|---|" + "---|" * len(columns),
    ]
    for title, group, with_median in _groups(scores):
        cells = []
        for column in columns:
            f1 = [score.f1 for score in group if (score.expert, score.size) == column]
            median = f" / {np.median(f1):.3f}" if with_median and f1 else ""
            cells.append(f"{np.mean(f1):.3f}{median}" if f1 else "")
        n_images = len({(score.dataset, score.image) for score in group})
        lines.append(f"| {title} | {n_images} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _groups(scores: Sequence[Score]) -> Iterator[tuple[str, list[Score], bool]]:
    """Part scores by modality, then by data set; tells whether a median is of use."""
    for modality in [m for m in MODALITIES if any(s.modality == m for s in scores)]:
        own = [score for score in scores if score.modality == modality]
        yield f"**{modality}** (mean / median)", own, True
        for dataset in sorted({score.dataset for score in own}):
            yield dataset, [score for score in own if score.dataset == dataset], False


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m eval.experts", description=__doc__)
    add_choice_of_images(parser)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="scores.csv and table.md"
    )
    parser.add_argument("--experts", nargs="+", required=True, choices=EXPERTS, metavar="NAME")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument(
        "--size", nargs="+", default=[ESTIMATED], metavar="SIZE", help="estimated, true, or px"
    )
    return parser


def add_choice_of_images(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell which labelled images, and the weights that are put to them."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--modality", nargs="+", choices=MODALITIES, default=MODALITIES)
    parser.add_argument("--images", type=read_count, default=20, metavar="N", help="a data set")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_DIR, metavar="DIR")


def check_sizes(sizes: Sequence[str]) -> None:
    """Refuse sizes that are neither named nor positive numbers; ValueError."""
    for size in sizes:
        try:
            fits = size in (ESTIMATED, TRUE) or 0 < float(size) < np.inf
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"--size takes estimated, true or pixels, got {size!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write scores and table, print the table; 2 when something does not fit."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parser = build_parser()
    args = parser.parse_args(argv)
    path = args.out / "scores.csv"
    try:
        check_sizes(args.size)
        records = choose_records(list_records(args.data), args.split, args.modality, args.images)
        args.out.mkdir(parents=True, exist_ok=True)
        known = read_scores(path)
        scores = []
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Score)])
            writer.writeheader()
            writer.writerows(asdict(score) for score in known)
            kept = {score.key for score in known}
            for score in compare(records, args.experts, args.size, args.weights, known):
                scores.append(score)
                if score.key not in kept:
                    writer.writerow(asdict(score))
                    file.flush()
        table = format_table(scores)
        (args.out / "table.md").write_text(table, encoding="utf-8")
    except (DataError, ImageError, WeightsError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    sys.stdout.write(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
