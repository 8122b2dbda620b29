"""Train the experts: check and prepare the data, train, export the weights."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from imaging.reading import ImageError
from manifest import WEIGHTS_DIR, WeightsError
from training.check import check_records, check_unlabelled
from training.data import DataError, Record, find_orphans, list_records
from training.experts import BASE, Choices, Workplace, plan_expert, train_expert
from training.loop import DivergedError, Stop, StopRequest
from training.modality import fill_modalities
from training.recipes import RECIPES
from training.router_run import find_router, train_router

logger = logging.getLogger(__name__)

STOPPED = 3  # exit code of a run that was stopped and can be resumed
ROUTER = "router"


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser of ``train.py``."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__,
        epilog=f"exit code 0: trained; 1: failed; 2: wrong usage; {STOPPED}: stopped, run the same "
        "command again to go on",
    )
    parser.add_argument(
        "expert",
        choices=["all", ROUTER, *RECIPES],
        help="one expert, the router, or all in the order they need; what is trained is skipped",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with index.csv, or with the challenge's own layout",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="checkpoints and caches"
    )
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS_DIR, metavar="DIR", help="where weights go"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device"
    )
    add_choices(parser)
    return parser


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add the options that change the recipes."""
    parser.add_argument(
        "--protocol",
        choices=["short", "paper"],
        default="short",
        help="short: the recipe of the shipped weights, for two CPU cores; paper: its Table 2",
    )
    parser.add_argument(
        "--augment",
        choices=["paper", "short", "wide"],
        default="short",
        help="short: the recipe's; paper: no more than the paper's; wide: more of everything, for "
        "images from unseen sources",
    )
    parser.add_argument(
        "--semi",
        choices=["none", "paper", "cycle", "cross"],
        default="none",
        help="learn from unlabelled images too; paper: pseudo-mask cycles for the phase, DIC and "
        "general experts, cross supervision for fluorescence, nothing for brightfield",
    )
    parser.add_argument("--cycles", type=positive, default=1, help="pseudo-mask cycles")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="start from these weights: .safetensors, checkpoint.pt, or an official Cellpose 3 "
        f"checkpoint; with all they start {BASE}",
    )
    parser.add_argument(
        "--leave-out",
        nargs="+",
        default=[],
        metavar="DATASET",
        help="data sets that are not learnt from, labelled or not",
    )
    parser.add_argument(
        "--steps",
        type=natural,
        help="optimiser steps in all, instead of the recipe's; 0 ships the start as it is",
    )
    parser.add_argument("--batch", type=positive, help="crops a step, instead of the recipe's")
    parser.add_argument(
        "--seed",
        type=natural,
        help="of weights and crops, instead of 0; another one where a run starts from weights "
        "that learnt from the same images, or it draws the same crops once more",
    )


def natural(text: str) -> int:
    """Read a whole number, 0 included."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {number}")
    return number


def positive(text: str) -> int:
    """Read a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the training that the command line asks for.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit code.
    """
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    stop = StopRequest()
    try:
        return 0 if run(args, stop) else STOPPED
    except (
        DataError, ImageError, WeightsError, DivergedError, ValueError, OSError,
    ) as error:  # fmt: skip
        logger.error("%s", error)
        return 1


def run(args: argparse.Namespace, stop: Stop) -> bool:
    """Train what the arguments name; False if a stop was asked for before the end."""
    place = Workplace(args.runs, args.weights, args.device)
    choices = Choices(
        args.protocol, args.augment, args.semi, args.cycles, args.steps, args.batch, args.seed,
        args.init,
    )  # fmt: skip
    names = list(RECIPES) if args.expert == "all" else [args.expert]
    records = list_for_training(args, with_unlabelled=choices.semi != "none")
    if args.expert in ("all", ROUTER):
        train_router(args.data, place, args.leave_out)
        if stop.is_set or args.expert == ROUTER:
            return not stop.is_set
    records = complete_modalities(records, place.weights)
    # every expert's data is looked at before the first is trained
    jobs = []
    for name in names:
        takes_init = args.expert != "all" or name == BASE
        own = choices if takes_init else replace(choices, init=None)
        jobs.append(plan_expert(name, RECIPES[name], records, own))
    check_records(list({record.image: record for job in jobs for record in job.labelled}.values()))
    for job in jobs:
        readable = check_unlabelled(job.unlabelled)
        if not train_expert(replace(job, unlabelled=readable), place, stop):
            return False
    return True


def complete_modalities(records: list[Record], weights: Path) -> list[Record]:
    """Let the router of a weights folder tell the modalities, where any is not given."""
    if all(record.modality for record in records):
        return records
    return fill_modalities(records, find_router(weights).route)


def list_for_training(args: argparse.Namespace, with_unlabelled: bool) -> list[Record]:
    """List the training images; DataError if labels or images lack their other half."""
    records = list_records(args.data)
    orphans = find_orphans(args.data)
    if orphans:
        others = f" (and {len(orphans) - 1} more)" if len(orphans) > 1 else ""
        raise DataError(f"{orphans[0]}{others}: labels without an image; add it or remove them")
    unknown = set(args.leave_out) - {record.dataset for record in records}
    if unknown:
        raise DataError(f"--leave-out: no data set {', '.join(sorted(unknown))} in {args.data}")
    splits = ("train", "unlabelled") if with_unlabelled else ("train",)
    kept = [r for r in records if r.split in splits and r.dataset not in args.leave_out]
    bare = [r for r in kept if r.split == "train" and r.label is None]
    if bare:
        others = f" (and {len(bare) - 1} more)" if len(bare) > 1 else ""
        raise DataError(
            f"{bare[0].image}{others}: a training image without labels; add them, or move it to "
            "the unlabelled images"
        )
    return kept
