"""Benchmarks of whole programs, each run a fresh process: from its start to its exit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cold_start import SIDE_PX, Setting, compare_systems, run_starts, write_default_image
from bench.execution import Execution, execute_well, predict_command
from bench.peer import name_folder, prepare_peer, read_versions
from bench.rows import Row, Unit, pair_ratios
from bench.suite import Plan
from synthetic import make_image
from synthetic.folder import write_image

WHOLE_PX, LARGE_PX, QUICK_PX = 2048, 3000, 768
MPX = 1e6
FIGURES: tuple[tuple[str, str, Unit], ...] = (
    ("elapsed", "real_s", "s"),
    ("CPU", "cpu_s", "s"),
    ("peak memory", "peak_mib", "MiB"),
)
GPU_FIGURE: tuple[str, str, Unit] = ("peak GPU memory", "peak_gpu_mib", "MiB")
# Of stock Cellpose over predict.py, on one small image: seconds 1 / 0.20, memory 1 / 0.5.
WANTED_RATIOS = {"elapsed": 5.0, "peak memory": 2.0}
WANTED_AGREEMENT = 0.97  # F1 at IoU 0.5 between the two


@dataclass(frozen=True)
class Series:
    """Runs of one command.

    Attributes
    ----------
    runs : list of Execution
        At least one.
    n_warm_up : int
        Runs before, which do not count.
    note : str
        Of each of its rows.
    """

    runs: list[Execution]
    n_warm_up: int = 1
    note: str = ""

    def row(self, name: str, figure: str, unit: Unit = "s", per: float = 1.0) -> Row:
        """Make a row of one figure, a field of :class:`Execution`, divided by ``per``."""
        values = tuple(getattr(run, figure) / per for run in self.runs)
        return Row(name, unit, values, n_warm_up=self.n_warm_up, note=self.note)

    def rows(self, what: str) -> Iterator[Row]:
        """Make a row of each figure."""
        for word, figure, unit in add_gpu_figure(FIGURES, self.runs):
            yield self.row(f"{what}: {word}", figure, unit)

    def memory_rows(self, what: str) -> Iterator[Row]:
        """Make a row of the memory of the host, and one of that of the GPU that computed."""
        for word, figure, unit in add_gpu_figure(FIGURES[-1:], self.runs):
            yield self.row(f"{what}: {word}", figure, unit)


def add_gpu_figure(
    figures: tuple[tuple[str, str, Unit], ...], runs: Iterable[Execution]
) -> tuple[tuple[str, str, Unit], ...]:
    """Add the memory of the GPU to the figures of runs that are told, if all of them have it.

    Parameters
    ----------
    figures : tuple of (str, str, str)
        Word, field of :class:`Execution` and unit of each.
    runs : iterable of Execution

    Returns
    -------
    tuple of (str, str, str)
    """
    has_it = all(run.peak_gpu_mib is not None for run in runs)
    return (*figures, GPU_FIGURE) if has_it else figures


def measure_cold_start(plan: Plan) -> Iterator[Row]:
    """Measure ``predict.py`` on one image, and the stages that it tells."""
    image = write_default_image(plan.folder / "phase.png")
    command = predict_command(image, plan.folder / "out", device=plan.device)
    n_runs = plan.n_repeats + 1
    runs = [execute_well("predict.py", command, plan.device)[0] for _ in range(n_runs)][1:]
    yield from Series(runs).rows(f"predict.py, {SIDE_PX} x {SIDE_PX}")
    profiles = [run.stages or {} for run in runs]
    for stage in profiles[0]:
        values = tuple(profile[stage] for profile in profiles)
        yield Row(f"stage: {stage}", "s", values, n_warm_up=1)


def measure_starts(plan: Plan) -> Iterator[Row]:
    """Measure what should answer at once, and bare imports."""
    for name, runs in run_starts(plan.folder, plan.n_repeats).items():
        yield Series(runs).row(name, "real_s")


def measure_peer(plan: Plan) -> Iterator[Row]:
    """Measure ``predict.py`` and stock Cellpose in turn; installs the latter if need be."""
    python = prepare_peer(plan.cache / name_folder(plan.device), plan.torch_index_url, plan.device)
    image = write_default_image(plan.folder / "phase.png")
    setting = Setting(image, plan.folder, (), str(python), plan.device)
    record = compare_systems(setting, plan.n_repeats, n_threads=None)
    runs = [Execution(**run) for run in record["runs"]]
    own, stock = ([run for run in runs if run.command == name] for name in ("own", "stock"))
    versions = ", ".join(f"{name} {version}" for name, version in read_versions(python).items())
    what = f"{SIDE_PX} x {SIDE_PX}, {record['expert']}"
    yield from Series(own, n_warm_up=2).rows(f"predict.py, {what}")
    yield from Series(stock, note=versions).rows(f"stock Cellpose, {what}")
    for word, figure, _ in add_gpu_figure(FIGURES, runs):
        theirs, ours = ([getattr(run, figure) for run in runs] for runs in (stock, own))
        ratios = pair_ratios(theirs, ours)
        note = f"wanted: at least {WANTED_RATIOS[word]:g}" if word in WANTED_RATIOS else ""
        yield Row(f"stock / predict.py: {word}", "ratio", ratios, True, 1, note)
    agreement, note = (float(record["f1_between"]),), f"wanted: at least {WANTED_AGREEMENT:g}"
    yield Row("F1 at IoU 0.5 between their labels", "ratio", agreement, True, note=note)


def measure_whole(plan: Plan, side_px: int = WHOLE_PX) -> Iterator[Row]:
    """Measure ``predict.py`` on one square image of each kind."""
    side = QUICK_PX if plan.is_quick else side_px
    for kind in plan.kinds:
        image = write_kind(plan.folder / f"{kind}.png", kind, side)
        warm_up(plan.folder, kind, plan.device)
        command = predict_command(image, plan.folder / "out", device=plan.device)
        runs = [execute_well(kind, command, plan.device)[0] for _ in range(plan.n_repeats)]
        series = Series(runs, note="pixels of the image; warmed up on a small one")
        mpx, what = side**2 / MPX, f"{side} x {side}, {kind}"
        yield series.row(f"{what}: elapsed", "real_s", "s / Mpx", mpx)
        yield series.row(f"{what}: CPU", "cpu_s", "s / Mpx", mpx)
        yield from series.memory_rows(what)


def measure_large(plan: Plan) -> Iterator[Row]:
    """Measure ``predict.py`` on one image of 3000 x 3000 pixels of each kind."""
    yield from measure_whole(plan, LARGE_PX)


def write_kind(path: Path, kind: str, side_px: int, seed: int = 0) -> Path:
    """Write a synthetic image of a kind; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, make_image(kind, (side_px, side_px), seed=seed))
    return path


def warm_up(folder: Path, kind: str, device: str = "cpu") -> None:
    """Label a small image of a kind once, so that program and weights are in the page cache."""
    image = write_kind(folder / "warm" / f"{kind}.png", kind, SIDE_PX)
    command = predict_command(image, folder / "warm-out", device=device)
    execute_well("warm-up", command, device)
