"""One slide from file to labels: ``python -m bench.slide --size Y X --kind cellpose --json FILE``.

A synthetic slide is labelled by ``predict.py`` in a process of its own. Around each call the bare
network runs over windows of the same slide that are not empty; as many of them as the call computed
are what the network alone would take. What keeps the ratio below 1 is thus the start, reading,
the estimate of the scale, windows that blocks share and compute again, decoding and writing.

With ``--peer`` stock Cellpose labels the slide instead of the bare network, in turn with
``predict.py``, with the same weights and at the diameter that this chose.

Memory should not grow with the slide: ``--memory-of FILE`` puts the peak beside that of an earlier
run on another size. ``--size 40000 40000 --tissue 0.1`` is a large slide, most of it blank; it is
written tile after tile. ``--kind brightfield`` and ``--kind fluorescence`` are in colour, and go to
the experts that serve them by default.
"""

import argparse
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.baseline import compare_reports
from bench.computing import MPX, time_forward
from bench.device import DEVICES, HELP, prepare_device
from bench.execution import BUILD, BenchmarkError, Execution, execute_well, predict_command
from bench.machine import describe_machine
from bench.peer import name_folder, prepare_peer
from bench.programs import Series, warm_up
from bench.rows import Report, ReportError, Row, pair_ratios, read_report, write_report
from bench.slide_files import KINDS, TISSUE, Kind, Slide, make_plain, make_pyramid
from bench.slide_peer import compare_on_slide
from bench.suite import Plan
from bench.table import format_report
from eval.run_file import name_commit, now_utc
from imaging.image import ImageError
from imaging.normalise import Normaliser, fit_normaliser
from imaging.reading import open_image
from models.registry import DeviceError, load_segmenter
from models.segmenter import Segmenter
from router.names import EXPERT_OF
from tiling.cover import build_lattice
from tiling.ground import find_ground
from tiling.maps import pad_windows
from tiling.sampling import Float32, ScaledImage, build_geometry
from tiling.settings import DEFAULT_BATCH_SIZE, GROUND_OF
from tiling.survey import survey_image

SHAPE, FULL_SHAPE, QUICK_SHAPE = (2048, 3072), (8415, 10496), (512, 768)
N_SAMPLED = DEFAULT_BATCH_SIZE  # windows that the bare network is timed on
SCALE = re.compile(r": (\S+) network pixels a pixel$", re.MULTILINE)
WINDOWS = re.compile(r": (\d+) of (\d+) windows computed$", re.MULTILINE)
CELLS = re.compile(r", (\w+), (\d+) cells\b")
PEAK = ": peak memory"  # end of the name of its row
CPNET_MODALITIES = tuple(m for m, expert in EXPERT_OF.items() if expert.startswith("cellpose_"))
KIND_HELP = "a network, or a modality in colour with its usual expert (default: cellpose)"
EXIT_FINE, EXIT_FAILED = 0, 1


@dataclass(frozen=True)
class Said:
    """What ``predict.py -v`` said of a slide.

    Attributes
    ----------
    expert : str
    n_cells : int
    scale : float
        Network pixels a pixel.
    n_computed, n_windows : int
        Windows that the network saw, and all.
    """

    expert: str
    n_cells: int
    scale: float
    n_computed: int
    n_windows: int


def read_log(said: str) -> Said:
    """Find in a log what is needed of it.

    Parameters
    ----------
    said : str
        Of ``predict.py -v`` with one image.

    Returns
    -------
    Said
        Of two experts the one that ran last, unless the first was named.

    Raises
    ------
    BenchmarkError
        If the slide was not labelled.
    """
    scale, windows, cells = SCALE.findall(said), WINDOWS.findall(said), CELLS.search(said)
    if not (scale and windows and cells):
        raise BenchmarkError(f"no slide was labelled; it said:\n{said}")
    n_computed, n_windows = (int(count) for count in windows[-1])
    return Said(cells[1], int(cells[2]), float(scale[-1]), n_computed, n_windows)


@dataclass(frozen=True)
class Sample:
    """A few windows of a slide as the network sees them."""

    network: Segmenter
    batch: Float32

    def time_window(self) -> float:
        """Run the network over the windows once; seconds for one."""
        return time_forward(self.network, self.batch).real_s * self.batch[0, ..., 0].size / MPX


def sample_windows(slide: Slide, said: Said, device: str = "cpu") -> Sample:
    """Read windows that show more than empty ground, spread over a slide.

    Parameters
    ----------
    slide : Slide
    said : Said
        Of ``predict.py``: the expert, and the scale at which it saw the slide.
    device : str
        That the network computes on.

    Returns
    -------
    Sample

    Raises
    ------
    BenchmarkError
        If every window is empty.
    """
    network = load_segmenter(said.expert, device)
    with open_image(slide.path) as image:
        survey = survey_image(image)
        normaliser: Normaliser = fit_normaliser(survey.fields, network.normalisation)
        ground = find_ground(
            normaliser.apply(survey.overview), GROUND_OF.get(slide.kind.modality, "any")
        )
        reader = ScaledImage(image, normaliser, build_geometry(image.shape[:2], said.scale))
        shape = reader.geometry.network
        lattice = build_lattice(shape, network.tile_px, network.halo_px, network.side_multiple)
        tiles = lattice.tiles_over((0, 0, *shape))
        order = np.random.default_rng(0).permutation(len(tiles))
        shown: list[Float32] = []
        for window in (reader.read(tiles[number].window) for number in order):
            if ground is None or not ground.fills(window):
                shown.append(window)
            if len(shown) == N_SAMPLED:
                break
    if not shown:
        raise BenchmarkError(f"{slide.path.name}: all windows are empty")
    return Sample(network, pad_windows(np.stack(shown), network.side_multiple))


def measure_slides(plan: Plan, shape: tuple[int, int] = SHAPE) -> Iterator[Row]:
    """Measure ``predict.py`` on a slide of each kind, (Y, X) pixels large, and the bare network."""
    for cells in plan.kinds:
        slide = make_pyramid(
            plan.folder / cells, Kind(cells), QUICK_SHAPE if plan.is_quick else shape
        )
        warm_up(plan.folder, cells, plan.device)
        yield from measure_slide(slide, plan.n_repeats, device=plan.device)


def measure_full_slides(plan: Plan) -> Iterator[Row]:
    """Measure what :func:`measure_slides` does on slides as large as the challenge's largest."""
    yield from measure_slides(plan, FULL_SHAPE)


def measure_peer(plan: Plan) -> Iterator[Row]:
    """Measure ``predict.py`` and stock Cellpose in turn on a slide of each kind on CPnet."""
    kinds = [Kind(cells) for cells in plan.kinds if Kind(cells).modality in CPNET_MODALITIES]
    if not kinds:
        wanted = " or ".join(CPNET_MODALITIES)
        raise BenchmarkError(f"wanted a kind of {wanted}, got {', '.join(plan.kinds)}")
    python = prepare_peer(plan.cache / name_folder(plan.device), plan.torch_index_url, plan.device)
    shape = QUICK_SHAPE if plan.is_quick else SHAPE
    for kind in kinds:
        slide = make_plain(plan.folder / kind.cells, kind, shape)
        yield from compare_on_slide(slide, python, plan.n_repeats, device=plan.device)


def measure_slide(
    slide: Slide, n_repeats: int, options: Sequence[str] = (), device: str = "cpu"
) -> list[Row]:
    """Label a slide and time the bare network in turn.

    Parameters
    ----------
    slide : Slide
        Its folder gets the labels.
    n_repeats : int
        Calls of ``predict.py``; at least 1.
    options : sequence of str
        More options of it.
    device : str
        That networks compute on.

    Returns
    -------
    list of Row

    Raises
    ------
    BenchmarkError
        If it is not labelled, or by another expert than it should be.
    """
    known = ("-v", "--modality", slide.kind.modality, "--experts", slide.kind.expert or "best")
    out = slide.path.parent / "out"
    command = predict_command(slide.path, out, *known, *options, device=device)
    runs: list[Execution] = []
    bare: list[float] = []
    said: Said | None = None
    sample: Sample | None = None
    for _ in range(n_repeats):
        before = [] if sample is None else [sample.time_window()]
        run, log = execute_well("slide", command, device)
        said = read_log(log)
        if slide.kind.expert not in (None, said.expert):
            raise BenchmarkError(
                f"{slide.path.name}: wanted {slide.kind.expert}, it took {said.expert}"
            )
        if sample is None:
            sample = sample_windows(slide, said, device)
            sample.time_window()  # warms up
        runs.append(run)
        bare.append(statistics.mean([*before, sample.time_window()]) * said.n_computed)
    if said is None:
        raise BenchmarkError(f"wanted at least 1 repeat, got {n_repeats}")
    return describe_runs(runs, bare, said, slide)


def describe_runs(
    runs: Sequence[Execution], bare: Sequence[float], said: Said, slide: Slide
) -> list[Row]:
    """Make the rows of a slide.

    Parameters
    ----------
    runs : sequence of Execution
    bare : sequence of float
        Seconds of the bare network for the windows of each.
    said : Said
        By the last of them.
    slide : Slide

    Returns
    -------
    list of Row
    """
    mpx, name = slide.mpx, f"{slide.name}, {said.expert}"
    empty = ((said.n_windows - said.n_computed) / said.n_windows,)
    counts = f"{said.n_cells} cells, {said.n_computed} of {said.n_windows} windows computed"
    ratios = pair_ratios(bare, (run.real_s for run in runs))
    return [
        Row(f"{name}: elapsed", "s / Mpx", tuple(run.real_s / mpx for run in runs), note=counts),
        Row(f"{name}: CPU", "s / Mpx", tuple(run.cpu_s / mpx for run in runs)),
        Row(f"{name}: bare network", "s / Mpx", tuple(seconds / mpx for seconds in bare)),
        Row(f"{name}: bare network / whole call", "ratio", ratios, more_is_better=True),
        *Series(list(runs), n_warm_up=0).memory_rows(name),
        Row(f"{name}: windows left out", "ratio", empty, more_is_better=True),
    ]


def relate_memory(rows: Sequence[Row], earlier: Report) -> Row:
    """Divide the peak memory of a slide by that of another one.

    Parameters
    ----------
    rows : sequence of Row
        Of :func:`measure_slide`.
    earlier : Report
        Of this program on another slide.

    Returns
    -------
    Row
        1 where memory does not depend on the size of the slide.

    Raises
    ------
    ReportError
        If there is no peak memory among the rows or in the report.
    """
    now, then = (
        next((row for row in of if row.name.endswith(PEAK)), None) for of in (rows, earlier.rows)
    )
    if now is None or then is None:
        raise ReportError(f"no row ends in {PEAK!r}: wanted two runs of python -m bench.slide")
    other = then.name.removesuffix(PEAK)
    ratios = tuple(value / then.median for value in now.values)
    return Row(f"{now.name} / that of {other}", "ratio", ratios, note=f"{then.median:.0f} MiB then")


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.slide",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--size", type=int, nargs=2, default=FULL_SHAPE, metavar=("Y", "X"), help="in pixels")
    add("--kind", choices=sorted(KINDS), default="cellpose", help=KIND_HELP)
    add("--tissue", type=float, default=TISSUE, metavar="SHARE", help="of the slide (default: 0.6)")
    add("--device", choices=DEVICES, default="cpu", help=HELP)
    add("--repeats", type=int, default=1, metavar="N", help="calls (default: 1)")
    add("--folder", type=Path, metavar="FOLDER", help="for the slide (default: a temporary one)")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    add("--compare", type=Path, metavar="FILE", help="mark what got worse than this earlier --json")
    add("--memory-of", type=Path, metavar="FILE", help="earlier --json, of a slide of another size")
    add("--peer", action="store_true", help="stock Cellpose instead of the bare network")
    add("--cache", type=Path, default=BUILD, metavar="DIR", help="holds the peer's environment")
    add("--torch-index-url", default="", metavar="URL", help="of PyTorch's CPU wheels, for it")
    add("options", nargs="*", help="of predict.py, after --; e.g. -- --max-memory 3")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, report; 0 if the slide was labelled and nothing got worse, else 1."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    _check(parser, args)
    try:
        machine = describe_machine(prepare_device(args.device))  # its load is that before the run
        before, other = (_read(path) for path in (args.compare, args.memory_of))
        rows = _measure(args)
        rows += [relate_memory(rows, other)] if other else []
    except (BenchmarkError, DeviceError, ImageError, ReportError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    named = ("kind", "tissue", "peer", "options", "device")
    settings = {name: getattr(args, name) for name in named}
    bench = "slide_peer" if args.peer else "slide"  # as the suite names it
    of_bench = tuple(replace(row, bench=bench) for row in rows)
    report = Report(now_utc(), name_commit(), machine, settings, of_bench)
    if args.json:
        write_report(args.json, report)
    changes = compare_reports(report, before)
    sys.stdout.write(format_report(report, changes, before))
    return EXIT_FAILED if any(change.verdict == "worse" for change in changes) else EXIT_FINE


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program where the command line does not make sense."""
    if min(*args.size, args.repeats) < 1 or not 0 < args.tissue <= 1:
        parser.error("wanted --size and --repeats of at least 1, --tissue above 0 and at most 1")
    if args.peer and args.memory_of:
        parser.error("--memory-of is of runs without --peer")
    if args.peer and KINDS[args.kind].modality not in CPNET_MODALITIES:
        parser.error("--peer compares Cellpose's network: it needs --kind cellpose")


def _measure(args: argparse.Namespace) -> list[Row]:
    """Write the slide into a temporary folder and measure what the command line asks for."""
    kind, shape = KINDS[args.kind], (args.size[0], args.size[1])
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        if args.peer:
            folder = args.cache.resolve() / name_folder(args.device)
            python = prepare_peer(folder, args.torch_index_url, args.device)
            slide = make_plain(Path(name), kind, shape, args.tissue)
            work = (args.repeats, args.options, args.device)
            return list(compare_on_slide(slide, python, *work))
        slide = make_pyramid(Path(name), kind, shape, args.tissue)
        return measure_slide(slide, args.repeats, args.options, args.device)


def _read(path: Path | None) -> Report | None:
    """Read a report, if one is named."""
    return None if path is None else read_report(path)


if __name__ == "__main__":
    sys.exit(main())
