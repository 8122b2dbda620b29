"""The loop of the runtime harness: systems in turn, image by image, each label image looked at."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.label_files import LabelFile
from eval.launch import Execution, Places, System, execute
from eval.runtime_file import SizedImage, TimedRun
from eval.usage import Gpu
from imaging.reading import SUFFIXES, ImageError
from imaging.writing import output_name

BAND_PX = 16_000_000  # pixels of a label image that are read at once
EXIT_FAILED = 1
SEG_SUFFIX = "_seg"  # the organisers' folder of a team's label images


class LabelError(Exception):
    """A run left no usable label image."""


@dataclass(frozen=True)
class Schedule:
    """What to run.

    Attributes
    ----------
    systems : tuple of System
        Taken in turn on each image, so that a change of the machine's pace meets all of them.
    images : tuple of SizedImage
        What to label.
    repeats : int
        Rounds over all images.
    output : Path
        Absolute folder; gets ``SYSTEM_seg`` with the label images of the last round.
    gpu : Gpu or None
        GPU to watch.
    limit_s : float or None
        Longest time of one run.
    """

    systems: tuple[System, ...]
    images: tuple[SizedImage, ...]
    repeats: int
    output: Path
    gpu: Gpu | None = None
    limit_s: float | None = None


def time_systems(schedule: Schedule) -> Iterator[TimedRun]:
    """Run every system on every image in every round.

    Parameters
    ----------
    schedule : Schedule
        What to run. Folders of the runs are made inside its output folder, since some container
        engines do not reach the system's folder of temporary files, and removed after each run.

    Yields
    ------
    TimedRun
        As soon as it is made; a failed one has its problem.

    Raises
    ------
    OSError
        If a program cannot be started or the output folder cannot be written.
    """
    for repeat in range(schedule.repeats):
        for image in schedule.images:
            for system in schedule.systems:
                yield _time_run(schedule, system, image, repeat)


def find_label(outputs: Path, image: SizedImage, any_name: bool = False) -> Path:
    """Find and check the label image that a run left.

    Parameters
    ----------
    outputs : Path
        Folder that was empty before the run.
    image : SizedImage
        What was labelled.
    any_name : bool
        Whether the name of any image file will do that begins as the image's own does (up to the
        first dot). Of several the first usable one is taken.

    Returns
    -------
    Path
        File of integer labels of the image's height and width, readable to its last row.

    Raises
    ------
    LabelError
        If there is none, or what there is cannot be used.
    """
    wanted = output_name(image.path)
    stem = image.path.name.split(".")[0]
    paths = [outputs / wanted] if (outputs / wanted).exists() else []
    if any_name and not paths:
        files = sorted(outputs.glob("*"))
        paths = [p for p in files if p.suffix.lower() in SUFFIXES and p.name.startswith(stem)]
    problem = f"no label image {f'{stem}*' if any_name else wanted}"
    for path in paths:
        try:
            _check_label(path, image)
        except (ImageError, LabelError) as error:
            problem = str(error)
        else:
            return path
    raise LabelError(problem)


def _check_label(path: Path, image: SizedImage) -> None:
    """Read a label image whole, in bands; raises ImageError or LabelError."""
    wanted = (image.height, image.width)
    with LabelFile(path) as labels:
        if labels.shape != wanted:
            raise LabelError(f"{path.name}: is {labels.shape}, the image is {wanted}")
        rows = max(1, BAND_PX // image.width)
        for y0 in range(0, image.height, rows):
            labels.read_rows(y0, min(y0 + rows, image.height))


def _time_run(schedule: Schedule, system: System, image: SizedImage, repeat: int) -> TimedRun:
    """Run one system on one image in folders of its own."""
    folder = Path(tempfile.mkdtemp(prefix=".run-", dir=schedule.output))
    try:
        places = Places(folder, folder / "inputs" / image.path.name)
        places.inputs.mkdir()
        places.outputs.mkdir()
        shutil.copyfile(image.path, places.image)
        done = execute(system, places, schedule.gpu, schedule.limit_s)
        problem = _find_problem(done)
        if not problem:
            try:
                label = find_label(places.outputs, image, system.any_label_name)
                _keep(label, schedule.output / (system.name + SEG_SUFFIX), image)
            except LabelError as error:
                problem = f"{error}{_quote(done)}"
        exit_code = done.exit_code or (EXIT_FAILED if problem else 0)
        return TimedRun(
            system.name, image, repeat, done.real_s, exit_code, done.usage, done.stages, problem
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a container's files may be another user's


def _find_problem(done: Execution) -> str:
    """Say how a run failed; empty for one that ended well."""
    if done.timed_out:
        return f"stopped after {done.real_s:.1f} s{_quote(done)}"
    return f"exit code {done.exit_code}{_quote(done)}" if done.exit_code else ""


def _quote(done: Execution) -> str:
    """Quote the end of what a program said, if it said anything."""
    return f"; it said: {done.last_lines}" if done.last_lines else ""


def _keep(label: Path, folder: Path, image: SizedImage) -> None:
    """Copy a label image to where the scores look for it; other formats keep their own name."""
    folder.mkdir(exist_ok=True)
    is_tiff = label.suffix.lower() in {".tif", ".tiff"}
    shutil.copyfile(label, folder / (output_name(image.path) if is_tiff else label.name))
