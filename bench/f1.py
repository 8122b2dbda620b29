"""How fast scoring is, against the organisers' way: ``python -m bench.f1 --json FILE``.

Three measurements: one pair of label images scored with a dense matrix and linear assignment, as
the organisers do, and with ``eval``, in turn (A B A B); many such pairs one after another, in
threads and in processes; and one slide in a process of its own, for its peak memory. Times
are from file to counts, imports left out.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import scipy
import tifffile
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eval.label_files import read_label_image
from eval.matching import MatchCounts
from eval.official import BORDER_PX, find_border_ids
from eval.overlaps import Labels
from eval.pairs import Pair
from eval.run_file import Unscored, name_commit, now_utc
from eval.scoring import ScoredImage, Task, score_pair
from stopwatch import peak_resident_mib

T = TypeVar("T")

IOU_MIN = 0.5
MISSED_SHARE = 0.05  # of the cells, in the prediction
JITTER_PX = 2  # of a cell's centre, in truth and prediction each


@dataclass(frozen=True)
class Sizes:
    """What is scored.

    Attributes
    ----------
    side_px, n_cells : int
        Of one image.
    slide_px, n_slide_cells : int
        Of the slide.
    n_images : int
        How many images are scored together.
    repeats : int
        Of each measurement.
    """

    side_px: int
    n_cells: int
    slide_px: int
    n_slide_cells: int
    n_images: int
    repeats: int


def draw_discs(side_px: int, n_cells: int, rng: np.random.Generator) -> Labels:
    """Draw at least ``n_cells`` discs on a jittered grid.

    Parameters
    ----------
    side_px : int
        Of the square image.
    n_cells : int
        Number of discs wanted; the grid may have a few more.
    rng : Generator
        Moves the discs.

    Returns
    -------
    (Y, X) ndarray of int32
        Ids from 1 on in random order; discs may touch, later ones lie on top.
    """
    n_side = int(np.ceil(np.sqrt(n_cells)))
    step = side_px / n_side
    radius = int(0.4 * step)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = y**2 + x**2 <= radius**2
    labels = np.zeros((side_px, side_px), np.int32)
    ids = rng.permutation(n_side**2).astype(np.int32) + 1
    for i, label in enumerate(ids):
        centre = (np.array(divmod(i, n_side)) + 0.5) * step
        top, left = np.clip(
            np.rint(centre).astype(int) - radius + rng.integers(-JITTER_PX, JITTER_PX + 1, 2),
            0,
            side_px - disc.shape[0],
        )
        labels[top : top + disc.shape[0], left : left + disc.shape[1]][disc] = label
    return labels


def score_dense(truth: Path, prediction: Path) -> MatchCounts:
    """Score a pair the organisers' way: dense overlaps, dense costs, linear assignment.

    Written from their rules: cells at the border are erased one by one, which takes about as
    long as the assignment. The overlaps are counted by one vectorised step.

    Parameters
    ----------
    truth, prediction : Path
        Label images of less than 25 Mpx.

    Returns
    -------
    MatchCounts
        At IoU >= 0.5.
    """
    true, n_true = _number_inner(read_label_image(truth))
    pred, n_pred = _number_inner(read_label_image(prediction))
    shape = (n_true + 1, n_pred + 1)
    pairs = true.ravel().astype(np.int64) * shape[1] + pred.ravel()
    overlap = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    area_true, area_pred = overlap.sum(axis=1, keepdims=True), overlap.sum(axis=0, keepdims=True)
    iou = (overlap / (area_true + area_pred - overlap))[1:, 1:]
    cost = -(iou >= IOU_MIN).astype(float) - iou / (2 * min(iou.shape))
    rows, columns = linear_sum_assignment(cost)
    tp = int((iou[rows, columns] >= IOU_MIN).sum())
    return MatchCounts(tp, n_pred - tp, n_true - tp)


def score_sparse(truth: Path, prediction: Path) -> MatchCounts:
    """Score a pair with ``eval``: F1 and every other score of the run file.

    Parameters
    ----------
    truth, prediction : Path
        Label images.

    Returns
    -------
    MatchCounts
        At IoU >= 0.5.

    Raises
    ------
    RuntimeError
        If the pair cannot be scored.
    """
    scored = score_pair(Pair(prediction.name, truth.name, truth, prediction), Task((IOU_MIN,)))
    if isinstance(scored, Unscored) or scored.image.problem:
        raise RuntimeError(f"{prediction}: cannot be scored")
    return scored.image.counts_at(IOU_MIN)


def measure_against_dense(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Time both ways in turn on one pair; RuntimeError if their counts differ."""
    truth, prediction = _write_pair(folder, "image", sizes.side_px, sizes.n_cells)
    sparse, _ = _time(lambda: score_sparse(truth, prediction))  # warms up
    dense_s, sparse_s = [], []
    for _ in range(sizes.repeats):
        dense, seconds = _time(lambda: score_dense(truth, prediction))
        dense_s.append(seconds)
        sparse, seconds = _time(lambda: score_sparse(truth, prediction))
        sparse_s.append(seconds)
        if dense != sparse:
            raise RuntimeError(f"counts differ: {dense} and {sparse}")
    return {
        "side_px": sizes.side_px,
        "n_true": sparse.n_true,
        "n_pred": sparse.n_pred,
        "tp": sparse.tp,
        "dense_s": dense_s,
        "sparse_s": sparse_s,
        "ratio_of_medians": statistics.median(dense_s) / statistics.median(sparse_s),
    }


def measure_many(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Time several pairs one after another, in threads and in processes, in turn."""
    pairs = []
    for i in range(sizes.n_images):
        truth, prediction = _write_pair(folder, f"many{i}", sizes.side_px, sizes.n_cells, seed=i)
        pairs.append(Pair(prediction.name, truth.name, truth, prediction))
    n_cores = len(os.sched_getaffinity(0))
    ways: dict[str, Callable[[], Executor]] = {
        "one_s": partial(ThreadPoolExecutor, 1),
        "threads_s": partial(ThreadPoolExecutor, n_cores),
        "processes_s": partial(ProcessPoolExecutor, n_cores, get_context("spawn")),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(sizes.repeats):
        for name, build in ways.items():
            times[name].append(_time(partial(_score_in, build, pairs))[1])
    return {"n_images": sizes.n_images, "side_px": sizes.side_px, "n_cores": n_cores, **times}


def measure_slide(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Time one slide in a fresh process, and take its peak memory."""
    truth, prediction = _write_pair(folder, "slide", sizes.slide_px, sizes.n_slide_cells)
    runs = []
    for _ in range(sizes.repeats):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            runs.append(pool.submit(_score_slide, truth, prediction).result())
    return {
        "side_px": sizes.slide_px,
        "n_true": runs[0]["n_true"],
        "n_pred": runs[0]["n_pred"],
        "seconds": [run["seconds"] for run in runs],
        "peak_mib": max(run["peak_mib"] for run in runs),
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m bench.f1", description=__doc__)
    parser.add_argument("--side", type=int, default=2000, metavar="PX")
    parser.add_argument("--cells", type=int, default=5000, metavar="N")
    parser.add_argument("--slide-side", type=int, default=10_000, metavar="PX")
    parser.add_argument("--slide-cells", type=int, default=100_000, metavar="N")
    parser.add_argument("--images", type=int, default=8, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write JSON to standard output and, if asked, to a file."""
    args = build_parser().parse_args(argv)
    sizes = Sizes(
        args.side, args.cells, args.slide_side, args.slide_cells, args.images, args.repeats
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "created": now_utc(),
            "commit": name_commit(),
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "against_dense": measure_against_dense(folder, sizes),
            "many": measure_many(folder, sizes),
            "slide": measure_slide(folder, sizes),
        }
    text = json.dumps(result, indent=1) + "\n"
    sys.stdout.write(text)
    if args.json:
        args.json.write_text(text, encoding="utf-8")
    return 0


def _write_pair(
    folder: Path, name: str, side_px: int, n_cells: int, seed: int = 0
) -> tuple[Path, Path]:
    """Write a true and a predicted label image."""
    rng = np.random.default_rng(seed)
    truth, prediction = folder / f"{name}.tif", folder / f"{name}_label.tiff"
    labels_true, labels_pred = (draw_discs(side_px, n_cells, rng) for _ in range(2))
    is_missed = rng.random(int(labels_pred.max()) + 1) < MISSED_SHARE
    for path, labels in (
        (truth, labels_true),
        (prediction, np.where(is_missed[labels_pred], 0, labels_pred)),
    ):
        tifffile.imwrite(path, labels, compression="zlib")
    return truth, prediction


def _number_inner(labels: Labels) -> tuple[NDArray[np.int64], int]:
    """Erase the instances at the border and number the others 1..n."""
    inner = labels.copy()
    for label in find_border_ids(labels, BORDER_PX):
        inner[inner == label] = 0
    ids, numbered = np.unique(inner, return_inverse=True)
    first = 0 if ids[0] == 0 else 1
    return numbered.reshape(labels.shape) + first, ids.size - 1 + first


def _score_in(build: Callable[[], Executor], pairs: Sequence[Pair]) -> list[ScoredImage | Unscored]:
    """Score pairs in a pool; its start counts."""
    with build() as pool:
        return list(pool.map(partial(score_pair, task=Task((IOU_MIN,))), pairs))


def _score_slide(truth: Path, prediction: Path) -> dict[str, float]:
    """Score a slide, in a process of its own."""
    counts, seconds = _time(lambda: score_sparse(truth, prediction))
    return {
        "seconds": seconds,
        "peak_mib": peak_resident_mib(),
        "n_true": counts.n_true,
        "n_pred": counts.n_pred,
    }


def _time(work: Callable[[], T]) -> tuple[T, float]:
    """Give the result of some work and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
