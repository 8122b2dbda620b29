"""What runs on a worker: one call a task, one task at a time."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from imaging.reading import ImageError, measure_image, open_image
from pipeline import ImageResult, process_image
from stopwatch import Stopwatch
from tiling.block_job import SlideJob, run_blocks
from tiling.block_store import encode_result
from tiling.expert import FEW_BLOCKS
from tiling.sampling import ScaledImage
from tiling.settings import TilingSettings
from workers.recipe import Expert, Recipe, Slide, read_stamp

if TYPE_CHECKING:
    from pipeline import Job
    from tiling.maps import TileNetwork

T = TypeVar("T")

PIXELS_A_BYTE = 16
"""No picture of cells is compressed further: a file so small need not be opened to see its size."""

_alone = threading.Lock()  # a network computes one thing at a time, however many threads there are


class WorkerMismatchError(Exception):
    """A worker computes otherwise than those that began a slide, or sees another file."""


@dataclass(frozen=True)
class Note:
    """A log message on its way back."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a task gives, and what it had to say meanwhile."""

    value: T
    notes: tuple[Note, ...]


def label_image(recipe: Recipe, path: Path) -> Answer[ImageResult | None]:
    """Label one image, unless it is so large that its blocks should be spread.

    Parameters
    ----------
    recipe : Recipe
    path : Path

    Returns
    -------
    Answer of ImageResult or None
        None if the image is large; nothing was done then.

    Raises
    ------
    ImageError, WeightsError, MemoryError, OSError
        As `pipeline.process_image` does.
    """
    with _work(recipe) as (job, notes):
        job = replace(job, report=None)  # bars of several processes would overwrite each other
        done = None if _is_large(path, job) else process_image(path, job)
        return Answer(done, tuple(notes))


def describe_expert(recipe: Recipe, name: str) -> Answer[Expert]:
    """Load an expert and tell what tiling needs to know of it.

    Raises
    ------
    WeightsError
        If its weights are missing or damaged.
    """
    with _work(recipe) as (job, notes):
        expert = Expert.describe(name, job.identify(name), job.load(name))
        return Answer(expert, tuple(notes))


def ask_expert(recipe: Recipe, expert: Expert, method: str, *arguments: Any) -> Answer[Any]:
    """Call a method of an expert's network (`tiling.maps.TileNetwork`).

    Raises
    ------
    WorkerMismatchError
        If this worker computes otherwise than the one that described the expert.
    """
    with _work(recipe) as (job, notes):
        answer = getattr(_load(job, expert), method)(*arguments)
        return Answer(answer, tuple(notes))


def run_chunk(
    recipe: Recipe, slide: Slide, indices: tuple[int, ...]
) -> Answer[list[tuple[int, bytes]]]:
    """Run some blocks of a slide.

    Parameters
    ----------
    recipe : Recipe
    slide : Slide
    indices : tuple of int
        Numbers of the blocks, ascending.

    Returns
    -------
    Answer of list of (int, bytes)
        Numbers and results, as `tiling.block_store.encode_result` writes them.

    Raises
    ------
    WorkerMismatchError
        If this worker computes otherwise than others, or sees another file.
    ImageError, MemoryError
        As `tiling.block_job.run_blocks` does.
    """
    with _work(recipe) as (job, notes):
        network = _load(job, slide.expert)
        if read_stamp(slide.path) != slide.stamp:
            raise WorkerMismatchError("a worker sees another version of the file")
        with open_image(slide.path, job.level, job.mpp) as image:
            reader = ScaledImage(image, slide.normaliser, slide.geometry)
            if image.shape[:2] != slide.geometry.native:
                raise WorkerMismatchError("a worker sees an image of another size")
            settings = fit_cores(slide.settings, job.tiling)
            blocks = SlideJob(reader, network, slide.plan, settings, slide.ground)
            results = [(index, encode_result(done)) for index, done in run_blocks(blocks, indices)]
        return Answer(results, tuple(notes))


def check_worker(recipe: Recipe) -> str:
    """Build the job without keeping it; say why that is impossible, or nothing."""
    try:
        recipe.build_job(Stopwatch())
    except Exception as error:  # noqa: BLE001 - whatever it is, one line tells it to the user
        return str(error) or type(error).__name__
    return ""


def fit_cores(settings: TilingSettings, own: TilingSettings) -> TilingSettings:
    """Do no more side by side than this worker's cores and the wanted memory allow."""
    return replace(
        settings,
        n_ahead=min(settings.n_ahead, own.n_ahead),
        n_decoders=min(settings.n_decoders, own.n_decoders),
    )


def _is_large(path: Path, job: "Job") -> bool:
    """Tell whether an image has so many blocks that several workers should share them."""
    limit_px = FEW_BLOCKS * job.tiling.block_px**2
    if path.is_file() and path.stat().st_size * PIXELS_A_BYTE < limit_px:
        return False
    try:
        height, width = measure_image(path, job.level, job.mpp)
    except (ImageError, OSError):
        return False  # that it cannot be read is told when it is labelled
    return height * width > limit_px


def _load(job: "Job", expert: Expert) -> "TileNetwork":
    """Load an expert; it must be the very one that a slide was begun with."""
    identity = job.identify(expert.name)
    if identity != expert.identity:
        raise WorkerMismatchError(
            f"one worker computes with '{identity}', another with '{expert.identity}'"
        )
    return job.load(expert.name)


@contextmanager
def _work(recipe: Recipe) -> Iterator[tuple["Job", list[Note]]]:
    """Be the only task of this process; give the job, and the list that log messages go to."""
    with _alone, _collect_notes(recipe) as notes:
        yield recipe.get_job(), notes


@contextmanager
def _collect_notes(recipe: Recipe) -> Iterator[list[Note]]:
    """Collect the messages of this project's loggers."""
    notes: list[Note] = []
    collector = _Collector(notes, frozenset(recipe.rooms))
    root = logging.getLogger()
    for room in recipe.rooms:
        level = logging.DEBUG if recipe.options.verbose else logging.INFO
        logging.getLogger(room).setLevel(level)
    root.addHandler(collector)
    try:
        yield notes
    finally:
        root.removeHandler(collector)


class _Collector(logging.Handler):
    """Keeps the messages of some rooms."""

    def __init__(self, notes: list[Note], rooms: frozenset[str]) -> None:
        super().__init__()
        self._notes, self._rooms = notes, rooms

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        if record.name.partition(".")[0] in self._rooms:
            self._notes.append(Note(record.name, record.levelno, record.getMessage()))
