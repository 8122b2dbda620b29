"""A folder of images in one call of ``predict.py``, against the same networks and nothing else.

What the bare network would take for the folder is its seconds a megapixel, on windows of the
images' own size, times the pixels that each image has at the scale that the program chose.
What keeps the ratio below 1 is thus the start, reading and writing, the estimate of the
scale, windows that overlap, and decoding.
"""

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.cold_start import SIDE_PX
from bench.computing import load_network, make_windows, time_forward
from bench.execution import BenchmarkError, Execution, execute_well, predict_command
from bench.programs import MPX, Series, warm_up, write_kind
from bench.rows import Row, pair_ratios
from bench.suite import Plan

QUICK_IMAGES = 2
N_PASSES = 3  # of the bare network after each call
SCALE = re.compile(r"^DEBUG (\S+): (\S+) network pixels a pixel$", re.MULTILINE)
EXPERT = re.compile(r"^INFO (\S+): .*, (\w+), \d+ cells\b", re.MULTILINE)


@dataclass(frozen=True)
class Passes:
    """What the networks had to look at in one call.

    Attributes
    ----------
    mpx : dict of str to float
        Millions of network pixels by expert, those of the expert that gave the labels.
    """

    mpx: dict[str, float]

    def bare_seconds(self, seconds_a_mpx: dict[str, float]) -> float:
        """Give what the bare networks take for it."""
        return sum(mpx * seconds_a_mpx[expert] for expert, mpx in self.mpx.items())


def read_passes(said: str, side_px: int) -> Passes:
    """Find in the log of ``predict.py -v`` which experts labelled the images, at which scale.

    Parameters
    ----------
    said : str
        The log.
    side_px : int
        Of the square images.

    Returns
    -------
    Passes
        Of two experts for one image the one that gave the labels, at the scale named last.

    Raises
    ------
    BenchmarkError
        If an image has no scale, or no image was labelled.
    """
    scales = {name: float(scale) for name, scale in SCALE.findall(said)}
    mpx: dict[str, float] = {}
    for name, expert in EXPERT.findall(said):
        if name not in scales:
            raise BenchmarkError(f"{name}: no scale in the log:\n{said}")
        mpx[expert] = mpx.get(expert, 0.0) + (side_px * scales[name]) ** 2 / MPX
    if not mpx:
        raise BenchmarkError(f"no image was labelled; it said:\n{said}")
    return Passes(mpx)


def measure_folder(plan: Plan) -> Iterator[Row]:
    """Measure a folder of images of each kind."""
    n_images = QUICK_IMAGES if plan.is_quick else plan.n_images
    for kind in plan.kinds:
        folder = plan.folder / kind
        for seed in range(n_images):
            write_kind(folder / f"{kind}_{seed:03d}.png", kind, SIDE_PX, seed)
        warm_up(plan.folder, kind)
        runs, bare_s = _run_in_turn(plan, kind)
        what = f"{n_images} images of {SIDE_PX} x {SIDE_PX}, {kind}"
        series = Series(runs, note="warmed up on one image")
        yield series.row(f"{what}: elapsed an image", "real_s", per=n_images)
        yield series.row(f"{what}: CPU an image", "cpu_s", per=n_images)
        yield series.row(f"{what}: peak memory", "peak_mib", "MiB")
        ratios = pair_ratios(bare_s, (run.real_s for run in runs))
        note = "1 would be the speed of the network alone"
        yield Row(f"{what}: bare network / whole call", "ratio", ratios, True, 1, note)
        shares = tuple((run.stages or {})["network"] / run.real_s for run in runs)
        note = "all passes, those for the scale too"
        yield Row(f"{what}: share in the network", "ratio", shares, True, 1, note)


def _run_in_turn(plan: Plan, kind: str) -> tuple[list[Execution], list[float]]:
    """Label the folder and time the bare networks in turn; the second as seconds for the folder."""
    command = predict_command(plan.folder / kind, plan.folder / "out", "-v")
    runs, bare_s = [], []
    for _ in range(plan.n_repeats):
        run, said = execute_well(kind, command)
        passes = read_passes(said, SIDE_PX)
        seconds = {expert: _time_network(expert) for expert in passes.mpx}
        runs.append(run)
        bare_s.append(passes.bare_seconds(seconds))
    return runs, bare_s


def _time_network(expert: str) -> float:
    """Time an expert's network on one window of the images' size; seconds a megapixel."""
    network = load_network(expert)
    windows = make_windows(expert, SIDE_PX, n_windows=1)
    time_forward(network, windows)  # warms up
    return statistics.median(time_forward(network, windows).real_s for _ in range(N_PASSES))
