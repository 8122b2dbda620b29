"""Cold start against stock Cellpose: ``python -m bench.cold_start --json FILE``.

One image of 512 x 512 pixels, from process start to exit: ``predict.py`` and the command line of
the installed ``cellpose`` package with the same CPnet weights, diameter and percentiles, in turn
(A B A B). Then what else starts: ``--help``, an empty folder, a usage error, and bare imports.
CPU seconds are those of the process and its children; they hold where other programs share the
processor, elapsed seconds only on an idle machine.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from bench.device import DEVICES, HELP, prepare_device
from bench.execution import (
    FIGURES,
    PREDICT,
    BenchmarkError,
    Execution,
    execute,
    median_of,
    predict_command,
)
from bench.machine import describe_machine
from bench.peer import expect_gpu, write_checkpoint
from eval.matching import match_instances
from eval.run_file import name_commit, now_utc
from imaging.normalise import HIGH_PERCENTILE, LOW_PERCENTILE
from models.cellpose_expert import NET_DIAMETER_PX
from models.registry import DeviceError
from predict import EXIT_USAGE
from synthetic import make_image

SIDE_PX = 512
EXPERT = re.compile(r": .*, (cellpose_\w+), \d+ cells")
SCALE = re.compile(r": (\S+) network pixels a pixel")


@dataclass(frozen=True)
class Setting:
    """What both systems are to do.

    Attributes
    ----------
    image : Path
        RGB, so that stock Cellpose builds the network of three channels.
    folder : Path
        For their outputs.
    options : tuple of str
        Further options of ``predict.py``.
    stock_python : str
        Interpreter of the environment that has stock Cellpose.
    device : str
        That both compute on.
    """

    image: Path
    folder: Path
    options: tuple[str, ...]
    stock_python: str
    device: str = "cpu"

    def own_command(self) -> list[str]:
        """Label the image with ``predict.py``."""
        return predict_command(self.image, self.folder / "own", *self.options, device=self.device)

    def stock_command(self, weights: Path, diameter_px: float) -> list[str]:
        """Label the image with stock Cellpose, and write what ``predict.py`` writes."""
        return [
            self.stock_python, "-m", "cellpose", "--image_path", str(self.image),
            "--pretrained_model", str(weights), "--all_channels", "--diameter", str(diameter_px),
            "--norm_percentile", str(LOW_PERCENTILE), str(HIGH_PERCENTILE),
            "--save_tif", "--no_npy", "--savedir", str(self.folder / "stock"), "--verbose",
            *([] if self.device == "cpu" else ["--use_gpu"]),
        ]  # fmt: skip


def read_choice(said: str) -> tuple[str, float]:
    """Find in the log of ``predict.py -v`` which expert it took and the scale it chose.

    Raises
    ------
    BenchmarkError
        If it was not a Cellpose expert, or nothing was labelled.
    """
    expert, scales = EXPERT.search(said), SCALE.findall(said)
    if expert is None or not scales:
        raise BenchmarkError(f"no Cellpose expert labelled the image; it said:\n{said}")
    return expert[1], float(scales[-1])


def compare_systems(
    setting: Setting, repeats: int, n_threads: int | None, n_warm_up: int = 1
) -> dict[str, Any]:
    """Run both systems in turn and compare seconds, memory and labels.

    Parameters
    ----------
    setting : Setting
    repeats : int
        Of each system. Before, ``predict.py`` runs once to tell its choice; that does not count.
    n_threads : int or None
        Limit of OpenMP's threads.
    n_warm_up : int
        Runs of each system that are not counted.

    Returns
    -------
    dict
        Choice, runs, medians, ratios (own over stock) and F1 between the labels, JSON-ready.

    Raises
    ------
    BenchmarkError
        If a command fails.
    """
    _, said = execute("own", [*setting.own_command(), "-v"], n_threads, setting.device)
    expert, scale = read_choice(said)
    weights = write_checkpoint(expert, setting.folder)
    (setting.folder / "stock").mkdir()
    commands = {
        "own": setting.own_command(),
        "stock": setting.stock_command(weights, NET_DIAMETER_PX / scale),
    }
    runs = []
    for repeat in range(n_warm_up + repeats):
        for name, command in commands.items():
            run, said = execute(name, command, n_threads, setting.device)
            if run.exit_code:
                raise BenchmarkError(f"{' '.join(command)} failed:\n{said}")
            runs += [run] if repeat >= n_warm_up else []
    medians = {name: median_of([run for run in runs if run.command == name]) for name in commands}
    stock, own = (
        tifffile.imread(next((setting.folder / name).glob("*.tif*"))).astype(np.int32)
        for name in ("stock", "own")
    )
    counts = match_instances(stock, own)
    return {
        "expert": expert,
        "diameter_px": round(NET_DIAMETER_PX / scale, 2),
        "cells": {"stock": counts.n_true, "own": counts.n_pred},
        "f1_between": round(counts.f1, 4),
        "medians": {name: asdict(run) for name, run in medians.items()},
        "ratios": {
            key: round(getattr(medians["own"], key) / getattr(medians["stock"], key), 4)
            for key in FIGURES
        },
        "runs": [asdict(run) for run in runs],
    }


def run_starts(folder: Path, repeats: int) -> dict[str, list[Execution]]:
    """Run what should answer at once, and bare imports, in turn.

    Parameters
    ----------
    folder : Path
        Gets an empty folder.
    repeats : int
        Of each command, after one run of each that is not counted.

    Returns
    -------
    dict of str to list of Execution
        By the command's name.

    Raises
    ------
    BenchmarkError
        If one ends with another exit code than it should.
    """
    empty = folder / "empty"
    empty.mkdir()
    paths = ["-i", str(empty), "-o", str(folder / "none")]
    commands: dict[str, tuple[list[str], int]] = {
        "python": (["-c", "pass"], 0),
        "--help": ([str(PREDICT), "--help"], 0),
        "empty folder": ([str(PREDICT), *paths], EXIT_USAGE),
        "usage error": ([str(PREDICT), *paths, "--no-such-option"], EXIT_USAGE),
        "import numpy": (["-c", "import numpy"], 0),
        "import openvino": (["-c", "import models.graphs.library"], 0),
        "import torch": (["-c", "import torch"], 0),
    }
    runs: dict[str, list[Execution]] = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name, (arguments, wanted) in commands.items():
            run, said = execute(name, [sys.executable, *arguments])
            if run.exit_code != wanted:
                raise BenchmarkError(f"{name}: exit code {run.exit_code}, not {wanted}:\n{said}")
            runs[name] += [run] if repeat else []
    return runs


def write_default_image(path: Path) -> Path:
    """Write a synthetic phase contrast image as RGB."""
    grey = make_image("phase", (SIDE_PX, SIDE_PX), seed=0).image
    pixels = grey if grey.ndim == 2 else grey[..., 0]
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)).save(path)
    return path


def format_report(record: Mapping[str, Any]) -> str:
    """Write the medians as a table."""
    compared, ratios = record["comparison"], record["comparison"]["ratios"]
    rows = [
        f"{run['command']:<16}{run['real_s']:>9.3f}{run['cpu_s']:>9.3f}{run['peak_mib']:>9.1f}"
        for run in [*compared["medians"].values(), *record["starts"]]
    ]
    figures = "".join(f"{ratios[key]:>9.3f}" for key in FIGURES)
    cells = compared["cells"]
    lines = [
        f"{'':<16}{'real s':>9}{'CPU s':>9}{'MiB':>9}",
        *rows,
        f"{'own / stock':<16}{figures}",
        f"{compared['expert']}, diameter {compared['diameter_px']} px",
        f"cells: {cells['stock']} by stock, {cells['own']} by own",
        f"F1 between them: {compared['f1_between']:.3f}",
    ]
    return "\n".join(lines) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.cold_start", description=__doc__)
    add = parser.add_argument
    add("--image", type=Path, metavar="FILE", help="RGB image (default: synthetic phase contrast)")
    add("--json", type=Path, metavar="FILE", help="write all runs here")
    add("--repeats", type=int, default=3, metavar="N", help="of each command (default: 3)")
    add("--device", choices=DEVICES, default="cpu", help=HELP)
    add("--threads", type=int, metavar="N", help="OMP_NUM_THREADS of both systems")
    add("--stock-python", default=sys.executable, metavar="FILE", help="environment of cellpose")
    add("options", nargs="*", help="of predict.py, after --; e.g. -- --modality phase")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, report; 0 if all commands did their work, else 1."""
    args = build_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = args.image or write_default_image(folder / "phase.png")
        options = tuple(args.options)
        setting = Setting(image.resolve(), folder, options, args.stock_python, args.device)
        try:
            if prepare_device(args.device) != "cpu":
                expect_gpu(Path(args.stock_python))
            record = {
                "format": 1,
                "created": now_utc(),
                "commit": name_commit(),
                "machine": describe_machine(args.device),
                "comparison": compare_systems(setting, args.repeats, args.threads),
                "starts": [
                    asdict(median_of(runs)) for runs in run_starts(folder, args.repeats).values()
                ],
            }
        except (BenchmarkError, DeviceError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(format_report(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
