"""Benchmarks of parts of the program inside this process: networks, decoding, scoring."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.decoding import CONTESTS, IOU_MIN, make_maps, measure_contest
from bench.device import synchronise
from bench.f1 import Sizes, measure_against_dense, measure_slide
from bench.rows import Row, pair_ratios
from bench.suite import Plan
from imaging.normalise import fit_normaliser
from manifest import WEIGHTS_DIR, read_manifest
from models.openvino_runtime import PIXELS_AT_ONCE
from models.registry import SPECS, load_segmenter
from models.segmenter import Segmenter
from synthetic import KINDS, make_image
from tiling.settings import DEFAULT_BATCH_SIZE

MPX = 1e6
QUICK_PX = 256
SMALL_CELLS = {"unet_brightfield": "brightfield_small"}
ANY_KIND = "phase"  # for an expert that is not named after one
FIELD = (2048, 5000)  # side in pixels, about how many cells
QUICK_FIELD = (384, 150)
SCORED = {"side_px": 2000, "n_cells": 5000, "slide_px": 10_000, "n_slide_cells": 100_000}
QUICK_SCORED = {"side_px": 400, "n_cells": 200, "slide_px": 1000, "n_slide_cells": 1000}


@dataclass(frozen=True)
class Pace:
    """How fast a network ran over a batch.

    Attributes
    ----------
    real_s, cpu_s : float
        Elapsed, and of all threads; a million pixels.
    """

    real_s: float
    cpu_s: float


def load_network(expert: str, device: str = "cpu") -> Segmenter:
    """Load an expert with the runtime that ``predict.py`` takes on a device."""
    return load_segmenter(expert, device, runtime="openvino" if device == "cpu" else "torch")


def list_trained() -> list[str]:
    """List the experts that have weights, in the registry's order."""
    files = read_manifest(WEIGHTS_DIR)
    return [expert for expert, spec in SPECS.items() if spec.weights in files]


def name_kind(expert: str) -> str:
    """Name the kind of synthetic image that an expert is for: experts are ``NETWORK_MODALITY``."""
    modality = expert.rpartition("_")[2]
    return SMALL_CELLS.get(expert, modality if modality in KINDS else ANY_KIND)


def make_windows(
    expert: str, side_px: int, n_windows: int, device: str = "cpu"
) -> NDArray[np.float32]:
    """Make windows such as an expert sees.

    Parameters
    ----------
    expert : str
        One of the registered ones.
    side_px : int
        A multiple of 32.
    n_windows : int
        At least one.
    device : str
        On which the expert is loaded.

    Returns
    -------
    (N, Y, X, 3) ndarray of float32
        Synthetic images of its modality, normalised.
    """
    windows = []
    for seed in range(n_windows):
        image = make_image(name_kind(expert), (side_px, side_px), seed=seed).image
        normaliser = fit_normaliser(image, load_network(expert, device).normalisation)
        windows.append(normaliser.apply(image))
    return np.stack(windows)


def time_forward(network: Segmenter, windows: NDArray[np.float32]) -> Pace:
    """Run a network over windows once, from an idle device until it is idle again."""
    mpx, device = windows[..., 0].size / MPX, network.runtime.device
    synchronise(device)
    began, began_cpu = time.perf_counter(), time.process_time()
    network.forward(windows)
    synchronise(device)
    return Pace(
        (time.perf_counter() - began) / mpx,
        (time.process_time() - began_cpu) / mpx,
    )


def count_windows(side_px: int, device: str) -> int:
    """Count the windows that a network sees at once: as many as memory bears, or a batch."""
    return max(1, PIXELS_AT_ONCE // side_px**2) if device == "cpu" else DEFAULT_BATCH_SIZE


def measure_networks(plan: Plan) -> Iterator[Row]:
    """Measure the forward passes of every expert, in turn, on as many pixels as it sees at once."""
    networks = {expert: load_network(expert, plan.device) for expert in list_trained()}
    batches = {}
    for expert, network in networks.items():
        side = QUICK_PX if plan.is_quick else network.tile_px
        n_windows = 1 if plan.is_quick else count_windows(side, plan.device)
        batches[expert] = make_windows(expert, side, n_windows, plan.device)
    paces: dict[str, list[Pace]] = {expert: [] for expert in networks}
    for repeat in range(plan.n_repeats + 1):
        for expert, network in networks.items():
            pace = time_forward(network, batches[expert])
            paces[expert] += [pace] if repeat else []
    load_segmenter.cache_clear()  # they hold 2.5 GB, which later benchmarks shall not miss
    for expert, of_one in paces.items():
        n, side = batches[expert].shape[:2]
        what = f"{expert}, {n} x {side} x {side}"
        yield Row(what, "s / Mpx", tuple(pace.real_s for pace in of_one), n_warm_up=1)
        yield Row(f"{what}: CPU", "s / Mpx", tuple(pace.cpu_s for pace in of_one), n_warm_up=1)


def measure_decoding(plan: Plan) -> Iterator[Row]:
    """Measure every decoder against its reference, in turn, and the memory of both."""
    side, n_cells = QUICK_FIELD if plan.is_quick else FIELD
    labels, maps = make_maps(side, n_cells)
    size = f"{side} x {side}, {int(labels.max())} cells"
    for name in CONTESTS:
        found = measure_contest(name, maps, plan.n_repeats)
        ours, reference = (tuple(found["seconds"][key]) for key in ("ours", "reference"))
        yield Row(f"{name}, {size}", "s", ours, n_warm_up=1)
        yield Row(f"{name}, {size}: reference", "s", reference, n_warm_up=1)
        ratios = pair_ratios(reference, ours)
        agreement = f"F1 at IoU {IOU_MIN} between them {found[f'f1_at_iou_{IOU_MIN}']:.4f}"
        yield Row(f"{name}, {size}: times faster", "ratio", ratios, True, 1, agreement)
        for key, word in (("ours", "peak memory"), ("reference", "reference, peak memory")):
            yield Row(f"{name}, {size}: {word}", "MiB", (found["peak_mib"][key],))


def measure_f1(plan: Plan) -> Iterator[Row]:
    """Measure the scoring of one pair against the dense way, and of one slide."""
    scored = QUICK_SCORED if plan.is_quick else SCORED
    sizes = Sizes(**scored, n_images=0, repeats=plan.n_repeats)
    pair = measure_against_dense(plan.folder, sizes)
    what = f"{sizes.side_px} x {sizes.side_px}, {pair['n_true']} cells"
    yield Row(what, "s", tuple(pair["sparse_s"]), n_warm_up=1)
    yield Row(f"{what}: dense matrix", "s", tuple(pair["dense_s"]))
    ratios = pair_ratios(pair["dense_s"], pair["sparse_s"])
    yield Row(f"{what}: times faster", "ratio", ratios, more_is_better=True)
    slide = measure_slide(plan.folder, sizes)
    what = f"{sizes.slide_px} x {sizes.slide_px}, {slide['n_true']} cells"
    yield Row(what, "s", tuple(slide["seconds"]), note="each in a fresh process")
    yield Row(f"{what}: peak memory", "MiB", (slide["peak_mib"],))
