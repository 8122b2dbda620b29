"""The command line of ``predict.py``: what it takes, checked; imports nothing heavy."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arguments import read_amount, read_count
from manifest import WEIGHTS_DIR
from router.names import EXPERT_TABLES, EXPERTS, MODALITIES
from tiling.settings import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_GPU_MEMORY_GIB,
    DEFAULT_MEMORY_GIB,
    SIDE_MULTIPLE,
)

DESCRIPTION = (
    "Label every cell in microscope images of any modality: a folder in, one label image each out."
)
MIN_TILE_PX = 64
INPUT_FOLDERS = ("/workspace/inputs", "/in")  # the organisers' mount, and this project's image's
OUTPUT_FOLDERS = ("/workspace/outputs", "/out")
PROFILE_VARIABLE = "CELLSEG_PROFILE"  # set to 1, does what --profile does


class UsageError(Exception):
    """The command line asks for something that cannot be; nothing has been done."""


@dataclass(frozen=True)
class Options:
    """The command line, checked as far as that is possible without looking at files."""

    input_path: Path
    output_path: Path
    device: str
    runtime: str
    modality: str | None
    experts: str
    level: int | None
    mpp: float | None
    diameter: float | None
    tile: int | None
    batch_size: int
    skip_empty: bool
    max_memory: float | None
    max_gpu_memory: float | None  # None where no network is computed
    workers: int | None
    dask: str | None
    overwrite: bool
    weights: Path
    overlays: Path | None
    profile: bool
    verbose: bool


def parse_options(arguments: Sequence[str] | None) -> Options:
    """Read the command line; exits with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description=DESCRIPTION,
        epilog="Exit code: 0 all images labelled, 1 some failed, 2 wrong usage.",
    )
    add = parser.add_argument
    _add_folder(parser, "i", "input", INPUT_FOLDERS, "folder of images, or one image")
    _add_folder(
        parser, "o", "output", OUTPUT_FOLDERS, "folder for NAME_label.tiff, made if need be"
    )
    _add_ways_to_compute(parser)
    _add_workers(parser)
    add("--modality", choices=MODALITIES, help="of all images; skips the router")
    add(
        "--experts",
        choices=(*EXPERT_TABLES, *EXPERTS),
        default="best",
        metavar="|".join((*EXPERT_TABLES, "NAME")),
        help="networks that measured best, or all as in the paper, or the one of this name for all"
        f" images: {', '.join(EXPERTS)} (default: best)",
    )
    add(
        "--diameter",
        type=read_amount,
        metavar="PX",
        help="median diameter of the cells, in pixels of the resolution that is labelled; skips its"
        " estimate (not used by U-Net and CDNet, --experts paper)",
    )
    _add_resolution(parser)
    _add_choice_about_existing(parser)
    add("--weights", type=Path, default=WEIGHTS_DIR, metavar="FOLDER", help="trained weights")
    add("--overlays", type=Path, metavar="FOLDER", help="also write pictures with outlines here")
    add(
        "--profile",
        action="store_true",
        default=os.environ.get(PROFILE_VARIABLE) == "1",
        help=f"tell at the end where the time went (also with {PROFILE_VARIABLE}=1)",
    )
    add("-v", "--verbose", action="store_true", help="say more")
    return Options(**vars(parser.parse_args(arguments)))


def _add_ways_to_compute(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell where and by what the networks are computed."""
    add = parser.add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    add(
        "--runtime",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="library that computes the networks (default: openvino on the CPU, torch on a GPU)",
    )
    add(
        "--tile",
        type=_tile_px,
        metavar="PX",
        help="largest window side (default: the expert's)",
    )
    add(
        "--batch-size",
        type=read_count,
        default=DEFAULT_BATCH_SIZE,
        metavar="N",
        help="windows that the network sees at once (default: %(default)s)",
    )
    add(
        "--no-skip-empty",
        action="store_false",
        dest="skip_empty",
        help="also compute windows of large images that show nothing but empty ground",
    )
    add(
        "--max-memory",
        type=read_amount,
        metavar="GIB",
        help="memory that large images may take, about; smaller blocks where need be, and small"
        f" images one after another (default: {DEFAULT_MEMORY_GIB:g} on the CPU, small images side"
        " by side)",
    )
    add(
        "--max-gpu-memory",
        type=read_amount,
        default=DEFAULT_GPU_MEMORY_GIB,
        metavar="GIB",
        help="memory to take of the GPU besides CUDA's own, some 0.5; smaller batches where need be"
        " (default: %(default)s, in all less than 10 GB)",
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the two options that spread the work over processes or machines."""
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument(
        "--workers",
        type=read_count,
        metavar="N",
        help="spread images, and blocks of slides, over N processes of this machine",
    )
    workers.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="spread them over the workers of a Dask scheduler, tcp://HOST:PORT",
    )


def _add_resolution(parser: argparse.ArgumentParser) -> None:
    """Add the two options that tell which resolution of a slide is labelled."""
    resolution = parser.add_mutually_exclusive_group()
    resolution.add_argument(
        "--level",
        type=_level,
        metavar="N",
        help="pyramid level to label, 0 is the full resolution (the default)",
    )
    resolution.add_argument(
        "--mpp",
        type=read_amount,
        metavar="X",
        help="label the coarsest level with at most X micrometres a pixel",
    )


def _add_choice_about_existing(parser: argparse.ArgumentParser) -> None:
    """Add the two options that tell what to do where a label image exists."""
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--overwrite", action="store_true", default=True, help="label again (the default)"
    )
    existing.add_argument(
        "--skip-existing",
        action="store_false",
        dest="overwrite",
        help="leave out images that have a label image",
    )


def _add_folder(
    parser: argparse.ArgumentParser, letter: str, word: str, usual: Sequence[str], purpose: str
) -> None:
    """Add the option of a folder; it must be given where none of the usual ones exists."""
    present = next((Path(name) for name in usual if Path(name).is_dir()), None)
    parser.add_argument(
        f"-{letter}",
        f"--{word}_path",
        f"--{word}-path",
        type=Path,
        default=present,
        required=present is None,
        metavar="PATH",
        help=f"{purpose} (default: {' or '.join(usual)}, if there)",
    )


def _tile_px(text: str) -> int:
    """Read the side of a window."""
    side = int(text)
    if side < MIN_TILE_PX or side % SIDE_MULTIPLE:
        raise argparse.ArgumentTypeError(
            f"must be a multiple of {SIDE_MULTIPLE}, at least {MIN_TILE_PX}, got {side}"
        )
    return side


def _level(text: str) -> int:
    """Read the number of a pyramid level."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {number}")
    return number
