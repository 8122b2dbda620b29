"""How fast maps become instances: ``python -m bench.decoding --json FILE``.

Each decoder against its slow reference on one dense field, in turn (A B A B): Cellpose's own
mask computation, with and without its flow check, and plain decoders of CDNet and the U-Net.
Times are medians; peak memory is what a process of its own adds while it decodes once.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.plain_masks import decode_cdnet_plainly, decode_mask_plainly
from bench.tissue import draw_tissue, render_class_maps, render_flow_maps
from eval.matching import match_instances
from eval.run_file import name_commit, now_utc
from models.cdnet_decoding import decode_cdnet
from models.flows import MAX_FLOW_ERROR, FlowThresholds, decode_flows
from models.mask_classes import decode_mask

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int32]
Decoder = Callable[[FloatArray], LabelArray]

FLOW_NOISE, LOGIT_NOISE = 0.1, 0.5
IOU_MIN = 0.9
PACKAGES = ("numpy", "opencv-python-headless", "scipy", "scikit-image", "cellpose", "torch")


def compute_stock_masks(maps: FloatArray, max_flow_error: float) -> LabelArray:
    """Decode maps (3, Y, X) by Cellpose itself, on the CPU; masks of any size stay."""
    dynamics = importlib.import_module("cellpose.dynamics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about sparse tensors
        labels = dynamics.resize_and_compute_masks(
            maps[:2], maps[2], flow_threshold=max_flow_error, max_size_fraction=1.0
        )
    return np.asarray(labels).astype(np.int32)


@dataclass(frozen=True)
class Contest:
    """A decoder and its reference.

    Attributes
    ----------
    maps : {"flows", "classes"}
        Which maps both decode.
    ours, reference : callable
        Maps (K, Y, X) to labels (Y, X).
    """

    maps: str
    ours: Decoder
    reference: Decoder


CONTESTS = {
    "cellpose": Contest(
        "flows", decode_flows, partial(compute_stock_masks, max_flow_error=MAX_FLOW_ERROR)
    ),
    "cellpose_unchecked": Contest(
        "flows",
        partial(decode_flows, thresholds=FlowThresholds(flow_error=0.0)),
        partial(compute_stock_masks, max_flow_error=0.0),
    ),
    "cdnet": Contest("classes", decode_cdnet, decode_cdnet_plainly),
    "unet": Contest(
        "classes",
        lambda maps: decode_mask(maps[:3]),
        lambda maps: decode_mask_plainly(maps[:3], split=False),
    ),
}


def make_maps(side_px: int, n_cells: int) -> tuple[LabelArray, dict[str, FloatArray]]:
    """Draw a dense field, and the maps that networks would give for it.

    Parameters
    ----------
    side_px : int
        Of the square field.
    n_cells : int
        About how many it holds.

    Returns
    -------
    (Y, X) ndarray of int32
        The true labels.
    dict of str to (K, Y, X) ndarray of float32
        By the name that :class:`Contest` uses.
    """
    rng = np.random.default_rng(0)
    labels = draw_tissue((side_px, side_px), n_cells, rng)
    return labels, {
        "flows": render_flow_maps(labels, rng, FLOW_NOISE),
        "classes": render_class_maps(labels, rng, LOGIT_NOISE),
    }


def run_contest(name: str, maps: FloatArray, repeats: int) -> dict[str, Any]:
    """Decode in turn by both, once to warm up and then for the record.

    Parameters
    ----------
    name : str
        One of :data:`CONTESTS`.
    maps : (K, Y, X) ndarray of float32
    repeats : int
        How often each decodes for the record.

    Returns
    -------
    dict
        Seconds of both, their ratio, and how far the labels agree.
    """
    sides = {"ours": CONTESTS[name].ours, "reference": CONTESTS[name].reference}
    labels = {side: decode(maps) for side, decode in sides.items()}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    busy: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, decode in sides.items():
            start, start_busy = time.perf_counter(), time.process_time()
            decode(maps)
            seconds[side].append(time.perf_counter() - start)
            busy[side].append(time.process_time() - start_busy)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    busy_medians = {side: statistics.median(times) for side, times in busy.items()}
    counts = match_instances(labels["reference"], labels["ours"], IOU_MIN)
    return {
        "seconds": seconds,
        "median_s": medians,
        "median_cpu_s": busy_medians,
        "times_faster": medians["reference"] / medians["ours"],
        "times_less_cpu": busy_medians["reference"] / busy_medians["ours"],
        f"f1_at_iou_{IOU_MIN}": counts.f1,
        "n_reference": counts.tp + counts.fn,
        "n_ours": counts.tp + counts.fp,
    }


def measure_contest(name: str, all_maps: dict[str, FloatArray], repeats: int) -> dict[str, Any]:
    """Run one contest and measure the memory of both sides.

    Parameters
    ----------
    name : str
        One of :data:`CONTESTS`.
    all_maps : dict
        From :func:`make_maps`.
    repeats : int
        How often each side decodes for the record.

    Returns
    -------
    dict
        That of :func:`run_contest`, and ``peak_mib`` by side.
    """
    maps = all_maps[CONTESTS[name].maps]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.npy"
        np.save(path, maps)
        peak = {side: measure_peak(name, side, path) for side in ("ours", "reference")}
    return run_contest(name, maps, repeats) | {"peak_mib": peak}


def measure_peak(name: str, side: str, maps: Path) -> float:
    """Measure the MiB that a process of its own needs to decode, beyond what it had before."""
    command = [sys.executable, "-m", "bench.decoding", "--peak", name, side, str(maps)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(finished.stdout)


def decode_once(name: str, side: str, path: Path) -> float:
    """Decode a file of maps and give the MiB by which this process's peak grew."""
    maps = np.load(path)
    decode: Decoder = getattr(CONTESTS[name], side)
    decode(np.ascontiguousarray(maps[:, :64, :64]))  # imports belong to neither side
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _read_peak_kib()
    decode(maps)
    return (_read_peak_kib() - before) / 1024


def _read_peak_kib() -> int:
    """Read the largest memory this process has had; Linux's own count, as exec inherits rusage."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.decoding", description=__doc__)
    parser.add_argument("--side", type=int, default=2048, help="of the square field in pixels")
    parser.add_argument("--cells", type=int, default=5000, help="about how many it holds")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement")
    parser.add_argument("--only", choices=CONTESTS, action="append", help="leave out the others")
    parser.add_argument("--json", type=Path, help="file to write; the screen by default")
    parser.add_argument("--peak", nargs=3, metavar=("NAME", "SIDE", "MAPS"), help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the table; give the exit status."""
    args = build_parser().parse_args(argv)
    if args.peak:
        name, side, path = args.peak
        sys.stdout.write(f"{decode_once(name, side, Path(path)):.1f}\n")
        return 0
    labels, maps = make_maps(args.side, args.cells)
    results = {name: measure_contest(name, maps, args.repeats) for name in args.only or CONTESTS}
    report = json.dumps(_describe(labels) | {"results": results}, indent=1) + "\n"
    if args.json:
        args.json.write_text(report)
    else:
        sys.stdout.write(report)
    return 0


def _describe(labels: LabelArray) -> dict[str, Any]:
    """Say what was measured, where and with which versions."""
    return {
        "date": now_utc(),
        "commit": name_commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "n_cores": os.cpu_count(),
        "opencv_threads": cv2.getNumThreads(),
        "shape": labels.shape,
        "n_cells": int(labels.max()),
        "cell_share": float((labels > 0).mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
