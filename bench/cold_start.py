"""Cold start against stock Cellpose: ``python -m bench.cold_start --json FILE``.

One image of 512 x 512 pixels, from process start to exit: ``predict.py`` and the command line of
the installed ``cellpose`` package with the same CPnet weights, diameter and percentiles, in turn
(A B A B). Then what else starts: ``--help``, an empty folder, a usage error, and bare imports.
CPU seconds are those of the process and its children; they hold where other programs share the
processor, elapsed seconds only on an idle machine.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from eval.matching import match_instances
from eval.run_file import name_commit, now_utc
from imaging.normalise import HIGH_PERCENTILE, LOW_PERCENTILE
from manifest import WEIGHTS_DIR
from models.cellpose_expert import NET_DIAMETER_PX
from models.cpnet import build_cpnet
from models.torch_runtime import fill_network
from models.weights import read_weights
from synthetic import make_image

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = ROOT / "bench" / "launcher.py"
PACKAGES = ("cellpose", "numpy", "openvino", "torch")
SIDE_PX = 512
PROFILE_LINE = re.compile(r"^PROFILE (\{.*\})$", re.MULTILINE)
EXPERT = re.compile(r": .*, (cellpose_\w+), \d+ cells")
SCALE = re.compile(r": (\S+) network pixels a pixel")


@dataclass(frozen=True)
class Execution:
    """One run of one command.

    Attributes
    ----------
    command : str
        Its name in the table.
    real_s, cpu_s : float
        Elapsed, and user plus system time of the process and its children.
    peak_mib : float
        Largest resident memory of the process.
    exit_code : int
    stages : dict of str to float, optional
        Seconds by stage, if the command tells (``predict.py --profile``).
    """

    command: str
    real_s: float
    cpu_s: float
    peak_mib: float
    exit_code: int
    stages: Mapping[str, float] | None = None


class BenchmarkError(Exception):
    """A command that is measured did not do its work."""


def execute(name: str, command: Sequence[str], n_threads: int | None) -> tuple[Execution, str]:
    """Run a command and measure it.

    Parameters
    ----------
    name : str
        For the table.
    command : sequence of str
        Program and arguments.
    n_threads : int or None
        Limit of OpenMP's threads; None leaves it alone.

    Returns
    -------
    Execution
    str
        What it wrote on standard error.
    """
    threads = {} if n_threads is None else {"OMP_NUM_THREADS": str(n_threads)}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "taken.json"
        launched = subprocess.run(
            [sys.executable, "-S", str(LAUNCHER), str(result), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | threads,
            cwd=ROOT,
        )
        taken = json.loads(result.read_text(encoding="utf-8"))
    profile = PROFILE_LINE.search(launched.stderr)
    stages = json.loads(profile[1])["stages"] if profile else None
    return Execution(name, stages=stages, **taken), launched.stderr


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
    """

    image: Path
    folder: Path
    options: tuple[str, ...]
    stock_python: str

    def own_command(self) -> list[str]:
        """Label the image with ``predict.py``."""
        return [
            sys.executable, str(ROOT / "predict.py"), "-i", str(self.image),
            "-o", str(self.folder / "own"), "--device", "cpu", "--profile", *self.options,
        ]  # fmt: skip

    def stock_command(self, weights: Path, diameter_px: float) -> list[str]:
        """Label the image with stock Cellpose, and write what ``predict.py`` writes."""
        return [
            self.stock_python, "-m", "cellpose", "--image_path", str(self.image),
            "--pretrained_model", str(weights), "--all_channels", "--diameter", str(diameter_px),
            "--norm_percentile", str(LOW_PERCENTILE), str(HIGH_PERCENTILE),
            "--save_tif", "--no_npy", "--savedir", str(self.folder / "stock"), "--verbose",
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


def compare_systems(setting: Setting, repeats: int, n_threads: int | None) -> dict[str, Any]:
    """Run both systems in turn and compare seconds, memory and labels.

    Parameters
    ----------
    setting : Setting
    repeats : int
        Of each system, after one run of each that is not counted.
    n_threads : int or None
        Limit of OpenMP's threads.

    Returns
    -------
    dict
        Choice, runs, medians, ratios (own over stock) and F1 between the labels, JSON-ready.

    Raises
    ------
    BenchmarkError
        If a command fails.
    """
    _, said = execute("own", [*setting.own_command(), "-v"], n_threads)
    expert, scale = read_choice(said)
    weights = setting.folder / f"{expert}.pth"
    state = read_weights(f"{expert}.safetensors", WEIGHTS_DIR)
    fill_network(build_cpnet(), state).net.save_model(str(weights))
    (setting.folder / "stock").mkdir()
    commands = {
        "own": setting.own_command(),
        "stock": setting.stock_command(weights, NET_DIAMETER_PX / scale),
    }
    runs = []
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            run, said = execute(name, command, n_threads)
            if run.exit_code:
                raise BenchmarkError(f"{' '.join(command)} failed:\n{said}")
            runs += [run] if repeat else []
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
            for key in ("real_s", "cpu_s", "peak_mib")
        },
        "runs": [asdict(run) for run in runs],
    }


def median_of(runs: Sequence[Execution]) -> Execution:
    """Take the median of each figure of some runs of one command."""
    middle = {
        key: round(statistics.median(getattr(run, key) for run in runs), 4)
        for key in ("real_s", "cpu_s", "peak_mib")
    }
    stages = [run.stages for run in runs if run.stages is not None]
    if stages:
        middle["stages"] = {
            name: round(statistics.median(s[name] for s in stages), 4) for name in stages[0]
        }
    return replace(runs[0], **middle)


def measure_starts(folder: Path, repeats: int) -> list[Execution]:
    """Measure what should answer at once, and what bare imports take; medians."""
    empty = folder / "empty"
    empty.mkdir()
    script, paths = str(ROOT / "predict.py"), ["-i", str(empty), "-o", str(folder / "none")]
    commands = {
        "python": ["-c", "pass"],
        "--help": [script, "--help"],
        "empty folder": [script, *paths],
        "usage error": [script, *paths, "--no-such-option"],
        "import numpy": ["-c", "import numpy"],
        "import openvino": ["-c", "import models.graphs.library"],
        "import torch": ["-c", "import torch"],
    }
    runs: dict[str, list[Execution]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, arguments in commands.items():
            python = [sys.executable, *arguments]
            runs[name].append(execute(name, python, None)[0])
    return [median_of(of_one) for of_one in runs.values()]


def write_default_image(path: Path) -> Path:
    """Write a synthetic phase contrast image as RGB."""
    grey = make_image("phase", (SIDE_PX, SIDE_PX), seed=0).image
    pixels = grey if grey.ndim == 2 else grey[..., 0]
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)).save(path)
    return path


def describe_machine() -> dict[str, Any]:
    """Tell processor, cores and the versions of the packages that matter."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    cpu_info = Path("/proc/cpuinfo")
    text = cpu_info.read_text(encoding="utf-8") if cpu_info.exists() else ""
    model = re.search(r"model name\s*:\s*(.+)", text)
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def format_report(record: Mapping[str, Any]) -> str:
    """Write the medians as a table."""
    compared, ratios = record["comparison"], record["comparison"]["ratios"]
    rows = [
        f"{run['command']:<16}{run['real_s']:>9.3f}{run['cpu_s']:>9.3f}{run['peak_mib']:>9.1f}"
        for run in [*compared["medians"].values(), *record["starts"]]
    ]
    figures = "".join(f"{ratios[key]:>9.3f}" for key in ("real_s", "cpu_s", "peak_mib"))
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
        setting = Setting(image.resolve(), folder, tuple(args.options), args.stock_python)
        try:
            record = {
                "format": 1,
                "created": now_utc(),
                "commit": name_commit(),
                "machine": describe_machine(),
                "comparison": compare_systems(setting, args.repeats, args.threads),
                "starts": [asdict(run) for run in measure_starts(folder, args.repeats)],
            }
        except BenchmarkError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(format_report(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
