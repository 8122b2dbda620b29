"""Fit the size model of trained weights anew: ``python -m training.refit EXPERT --data DIR``.

For weights of an earlier version, and for averages, whose spread vectors are none of the networks'
that they were made of (`training.average`). Nothing else of the weights changes.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from imaging.reading import ImageError
from manifest import WEIGHTS_DIR, WeightsError, read_manifest, verified_path, write_entry
from models.registry import EXPERTS
from models.weights import write_weights
from training.cli import complete_modalities, list_for_training
from training.data import DataError
from training.experts import Choices, build_task, plan_expert
from training.export import current_commit, ready_network
from training.recipes import RECIPES
from training.start import fit_start, read_start

logger = logging.getLogger(__name__)

CELLPOSE = tuple(name for name in EXPERTS if RECIPES[name].network == "cpnet")


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m training.refit", description=__doc__)
    parser.add_argument("expert", choices=CELLPOSE, metavar="EXPERT", help=", ".join(CELLPOSE))
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="as train.py takes it"
    )
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS_DIR, metavar="DIR", help="where they are, and stay"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="keeps prepared images"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device"
    )
    parser.set_defaults(leave_out=[])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fit the size model again; 1 when data or weights cannot be read."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        refit(args)
    except (DataError, ImageError, WeightsError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 1
    return 0


def refit(args: argparse.Namespace) -> None:
    """Replace the size model in a weight file, and what the manifest says of it."""
    name = f"{args.expert}.safetensors"
    path = args.weights / name
    verified_path(name, args.weights)
    facts = read_manifest(args.weights)[name]
    listed = list_for_training(args, with_unlabelled=False)
    records = complete_modalities(listed, args.weights)
    job = plan_expert(args.expert, RECIPES[args.expert], records, Choices())
    task = build_task(job, None, args.runs)
    own = task.network().state_dict()
    network, fitted = ready_network(task, own | fit_start(own, read_start(path)), args.device)
    write_weights(path, network.state_dict())
    kept = {key: value for key, value in facts.items() if not key.startswith("size_")}
    write_entry(args.weights, name, {**kept, **fitted, "size_commit": current_commit()})


if __name__ == "__main__":
    sys.exit(main())
