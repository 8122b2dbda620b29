"""One slide from file to labels: ``python -m bench.slide --size Y X --kind cellpose --json FILE``.

A synthetic slide is labelled by ``predict.py`` in a process of its own. Around each call the bare
network runs over windows of the same slide that are not empty; as many of them as the call computed
are what the network alone would take. What keeps the ratio below 1 is thus the start, reading,
the estimate of the scale, windows that blocks share and compute again, decoding and writing.
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.baseline import compare_reports
from bench.execution import BenchmarkError, Execution, execute_well, predict_command
from bench.machine import describe_machine
from bench.rows import Report, Row, pair_ratios, write_report
from bench.table import format_report
from eval.run_file import name_commit, now_utc
from imaging.normalise import Normaliser, fit_normaliser
from imaging.reading import open_image
from models.registry import load_segmenter
from synthetic.slides import SlideSettings, make_slide, write_slide
from tiling.cover import build_lattice
from tiling.ground import find_ground
from tiling.maps import TileNetwork
from tiling.sampling import Float32, ScaledImage, build_geometry
from tiling.settings import DEFAULT_BATCH_SIZE, GROUND_OF, SIDE_MULTIPLE

MPX = 1e6
N_SAMPLED = DEFAULT_BATCH_SIZE  # windows that the bare network is timed on
SCALE = re.compile(r": (\S+) network pixels a pixel$", re.MULTILINE)
WINDOWS = re.compile(r": (\d+) of (\d+) windows computed$", re.MULTILINE)
CELLS = re.compile(r", (\w+), (\d+) cells\b")


@dataclass(frozen=True)
class Kind:
    """What a slide shows, and what labels it."""

    cells: str
    modality: str
    expert: str


KINDS = {
    "cellpose": Kind("phase", "phase", "cellpose_phase"),
    "cdnet": Kind("fluorescence_rgb", "fluorescence", "cdnet_fluorescence"),
    "unet": Kind("brightfield_small", "brightfield", "unet_brightfield"),
}


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

    network: TileNetwork
    batch: Float32

    def time_window(self) -> float:
        """Run the network over the windows once; seconds for one."""
        began = time.perf_counter()
        self.network.forward(self.batch)
        return (time.perf_counter() - began) / len(self.batch)


def sample_windows(path: Path, kind: Kind, scale: float) -> Sample:
    """Read windows that show more than empty ground, spread over a slide.

    Parameters
    ----------
    path : Path
        The slide.
    kind : Kind
    scale : float
        Network pixels a pixel.

    Returns
    -------
    Sample

    Raises
    ------
    BenchmarkError
        If every window is empty.
    """
    network = load_segmenter(kind.expert, "cpu")
    with open_image(path) as image:
        overview = image.overview()
        normaliser: Normaliser = fit_normaliser(overview, network.normalisation)
        ground = find_ground(normaliser.apply(overview), GROUND_OF.get(kind.modality, "any"))
        reader = ScaledImage(image, normaliser, build_geometry(image.shape[:2], scale))
        shape = reader.geometry.network
        lattice = build_lattice(shape, network.tile_px, network.halo_px, SIDE_MULTIPLE)
        tiles = lattice.tiles_over((0, 0, *shape))
        order = np.random.default_rng(0).permutation(len(tiles))
        shown: list[Float32] = []
        for window in (reader.read(tiles[number].window) for number in order):
            if ground is None or not ground.fills(window):
                shown.append(window)
            if len(shown) == N_SAMPLED:
                break
    if not shown:
        raise BenchmarkError(f"{path.name}: all windows are empty")
    batch = np.stack(shown)
    height, width = batch.shape[1:3]
    padding = ((0, 0), (0, -height % SIDE_MULTIPLE), (0, -width % SIDE_MULTIPLE), (0, 0))
    return Sample(network, np.pad(batch, padding, mode="reflect"))


def measure_slide(
    path: Path, kind: Kind, shape: tuple[int, int], n_repeats: int, options: Sequence[str] = ()
) -> list[Row]:
    """Label a slide and time the bare network in turn.

    Parameters
    ----------
    path : Path
        The slide.
    kind : Kind
    shape : (Y, X) tuple of int
        Its size.
    n_repeats : int
        Calls of ``predict.py``.
    options : sequence of str
        More options of it.

    Returns
    -------
    list of Row

    Raises
    ------
    BenchmarkError
        If it is not labelled, or by another expert.
    """
    command = predict_command(
        path, path.parent / "out", "-v", "--modality", kind.modality, *options
    )
    runs: list[Execution] = []
    bare: list[float] = []
    said: Said | None = None
    sample: Sample | None = None
    for _ in range(n_repeats):
        before = [] if sample is None else [sample.time_window()]
        run, log = execute_well("slide", command)
        said = read_log(log)
        if said.expert != kind.expert:
            raise BenchmarkError(f"{path.name}: wanted {kind.expert}, it took {said.expert}")
        if sample is None:
            sample = sample_windows(path, kind, said.scale)
            sample.time_window()  # warms up
        runs.append(run)
        bare.append(statistics.mean([*before, sample.time_window()]) * said.n_computed)
    if said is None:
        raise BenchmarkError(f"wanted at least 1 repeat, got {n_repeats}")
    return describe_runs(runs, bare, said, (kind, shape))


def describe_runs(
    runs: Sequence[Execution], bare: Sequence[float], said: Said, what: tuple[Kind, tuple[int, int]]
) -> list[Row]:
    """Make the rows of a slide.

    Parameters
    ----------
    runs : sequence of Execution
    bare : sequence of float
        Seconds of the bare network for the windows of each.
    said : Said
        By the last of them.
    what : (Kind, (int, int))
        The slide.

    Returns
    -------
    list of Row
    """
    kind, (height, width) = what
    mpx = height * width / MPX
    name = f"{height} x {width}, {kind.cells}, {kind.expert}"
    n_empty = said.n_windows - said.n_computed
    counts = f"{said.n_cells} cells, {said.n_computed} of {said.n_windows} windows computed"
    ratios = pair_ratios(bare, (run.real_s for run in runs))
    return [
        Row(f"{name}: elapsed", "s / Mpx", tuple(run.real_s / mpx for run in runs), note=counts),
        Row(f"{name}: CPU", "s / Mpx", tuple(run.cpu_s / mpx for run in runs)),
        Row(f"{name}: bare network", "s / Mpx", tuple(seconds / mpx for seconds in bare)),
        Row(f"{name}: bare network / whole call", "ratio", ratios, more_is_better=True),
        Row(f"{name}: peak memory", "MiB", tuple(run.peak_mib for run in runs)),
        Row(f"{name}: windows left out", "ratio", (n_empty / said.n_windows,)),
    ]


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.slide", description=__doc__)
    add = parser.add_argument
    add("--size", type=int, nargs=2, default=(8415, 10496), metavar=("Y", "X"), help="in pixels")
    add("--kind", choices=sorted(KINDS), default="cellpose", help="of network (default: cellpose)")
    add("--tissue", type=float, default=0.6, metavar="SHARE", help="of the slide (default: 0.6)")
    add("--repeats", type=int, default=1, metavar="N", help="calls (default: 1)")
    add("--folder", type=Path, metavar="FOLDER", help="for the slide (default: a temporary one)")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    add("options", nargs="*", help="of predict.py, after --; e.g. -- --max-memory 3")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, report; 0 if the slide was labelled, else 1."""
    args = build_parser().parse_args(arguments)
    kind, shape = KINDS[args.kind], (args.size[0], args.size[1])
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        path = Path(name) / "slide.ome.tiff"
        mosaic = make_slide(kind.cells, shape, args.tissue)
        write_slide(path, mosaic, "ome-tiff", SlideSettings(256, "zlib", 0.5))
        machine = describe_machine()  # its load is that before the run
        try:
            rows = measure_slide(path, kind, shape, args.repeats, args.options)
        except BenchmarkError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    settings = {"kind": args.kind, "tissue": args.tissue, "options": args.options}
    report = Report(now_utc(), name_commit(), machine, settings, tuple(rows))
    if args.json:
        write_report(args.json, report)
    sys.stdout.write(format_report(report, compare_reports(report, None), None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
