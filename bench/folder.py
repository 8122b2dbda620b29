"""A folder of images in one call of ``predict.py``, against the same networks and nothing else.

What the bare network would take for the folder is its seconds a megapixel, on windows of the
images' own size, times the pixels that each image has at the scale that the program chose.
What keeps the ratio below 1 is thus the start, reading and writing, the estimate of the
scale, windows that overlap, and decoding. The same folder with the true diameter of its cells
told to ``predict.py`` shows what of that is the estimate.
"""

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cold_start import SIDE_PX
from bench.computing import load_network, make_windows, time_forward
from bench.execution import BenchmarkError, Execution, execute_well, predict_command
from bench.programs import MPX, Series, warm_up
from bench.rows import Row, pair_ratios
from bench.suite import Plan
from models.size_view import median_diameter
from synthetic import make_image
from synthetic.folder import write_image

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


@dataclass(frozen=True)
class Call:
    """One call of ``predict.py`` for the folder.

    Attributes
    ----------
    run : Execution
    bare_s : float
        Seconds of the bare networks for the same pixels, timed right after it.
    """

    run: Execution
    bare_s: float


def measure_folder(plan: Plan) -> Iterator[Row]:
    """Measure a folder of images of each kind, the size of its cells estimated and known."""
    n_images = QUICK_IMAGES if plan.is_quick else plan.n_images
    for kind in plan.kinds:
        diameter_px = write_images(plan.folder / kind, kind, n_images)
        warm_up(plan.folder, kind, plan.device)
        estimated, known = [], []
        for _ in range(plan.n_repeats):
            estimated.append(_call(plan, kind))
            known.append(_call(plan, kind, "--diameter", f"{diameter_px:.1f}"))
        what = f"{n_images} images of {SIDE_PX} x {SIDE_PX}, {kind}"
        yield from _list_rows(what, n_images, estimated)
        yield from _list_rows(f"{what}, known diameter", n_images, known)
        shares = pair_ratios(*([call.run.real_s for call in calls] for calls in (known, estimated)))
        note = "what is missing to 1 is the estimate's, unless its scales are far from the true one"
        yield Row(f"{what}: known / estimated diameter, elapsed", "ratio", shares, True, 1, note)


def write_images(folder: Path, kind: str, n_images: int) -> float:
    """Write synthetic images of a kind into a folder, which is made.

    Parameters
    ----------
    folder : Path
    kind : str
        From :data:`synthetic.KINDS`.
    n_images : int
        At least 1.

    Returns
    -------
    float
        True median diameter of the cells in pixels: the middle one of the images' medians.
    """
    folder.mkdir(parents=True, exist_ok=True)
    diameters = []
    for seed in range(n_images):
        made = make_image(kind, (SIDE_PX, SIDE_PX), seed=seed)
        write_image(folder / f"{kind}_{seed:03d}.png", made)
        diameters.append(median_diameter(made.labels))
    return statistics.median(diameters)


def _call(plan: Plan, kind: str, *options: str) -> Call:
    """Label the folder, and time the bare networks for it."""
    paths = (plan.folder / kind, plan.folder / "out")
    command = predict_command(*paths, "-v", *options, device=plan.device)
    run, said = execute_well(kind, command, plan.device)
    passes = read_passes(said, SIDE_PX)
    seconds = {name: _time_network(name, plan.device) for name in passes.mpx}
    return Call(run, passes.bare_seconds(seconds))


def _list_rows(what: str, n_images: int, calls: Sequence[Call]) -> Iterator[Row]:
    """Make the rows of equal calls."""
    series = Series([call.run for call in calls], note="warmed up on one image")
    yield series.row(f"{what}: elapsed an image", "real_s", per=n_images)
    yield series.row(f"{what}: CPU an image", "cpu_s", per=n_images)
    yield from series.memory_rows(what)
    ratios = tuple(call.bare_s / call.run.real_s for call in calls)
    note = "1 would be the speed of the network alone"
    yield Row(f"{what}: bare network / whole call", "ratio", ratios, True, 1, note)
    for stage, note in (("network", "passes for the labels"), ("scale", "estimate of the scale")):
        shares = tuple((call.run.stages or {})[stage] / call.run.real_s for call in calls)
        yield Row(f"{what}: share in stage {stage}", "ratio", shares, stage == "network", 1, note)


def _time_network(expert: str, device: str) -> float:
    """Time an expert's network on one window of the images' size; seconds a megapixel."""
    network = load_network(expert, device)
    windows = make_windows(expert, SIDE_PX, 1, device)
    time_forward(network, windows)  # warms up
    return statistics.median(time_forward(network, windows).real_s for _ in range(N_PASSES))
