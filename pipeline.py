"""The way of one image: open, route, load the one expert, segment, write."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imaging.image import Pixels
from imaging.overlay import write_overlay
from imaging.reading import open_image
from imaging.writing import output_name, write_labels
from router.router import Route
from stopwatch import Stopwatch
from tiling.engine import TilingSettings
from tiling.expert import Segmentation, apply_expert
from tiling.maps import TileNetwork

FEW_CELLS = 10  # fewer make a wrong modality likely (the paper's section 2.3)
GENERAL_EXPERT = "cellpose_general"
MAY_ASK_GENERAL = ("cellpose_phase", "cellpose_dic")


@dataclass(frozen=True)
class Job:
    """What the images of a run share: two doors to other rooms, two folders, settings, a watch."""

    route: Callable[[Pixels], Route]
    load: Callable[[str], TileNetwork]
    output: Path
    overlays: Path | None
    tiling: TilingSettings
    watch: Stopwatch = field(default_factory=Stopwatch)


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image, and the seconds of each stage that it went through."""

    name: str
    shape: tuple[int, int, int]
    modality: str
    expert: str
    n_cells: int
    seconds: dict[str, float]


def process_image(path: Path, job: Job) -> ImageResult:
    """Write the label image of one image, complete or not at all (ImageError, WeightsError)."""
    before = job.watch.seconds()
    with open_image(path) as image:
        overview = image.overview()
        with job.watch.stage("routing"):
            route = job.route(overview)

        def run(expert: str) -> Segmentation:
            return apply_expert(job.load(expert), image, overview, job.output, job.tiling)

        expert, found = route.expert, run(route.expert)
        if expert in MAY_ASK_GENERAL and found.n_cells < FEW_CELLS:
            general = run(GENERAL_EXPERT)
            if general.n_cells >= found.n_cells:
                expert, found = GENERAL_EXPERT, general
        with job.watch.stage("writing"):
            write_labels(job.output / output_name(path), found.labels, found.n_cells)
            if job.overlays is not None:
                write_overlay(
                    (job.overlays / output_name(path)).with_suffix(".png"), image, found.labels
                )
    after = job.watch.seconds()
    seconds = {stage: s - before[stage] for stage, s in after.items() if s > before[stage]}
    return ImageResult(path.name, image.shape, route.modality, expert, found.n_cells, seconds)
