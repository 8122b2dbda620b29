"""A report to look at, in one HTML file: ``python -m eval.report RUN.json -o report.html``.

RUN.json comes from ``eval.f1 --json``. Every other input adds a section: another run to compare
with, the times of ``eval.runtime --json``, the router's tables of ``eval.router --json``, and the
images with their label images, of which the worst and the best are drawn. The file needs no
network. Exit code: 0 when it was written, 2 when an input does not fit.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.pairs import PairError, check_folder, pair_folders, pair_records
from eval.report_comparison import build_comparison
from eval.report_examples import FileIndex, index_files, pair_pictures
from eval.report_inputs import Routing, Timing, read_routing, read_timing
from eval.report_markup import Content, Node, element, paragraph, section
from eval.report_page import build_page
from eval.report_router import build_router
from eval.report_scores import build_errors, build_headline, build_scores
from eval.report_sizes import build_distribution, build_sizes
from eval.report_time import build_time
from eval.report_viewer import build_images
from eval.run_file import Run, read_run
from imaging.image import ImageError
from imaging.writing import replacing
from training.data import DataError, list_records

logger = logging.getLogger(__name__)

N_EACH = 12  # worst images, and best ones


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN.json", help="of eval.f1 --json")
    parser.add_argument("--against", type=Path, metavar="OTHER.json", help="run to compare with")
    parser.add_argument("--runtime", type=Path, metavar="FILE", help="of eval.runtime --json")
    parser.add_argument("--router", type=Path, metavar="FILE", help="of eval.router --json")
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument("--data", type=Path, metavar="DIR", help="data folder with index.csv")
    truth.add_argument("-g", "--gt", type=Path, metavar="DIR", help="true label images")
    parser.add_argument("--split", default="test", help="split of --data (default: test)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="images that belong to -g")
    parser.add_argument("-s", "--seg", type=Path, metavar="DIR", help="predictions")
    parser.add_argument(
        "--examples",
        type=_count,
        default=N_EACH,
        metavar="N",
        help="how many of the worst and of the best images to draw (default: %(default)s each)",
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("report.html"), metavar="FILE", help="the report"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report that the command line asks for; see the module for the exit codes."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        check_folder(args.out.parent, "-o")
        page = build_report(
            read_checked_run(args.run),
            read_checked_run(args.against) if args.against else None,
            read_timing(args.runtime) if args.runtime else None,
            read_routing(args.router) if args.router else None,
            find_files(args),
            args.examples,
        )
        with replacing(args.out) as hidden:
            hidden.write_text(page, encoding="utf-8")
    except (DataError, ImageError, PairError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    sys.stdout.write(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB\n")
    return 0


def build_report(
    run: Run,
    other: Run | None = None,
    timing: Timing | None = None,
    routing: Routing | None = None,
    files: FileIndex | None = None,
    n_each: int = N_EACH,
) -> str:
    """Build the page.

    Parameters
    ----------
    run : Run
        What the report is about.
    other : Run, optional
        To compare with.
    timing : Timing, optional
        Running times and memory.
    routing : Routing, optional
        The router's confusion tables.
    files : FileIndex, optional
        Where images and label images are.
    n_each : int
        How many of the worst and of the best images to draw.

    Returns
    -------
    str
        HTML; a section without its input says so in one line.
    """
    sections = [
        build_scores(run),
        build_distribution(run),
        build_sizes(run),
        build_errors(run),
        build_images(run, files, n_each),
        build_comparison(run, other),
        build_time(timing),
        build_router(routing),
        _build_method(run),
    ]
    facts = [f"commit {run.commit}", run.created, f"{len(run.images)} images"]
    if other is not None:
        facts.append(f"against {other.system}")
    return build_page(run.system, facts, build_headline(run), sections)


def read_checked_run(path: Path) -> Run:
    """Read a run file and make sure that every image has every threshold.

    Parameters
    ----------
    path : Path
        As ``eval.f1 --json`` writes it.

    Returns
    -------
    Run
        Its content.

    Raises
    ------
    ValueError
        If it is no run file; the message names it.
    """
    run = read_run(path)
    if not run.thresholds:
        raise ValueError(f"{path}: no run file of eval.f1 (it has no threshold)")
    for image in run.images:
        for threshold in run.thresholds:
            if repr(threshold) not in image.counts:
                raise ValueError(
                    f"{path}: no run file of eval.f1 ({image.name} has no counts at {threshold})"
                )
    return run


def find_files(args: argparse.Namespace) -> FileIndex | None:
    """Find the files that the command line names.

    Parameters
    ----------
    args : Namespace
        With ``data``, ``split``, ``gt``, ``images`` and ``seg``.

    Returns
    -------
    FileIndex or None
        None when it names neither truth nor predictions.

    Raises
    ------
    PairError
        If it names only one of them, or a folder is none.
    DataError
        If the data folder has no index.
    """
    if args.data is None and args.gt is None and args.seg is None and args.images is None:
        return None
    if args.seg is None or (args.data is None and (args.gt is None or args.images is None)):
        raise PairError("pictures need -s and either --data, or -g and --images")
    if args.data is not None:
        records = [r for r in list_records(args.data) if r.split == args.split and r.label]
        pictures = {r.label: r.image for r in records if r.label is not None}
        return index_files(pair_records(records, args.seg), pictures)
    check_folder(args.images, "--images")
    pairs = pair_folders(args.gt, args.seg, by_folder=True)
    truths = [pair.truth for pair in pairs]
    return index_files(pairs, pair_pictures(truths, args.gt, args.images))


def _build_method(run: Run) -> Node:
    """Say how it was scored."""
    rules = run.rules
    border = f"Instances that reach the outer {rules.border_px} px are left out on both sides."
    facts = [
        border if rules.border_px else "Instances at the border are scored, too.",
        (
            f"Images from {rules.slide_px / 1e6:g} Mpx on are scored in squares of "
            f"{rules.roi_px} px; the pictures above are judged as a whole."
        ),
        (
            "The organisers' accidents are repeated."
            if rules.with_quirks
            else "A missing prediction counts as F1 0."
        ),
        f"Thresholds: {', '.join(f'{t:g}' for t in run.thresholds)}; all means at the first one.",
        "Intervals: 95 %, 1000 bootstrap draws over images with a fixed seed.",
    ]
    seams: list[Content] = []
    if run.seams is not None:
        found = run.seams
        seams.append(
            paragraph(
                f"Seams: {found.n_cut} of {found.n} predicted instances "
                f"({100 * found.share:.2f} %) have a straight edge on the grid of "
                f"{found.tile_px} px; on shifted grids, by chance, {100 * found.expected:.2f} %."
            )
        )
    return section(
        "method",
        "How it was scored",
        element("ul", {}, *(element("li", {}, fact) for fact in facts)),
        *seams,
    )


def _count(text: str) -> int:
    """Parse a number of 0 or more."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"wanted 0 or more, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
