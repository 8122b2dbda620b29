"""What cutting a slide into blocks changes: ``python -m bench.exactness --kind cellpose``.

A synthetic slide is labelled in one piece and in blocks of several sizes by the trained expert of
its kind, at the true size of its cells where the expert has a size of its own. Blocks should change
nothing but the numbers of the cells: the table says how many cells there are more or less, which
share of them has the same outline (IoU of at least 0.99), and how many end with a straight edge on
the grid of blocks, beside the same lines in one piece. The size of the window is another matter:
the network sees other surroundings, so its seams are counted and F1 is told for each.

What the network gives for a batch is kept: it is computed again only where another way to cut the
slide shows it other pixels, or other company.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine import describe_machine
from bench.slide_files import KINDS, TISSUE
from eval.matching import match_instances
from eval.run_file import name_commit, now_utc
from eval.seams import count_cut_at
from imaging.image import ArraySource, Image, SourceImage
from imaging.normalise import Normaliser, fit_normaliser
from models.registry import load_segmenter
from models.size_view import median_diameter
from router.names import EXPERT_OF
from synthetic.slides import make_slide
from tiling.block_job import SlideJob, plan_slide
from tiling.cover import build_lattice
from tiling.engine import segment
from tiling.maps import TileNetwork
from tiling.sampling import Float32
from tiling.settings import GROUND_OF, SIDE_MULTIPLE, TilingSettings
from tiling.survey import Survey, survey_image
from tiling.views import representative_views

LabelArray = NDArray[np.int32]

NETWORKS = ("cellpose", "cdnet", "unet")  # kinds of slides, one for each decoder
SHAPE, BLOCKS_PX = (2048, 2048), (512, 1024, 2048)
WHOLE_PX = 2**30  # a block that holds any slide
SAME_IOU, FOUND_IOU = 0.99, 0.5
MOST_OTHER, MOST_MORE = 0.005, 0.005  # what is asked of blocks: shares of the cells
EXIT_EXACT, EXIT_NOT = 0, 1


@dataclass(frozen=True)
class Lines:
    """The lines of a grid in native pixels, without the image's edges: rows and columns."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def share_cut(self, labels: LabelArray) -> float:
        """Give the share of the cells that end with a straight edge on a line."""
        n_cells = np.count_nonzero(np.bincount(labels.ravel())[1:])
        return count_cut_at(labels, self.rows, self.columns) / max(1, n_cells)

    def between(self) -> "Lines":
        """Give lines half-way between these: what is cut there is cut by chance."""
        rows, columns = (_halve(lines) for lines in (self.rows, self.columns))
        return Lines(rows, columns)


@dataclass(frozen=True)
class Cut:
    """One way to cut a slide, and what became of its cells.

    Attributes
    ----------
    kind : str
        A name in :data:`bench.slide_files.KINDS`.
    tile_px, block_px : int
        Sides of windows and largest sides of blocks in network pixels; the block is
        :data:`WHOLE_PX` in one piece.
    n_blocks, n_cells : int
    more : float
        Cells more than in one piece with the expert's own windows, over those; negative if fewer.
    same : float
        Share of that piece's cells that have a cell of nearly the same outline here.
    on_blocks, on_blocks_whole : float
        Share of cells with a straight edge on the grid of blocks, here and in one piece.
    on_windows, between_windows : float
        The same on the seams between windows, and half-way between these, here.
    f1 : float
        Against the true labels, at IoU 0.5.
    seconds : float
        Of reading, the network on batches that it has not seen before, and decoding.
    """

    kind: str
    tile_px: int
    block_px: int
    n_blocks: int
    n_cells: int
    more: float
    same: float
    on_blocks: float
    on_blocks_whole: float
    on_windows: float
    between_windows: float
    f1: float
    seconds: float

    @property
    def is_exact(self) -> bool:
        """Whether blocks changed no more than is allowed."""
        is_counted = abs(self.more) <= MOST_MORE and self.same >= 1 - MOST_OTHER
        return is_counted and self.on_blocks <= self.on_blocks_whole


class RecallingNetwork:
    """A network that computes a batch of windows once.

    Parameters
    ----------
    network : TileNetwork
    """

    def __init__(self, network: TileNetwork) -> None:
        self._network, self._seen = network, dict[bytes, Float32]()
        self.tile_px, self.halo_px = network.tile_px, network.halo_px
        self.object_px, self.n_maps = network.object_px, network.n_maps
        self.side_multiple, self.normalisation = network.side_multiple, network.normalisation
        self.choose_scale, self.scale_for = network.choose_scale, network.scale_for
        self.decode, self.foreground = network.decode, network.foreground

    def forward(self, batch: Float32) -> Float32:
        """Give the maps (N, K, Y, X) of windows (N, Y, X, 3)."""
        key = hashlib.sha256(batch.tobytes()).digest()
        if key not in self._seen:
            self._seen[key] = self._network.forward(batch)
        return self._seen[key]


@dataclass(frozen=True, eq=False)
class Scene:
    """A slide in memory with its true labels, and how its expert sees it.

    Attributes
    ----------
    kind : str
    image : Image
    labels_true : (Y, X) ndarray of int32
    network : TileNetwork
    survey : Survey
    normaliser : Normaliser
    scale : float
        Network pixels a native pixel.
    """

    kind: str
    image: Image
    labels_true: LabelArray
    network: TileNetwork
    survey: Survey
    normaliser: Normaliser
    scale: float

    def plan(self, tile_px: int, block_px: int) -> SlideJob:
        """Cut the slide."""
        ground = GROUND_OF.get(KINDS[self.kind].modality, "any")
        settings = TilingSettings(tile_px=tile_px, block_px=block_px, ground=ground)
        parts = self.image, self.normaliser, self.network, self.scale
        return plan_slide(*parts, settings, self.survey.overview)


def make_scene(kind: str, shape: tuple[int, int], tissue: float, network: TileNetwork) -> Scene:
    """Make a slide, and settle at which scale its network sees it.

    Parameters
    ----------
    kind : str
        A name in :data:`bench.slide_files.KINDS`.
    shape : (Y, X) tuple of int
        In native pixels.
    tissue : float
        Share of the slide that holds cells, above 0 and at most 1.
    network : TileNetwork

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        If shape or tissue is out of range.
    """
    mosaic = make_slide(KINDS[kind].cells, shape, tissue)
    whole = (0, 0, *shape)
    image = SourceImage(Path(f"{kind}.tiff"), ArraySource(mosaic.read(whole)))
    labels_true = mosaic.read_labels(whole)
    survey = survey_image(image)
    normaliser: Normaliser = fit_normaliser(survey.fields, network.normalisation)
    scale = network.scale_for(median_diameter(labels_true))
    if scale is None:
        scale = network.choose_scale(representative_views(image, survey.overview, normaliser))
    return Scene(kind, image, labels_true, network, survey, normaliser, scale)


def compare_cuts(scene: Scene, tiles_px: Sequence[int], blocks_px: Sequence[int]) -> Iterator[Cut]:
    """Label a slide in one piece, in blocks, and in one piece with other windows.

    Parameters
    ----------
    scene : Scene
    tiles_px : sequence of int
        Sides of other windows than the network's own, multiples of 32.
    blocks_px : sequence of int
        Largest sides of blocks in network pixels.

    Yields
    ------
    Cut
        The one piece first, which the others are compared with.

    Raises
    ------
    ValueError
        If a side is out of range.
    """
    recalling = replace(scene, network=RecallingNetwork(scene.network))
    own_px = scene.network.tile_px
    whole = None
    for tile_px, block_px in [(own_px, px) for px in (WHOLE_PX, *blocks_px)]:
        cut, labels = _try_cut(recalling, tile_px, block_px, whole)
        whole = labels if whole is None else whole
        yield cut
    for tile_px in tiles_px:
        yield _try_cut(scene, tile_px, WHOLE_PX, whole)[0]


def format_cuts(cuts: Sequence[Cut]) -> str:
    """Write the table in Markdown."""
    titles = (
        *("kind", "window", "block", "blocks", "cells", "cells more"),
        f"IoU >= {SAME_IOU}",
        *("cut on block grid", "same lines, one piece", "cut on window seams", "between them"),
        *("F1", "s"),
    )
    rows = [
        (
            *(cut.kind, str(cut.tile_px)),
            "one piece" if cut.block_px == WHOLE_PX else str(cut.block_px),
            *(str(cut.n_blocks), str(cut.n_cells), f"{cut.more:+.2%}", f"{cut.same:.2%}"),
            *(f"{cut.on_blocks:.2%}", f"{cut.on_blocks_whole:.2%}"),
            *(f"{cut.on_windows:.2%}", f"{cut.between_windows:.2%}"),
            *(f"{cut.f1:.4f}", f"{cut.seconds:.0f}"),
        )
        for cut in cuts
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in (titles, ["---"] * len(titles), *rows))


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.exactness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--kind",
        choices=sorted(KINDS),
        nargs="+",
        default=NETWORKS,
        help="(default: a network each)",
    )
    add("--size", type=int, nargs=2, default=SHAPE, metavar=("Y", "X"), help="in pixels")
    add("--tissue", type=float, default=TISSUE, metavar="SHARE", help="of the slide (default: 0.6)")
    add("--blocks", type=int, nargs="+", default=BLOCKS_PX, metavar="PX", help="sides of blocks")
    add("--tile", type=int, nargs="*", metavar="PX", help="other windows (default: half as wide)")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Label, compare, report; 0 if blocks changed no more than is allowed, else 1."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    machine = describe_machine()  # its load is that before the run
    cuts: list[Cut] = []
    try:
        for kind in args.kind:
            expert = KINDS[kind].expert or EXPERT_OF[KINDS[kind].modality]
            network: TileNetwork = load_segmenter(expert, "cpu")
            scene = make_scene(kind, tuple(args.size), args.tissue, network)
            half_px = network.tile_px // 2 // SIDE_MULTIPLE * SIDE_MULTIPLE
            tiles_px = [half_px] if args.tile is None else args.tile
            cuts += compare_cuts(scene, tiles_px, args.blocks)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(format_cuts(cuts))
    if args.json:
        said: dict[str, Any] = {"created": now_utc(), "commit": name_commit(), "machine": machine}
        said |= {"size": args.size, "tissue": args.tissue, "cuts": [asdict(cut) for cut in cuts]}
        args.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    are_exact = all(cut.is_exact for cut in cuts if cut.block_px != WHOLE_PX)
    return EXIT_EXACT if are_exact else EXIT_NOT


def _try_cut(
    scene: Scene, tile_px: int, block_px: int, whole: LabelArray | None
) -> tuple[Cut, LabelArray]:
    """Label a slide cut in one way, and compare with its labels in one piece, if there are any."""
    began = time.perf_counter()
    job = scene.plan(tile_px, block_px)
    labels = np.zeros(scene.labels_true.shape, np.int32)
    n_cells = segment(job, labels).n_cells
    seconds = time.perf_counter() - began
    reference = labels if whole is None else whole
    n_whole = max(1, int(reference.max()))
    blocks, windows = _list_block_lines(job), _list_seams(job)
    return Cut(
        scene.kind,
        tile_px,
        block_px,
        len(job.plan),
        n_cells,
        (n_cells - int(reference.max())) / n_whole,
        match_instances(reference, labels, SAME_IOU).tp / n_whole,
        blocks.share_cut(labels),
        blocks.share_cut(reference),
        windows.share_cut(labels),
        windows.between().share_cut(labels),
        match_instances(scene.labels_true, labels, FOUND_IOU).f1,
        seconds,
    ), labels


def _list_block_lines(job: SlideJob) -> Lines:
    """List the lines between the cores of blocks."""
    starts = ([start for start, _ in spans] for spans in (job.plan.rows, job.plan.columns))
    return _to_native(job, *starts)


def _list_seams(job: SlideJob) -> Lines:
    """List the lines between the cores of windows."""
    tile_px = job.settings.tile_px or job.network.tile_px
    halo_px = min(job.network.halo_px, tile_px // 4)  # as `tiling.maps.MapSource` has it
    lattice = build_lattice(job.plan.shape, tile_px, halo_px, job.network.side_multiple)
    return _to_native(
        job, *([span[2] for span in spans] for spans in (lattice.rows, lattice.columns))
    )


def _to_native(job: SlideJob, rows: Sequence[int], columns: Sequence[int]) -> Lines:
    """Place lines of network pixels, from the image's edge on, on native pixels."""
    geometry = job.reader.geometry
    native = (
        tuple(geometry.native_box((row, 0, row, 0))[0] for row in rows[1:]),
        tuple(geometry.native_box((0, column, 0, column))[1] for column in columns[1:]),
    )
    return Lines(*native)


def _halve(lines: Sequence[int]) -> tuple[int, ...]:
    """Give the middle between each line and the one before, or the edge."""
    return tuple((before + line) // 2 for before, line in zip((0, *lines), lines, strict=False))


if __name__ == "__main__":
    sys.exit(main())
