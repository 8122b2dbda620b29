"""Train the experts: prepare the data, train, export the weights."""

import argparse
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from imaging.reading import ImageError
from manifest import WEIGHTS_DIR, WeightsError
from router.router import load_router
from training.cellpose_task import FIELD_DIAMETER_PX, CellposeTask
from training.data import DataError, Record, list_records, split_validation
from training.export import export_expert
from training.fields import Field, FieldSettings, prepare_fields
from training.loop import StopRequest, Trainer
from training.mask_task import CDNetTask, UNetTask
from training.modality import fill_modalities
from training.patch_task import PatchTask
from training.recipes import RECIPES, Recipe, paper_protocol

logger = logging.getLogger(__name__)

STOPPED = 3  # exit code of a run that was stopped and can be resumed
BASE = "cellpose_base"  # a start for others, not shipped
TASKS: dict[str, type[PatchTask]] = {
    "cpnet": CellposeTask,
    "unet": UNetTask,
    "cdnet": CDNetTask,
}
FIELD_SETTINGS = {
    "cpnet": FieldSettings(mode="joint", diameter_px=FIELD_DIAMETER_PX, with_flow=True),
    "unet": FieldSettings(mode="joint", max_diameter_px=100.0),
    "cdnet": FieldSettings(mode="per_channel"),
}
N_VALIDATION = 3  # validation fields a data set that are segmented at each validation


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser of ``train.py``."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__,
        epilog=f"exit code 0: trained; 1: failed; 2: wrong usage; {STOPPED}: stopped, run the same "
        "command again to go on",
    )
    parser.add_argument(
        "expert", choices=["all", *RECIPES], help="one expert, or all in the order they need"
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
    parser.add_argument(
        "--protocol",
        choices=["short", "paper"],
        default="short",
        help="short: the recipe of the shipped weights, for two CPU cores; paper: its Table 2",
    )
    parser.add_argument(
        "--steps", type=positive, help="optimiser steps in all, instead of the recipe's"
    )
    parser.add_argument("--batch", type=positive, help="crops a step, instead of the recipe's")
    return parser


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
    names = list(RECIPES) if args.expert == "all" else [args.expert]
    stop = StopRequest()
    try:
        records = [r for r in list_records(args.data) if r.split == "train" and r.label]
        if not all(record.modality for record in records):
            records = fill_modalities(records, load_router(args.weights).route)
        for name in names:
            if not train_expert(name, records, args, stop):
                return STOPPED
    except (DataError, ImageError, WeightsError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 1
    return 0


def train_expert(
    name: str, records: Sequence[Record], args: argparse.Namespace, stop: StopRequest
) -> bool:
    """Train and export one expert; False if a stop was asked for before the end."""
    recipe = RECIPES[name]
    accepted = [record for record in records if recipe.accepts(record)]
    if args.protocol == "paper":
        recipe = paper_protocol(recipe, len(split_validation(accepted)[0]))
    changes = {key: getattr(args, key) for key in ("steps", "batch") if getattr(args, key)}
    recipe = replace(recipe, loop=replace(recipe.loop, **changes))
    task = build_task(recipe, accepted, args.runs)
    trainer = Trainer(task, recipe.loop, args.runs / name, args.device)
    finished = trainer.run(stop)
    if finished and name != BASE:
        path = export_expert(name, recipe, task, trainer, args.weights)
        logger.info("%s: validation F1 %.4f", path, trainer.progress.best_f1)
    return finished


def build_task(recipe: Recipe, records: Sequence[Record], runs_dir: Path) -> PatchTask:
    """Prepare the fields of an expert, of the records it accepts, and put its task together.

    Raises
    ------
    ValueError
        If the data hold no labelled image for it.
    DataError
        If the run it starts from was not trained yet.
    """
    train, validation = split_validation(records)
    settings, cache = FIELD_SETTINGS[recipe.network], runs_dir / "cache"
    return TASKS[recipe.network](
        usable(prepare_fields(train, settings, cache, recipe.renders)),
        usable(prepare_fields(few_each(validation), settings, cache, recipe.renders)),
        recipe.emphasis,
        recipe.geometry,
        recipe.colour,
        read_best(runs_dir / recipe.starts_from) if recipe.starts_from else None,
    )


def read_best(run_dir: Path) -> dict[str, torch.Tensor]:
    """Read the best averaged weights of an earlier run.

    Raises
    ------
    DataError
        If the run has no checkpoint.
    """
    path = run_dir / "checkpoint.pt"
    if not path.is_file():
        raise DataError(f"{path}: not there; train {run_dir.name} first")
    state = torch.load(path, map_location="cpu", weights_only=True)
    best: dict[str, torch.Tensor] = state["best"] or state["average"]
    return best


def few_each(records: Sequence[Record]) -> list[Record]:
    """Keep the first records of each data set, completely annotated ones only."""
    kept: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if not record.is_partial and len(kept[record.dataset]) < N_VALIDATION:
            kept[record.dataset].append(record)
    return [record for group in kept.values() for record in group]


def usable(fields: Sequence[Field]) -> list[Field]:
    """Leave out fields without any cell."""
    return [field for field in fields if field.labels.any()]
