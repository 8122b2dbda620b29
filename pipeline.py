"""The way of one image: open, route, load the one expert, segment, write."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from imaging.image import Pixels
from imaging.overlay import write_overlay
from imaging.reading import open_image
from imaging.writing import output_name, write_labels
from router.names import second_opinion
from router.router import Route
from stopwatch import Stopwatch
from tiling.engine import SlideProgress, SlideResult, TilingSettings
from tiling.expert import Keeping, Segmentation, apply_expert
from tiling.maps import TileNetwork
from tiling.settings import GROUND_OF
from tiling.survey import survey_image


@dataclass(frozen=True)
class Job:
    """What the images of a run share: doors to other rooms, folders, settings, a watch."""

    route: Callable[[Pixels], Route]
    load: Callable[[str], TileNetwork]
    output: Path
    overlays: Path | None
    tiling: TilingSettings
    watch: Stopwatch = field(default_factory=Stopwatch)
    instead: Mapping[str, str] = field(default_factory=dict)  # expert by the one it stands in for
    level: int | None = None
    mpp: float | None = None
    identify: Callable[[str], str] = str  # an expert and what computes it, for stored blocks
    report: Callable[[SlideProgress], None] | None = None


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image, what that took, and the seconds of each stage."""

    name: str
    shape: tuple[int, int, int]
    modality: str
    expert: str
    n_cells: int
    seconds: dict[str, float]
    done: SlideResult


def process_image(path: Path, job: Job) -> ImageResult:
    """Write the label image of one image, complete or not at all (ImageError, WeightsError)."""
    before = job.watch.seconds()
    target = job.output / output_name(path)
    blocks = target.with_name(f".{target.stem}.blocks")  # survives a kill, not a success
    with open_image(path, job.level, job.mpp) as image:
        survey = survey_image(image)
        with job.watch.stage("routing"):
            route = job.route(survey.fields)
        tiling = replace(job.tiling, ground=GROUND_OF.get(route.modality, "any"))

        def run(expert: str) -> Segmentation:
            keeping = Keeping(blocks / expert, job.identify(expert))
            network = job.load(expert)
            return apply_expert(network, image, survey, job.output, tiling, keeping, job.report)

        expert = job.instead.get(route.expert, route.expert)
        found = run(expert)
        second = second_opinion(expert, found.n_cells)
        if second is not None and second not in job.instead:  # it is, where one labels all
            other = run(second)
            if other.n_cells >= found.n_cells:
                expert, found = second, other
        with job.watch.stage("writing"):
            write_labels(target, found.rows, found.n_cells)
            shutil.rmtree(blocks, ignore_errors=True)
            if job.overlays is not None:
                overlay = (job.overlays / target.name).with_suffix(".png")
                write_overlay(overlay, image, found.labels)
    counts = (found.n_cells, job.watch.since(before), found.done)
    return ImageResult(path.name, image.shape, route.modality, expert, *counts)
