"""Score a folder of predictions as the challenge does: ``python -m eval.f1 -g TRUTH -s SEG``.

Which truth belongs to which prediction is told by two folders (with the modality from ``--index``
or from the folder's name), or by a data folder with an index (``--data DIR --split test``).

Every true label image counts: without a usable prediction its F1 is 0. ``--as-organisers`` leaves
such images out and repeats the other accidents of the organisers' script. Exit code: 0 when
all pairs were scored, 1 when a pair had a problem, 2 when the arguments do not fit.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eval.official import Rules
from eval.pairs import Pair, PairError, check_folder, pair_folders, pair_records, read_modalities
from eval.run_file import Run, Seams, Unscored, name_commit, now_utc, write_run
from eval.scoring import ScoredImage, Task, score_pairs
from eval.seams import summarise_seams
from eval.tables import (
    format_details,
    format_sizes,
    format_summaries,
    summarise_run,
    write_csv,
)
from training.data import DataError, list_records

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.f1",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        "--modality-by-folder",
        action="store_true",
        help="-g holds folders MODALITY or MODALITY/DATASET",
    )
    add_score_arguments(parser)
    return parser


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to score and where to write."""
    parser.add_argument(
        "--threshold",
        type=float,
        nargs="+",
        default=[0.5],
        metavar="IOU",
        help="smallest IoU of a match; the first one is that of the means (default: 0.5)",
    )
    parser.add_argument(
        "--count-border-cells", action="store_true", help="score cells at the border too"
    )
    parser.add_argument(
        "--as-organisers",
        action="store_true",
        help="leave missing predictions out and repeat the script's accidents",
    )
    parser.add_argument(
        "--seams",
        type=int,
        metavar="TILE_PX",
        help="count predicted cells with a straight edge on a tile grid",
    )
    parser.add_argument(
        "--name", metavar="SYSTEM", help="name of what is scored (default: the folder's)"
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="PATH",
        help="one line an image; in a folder: NAME-THRESHOLD.csv, as the organisers name it",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the run file, for eval.compare")
    parser.add_argument("--jobs", type=int, metavar="N", help="images at a time (default: cores)")


def main(argv: Sequence[str] | None = None) -> int:
    """Score what the command line names; see the module for the exit codes."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        check_outputs(args)
        return report(list_pairs(args), args, args.seg)
    except (DataError, PairError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 2


def list_pairs(args: argparse.Namespace) -> list[Pair]:
    """List the pairs that the command line names; raises PairError or DataError."""
    if args.data is not None:
        records = [r for r in list_records(args.data) if r.split == args.split and r.label]
        if not records:
            raise PairError(f"{args.data}: no labelled images in split {args.split!r}")
        return pair_records(records, args.seg)
    modalities = read_modalities(args.index) if args.index else None
    return pair_folders(args.gt, args.seg, modalities, args.modality_by_folder)


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse outputs in a folder that does not exist, before hours of work; raises PairError."""
    if args.json:
        check_folder(args.json.parent, "--json")
    if args.csv:
        check_folder(args.csv.parent, "--csv")


def report(pairs: Sequence[Pair], args: argparse.Namespace, seg_dir: Path) -> int:
    """Score pairs; write the tables to standard output and to files.

    Parameters
    ----------
    pairs : sequence of Pair
        Files to read.
    args : Namespace
        With the options of :func:`add_score_arguments`.
    seg_dir : Path
        Folder of predictions; names the system if ``--name`` does not.

    Returns
    -------
    int
        1 when a pair had a problem, otherwise 0.

    Raises
    ------
    ValueError
        If a threshold or the size of tiles is out of range.
    OSError
        If a file cannot be written.
    """
    rules = Rules(with_quirks=args.as_organisers)
    if args.count_border_cells:
        rules = replace(rules, border_px=0)
    task = Task(tuple(args.threshold), rules, args.seams)
    images, unscored = score_all(pairs, task, args.jobs)
    system = args.name or seg_dir.resolve().name
    run = Run(
        created=now_utc(),
        commit=name_commit(),
        system=system,
        rules=rules,
        thresholds=task.thresholds,
        images=tuple(scored.image for scored in images),
        unscored=tuple(unscored),
        summaries=tuple(summarise_run(images, task.thresholds)),
        seams=_add_seams(images, task),
    )
    sys.stdout.write(format_run(run, images))
    if args.csv:
        for iou_min in task.thresholds:
            write_csv(_csv_path(args.csv, system, iou_min, task.thresholds), images, iou_min)
    if args.json:
        write_run(args.json, run)
    return int(bool(unscored) or any(scored.image.problem for scored in images))


def score_all(
    pairs: Sequence[Pair], task: Task, n_jobs: int | None = None
) -> tuple[list[ScoredImage], list[Unscored]]:
    """Score pairs and log each problem; those that cannot be scored come apart."""
    images, unscored = [], []
    for pair, scored in zip(pairs, score_pairs(pairs, task, n_jobs), strict=True):
        if isinstance(scored, Unscored):
            logger.warning("%s: left out: %s", pair.name, scored.problem)
            unscored.append(scored)
            continue
        if scored.image.problem:
            logger.warning("%s: F1 is 0: %s", pair.name, scored.image.problem)
        images.append(scored)
    return images, unscored


def format_run(run: Run, images: Sequence[ScoredImage]) -> str:
    """Lay the tables of a run out as text, ending with a line break."""
    blocks = []
    for iou_min in run.thresholds:
        summaries = summarise_run(images, (iou_min,))
        blocks.append(f"IoU >= {iou_min:g}\n{format_summaries(summaries)}")
        if run.rules.with_quirks and images:
            f1 = [image.f1_at(iou_min) for image in run.images]
            blocks.append(
                f"threshold: {iou_min} mean F1 Score: {np.mean(f1)} "
                f"median F1 Score: {np.median(f1)}"
            )
    blocks.append(format_details(run.summaries))
    if any(line.kind == "all" for line in run.summaries):
        blocks.append(format_sizes(run.summary("all").by_size))
    if run.seams:
        blocks.append(
            f"cut on a {run.seams.tile_px} px grid: {run.seams.n_cut} of {run.seams.n} instances "
            f"({run.seams.share:.2%}; by chance {run.seams.expected:.2%})"
        )
    if run.unscored:
        blocks.append(f"left out, as they could not be scored: {len(run.unscored)} images")
    return "\n\n".join(blocks) + "\n"


def _add_seams(images: Sequence[ScoredImage], task: Task) -> Seams | None:
    """Add up the cut instances, if they were asked for."""
    if task.seam_tile_px is None:
        return None
    return summarise_seams((image.seams for image in images), task.seam_tile_px)


def _csv_path(path: Path, system: str, iou_min: float, thresholds: Sequence[float]) -> Path:
    """Name the CSV of a threshold; in a folder, and where there are several, by the threshold."""
    if path.is_dir():
        return path / f"{system}-{iou_min}.csv"
    if len(thresholds) == 1:
        return path
    return path.with_name(f"{path.stem}-{iou_min}{path.suffix}")


if __name__ == "__main__":
    sys.exit(main())
