"""``predict.py`` and stock Cellpose in turn on one slide: same file, weights and diameter."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cold_start import Setting, compare_systems
from bench.execution import Execution, execute_well
from bench.peer import read_versions
from bench.programs import Series, add_gpu_figure
from bench.rows import Row, Unit, pair_ratios
from bench.slide_files import Slide

WANTED = 0.16  # seconds of predict.py over those of stock Cellpose, at most
FIGURES: tuple[tuple[str, str, Unit], ...] = (
    ("elapsed", "real_s", "s / Mpx"),
    ("CPU", "cpu_s", "s / Mpx"),
    ("peak memory", "peak_mib", "MiB"),
)


def compare_on_slide(
    slide: Slide,
    stock_python: Path,
    n_repeats: int,
    options: Sequence[str] = (),
    device: str = "cpu",
) -> Iterator[Row]:
    """Label a slide with both systems in turn.

    Parameters
    ----------
    slide : Slide
        From :func:`bench.slide_files.make_plain`; its folder gets the outputs.
    stock_python : Path
        Interpreter of the environment that has stock Cellpose.
    n_repeats : int
        Of each system. ``predict.py`` runs once before, and tells the diameter; of stock Cellpose
        only the start is warmed up, as a whole run takes many times longer.
    options : sequence of str
        More options of ``predict.py``.
    device : str
        That both compute on.

    Yields
    ------
    Row
        Figures of both, predict.py's over stock Cellpose's, and agreement of their labels.

    Raises
    ------
    BenchmarkError
        If a command fails, or the slide is not labelled by an expert on CPnet.
    """
    execute_well("warm-up", [str(stock_python), "-c", "import cellpose.models"])
    known = ("--modality", slide.kind.modality, *options)
    setting = Setting(slide.path, slide.path.parent, known, str(stock_python), device)
    record = compare_systems(setting, n_repeats, n_threads=None, n_warm_up=0)
    runs = [Execution(**run) for run in record["runs"]]
    own, stock = ([run for run in runs if run.command == name] for name in ("own", "stock"))
    what, cells = f"{slide.name}, {record['expert']}", record["cells"]
    versions = ", ".join(f"{name} {of}" for name, of in read_versions(stock_python).items())
    chosen = f"{cells['stock']} cells, diameter {record['diameter_px']:g} px, {versions}"
    yield from _name_figures("predict.py", Series(own, 1, f"{cells['own']} cells"), slide, what)
    yield from _name_figures("stock Cellpose", Series(stock, 0, chosen), slide, what)
    for word, figure, _ in add_gpu_figure(FIGURES, runs):
        ours, theirs = ([getattr(run, figure) for run in of] for of in (own, stock))
        note = f"wanted: at most {WANTED:g}" if word == "elapsed" else ""
        ratios = pair_ratios(ours, theirs)
        yield Row(f"predict.py / stock, {what}: {word}", "ratio", ratios, note=note)
    agreement = (float(record["f1_between"]),)
    yield Row(f"F1 at IoU 0.5 between them, {what}", "ratio", agreement, True)


def _name_figures(system: str, series: Series, slide: Slide, what: str) -> Iterator[Row]:
    """Make the rows of one system."""
    for word, figure, unit in add_gpu_figure(FIGURES, series.runs):
        per = slide.mpx if unit == "s / Mpx" else 1.0
        yield series.row(f"{system}, {what}: {word}", figure, unit, per)
