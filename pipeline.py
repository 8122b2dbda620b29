"""The way of one image: open, route, load the one expert, segment, write."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imaging.image import Pixels
from imaging.overlay import write_overlay
from imaging.reading import open_image
from imaging.writing import output_name, write_labels
from router.router import Route
from tiling.engine import TilingSettings
from tiling.expert import Segmentation, apply_expert
from tiling.maps import TileNetwork

FEW_CELLS = 10  # fewer make a wrong modality likely (the paper's section 2.3)
GENERAL_EXPERT = "cellpose_general"
MAY_ASK_GENERAL = ("cellpose_phase", "cellpose_dic")


@dataclass(frozen=True)
class Job:
    """What the images of a run share: two doors to other rooms, two folders, one setting."""

    route: Callable[[Pixels], Route]
    load: Callable[[str], TileNetwork]
    output: Path
    overlays: Path | None
    tiling: TilingSettings


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image, and the seconds of each stage in their order."""

    name: str
    shape: tuple[int, int, int]
    modality: str
    expert: str
    n_cells: int
    seconds: dict[str, float]


def process_image(path: Path, job: Job) -> ImageResult:
    """Write the label image of one image, complete or not at all (ImageError, WeightsError)."""
    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        last, before = time.perf_counter(), last
        seconds[stage] = seconds.get(stage, 0.0) + last - before

    with open_image(path) as image:
        overview = image.overview()
        lap("open")
        route = job.route(overview)
        lap("route")

        def run(expert: str) -> Segmentation:
            network = job.load(expert)
            lap("load")
            found = apply_expert(network, image, overview, job.output, job.tiling)
            lap("segment")
            return found

        expert, found = route.expert, run(route.expert)
        if expert in MAY_ASK_GENERAL and found.n_cells < FEW_CELLS:
            general = run(GENERAL_EXPERT)
            if general.n_cells >= found.n_cells:
                expert, found = GENERAL_EXPERT, general
        write_labels(job.output / output_name(path), found.labels, found.n_cells)
        if job.overlays is not None:
            write_overlay(
                (job.overlays / output_name(path)).with_suffix(".png"), image, found.labels
            )
        lap("write")
    return ImageResult(path.name, image.shape, route.modality, expert, found.n_cells, seconds)
