"""Label every cell in microscope images of any modality: a folder in, one label image each out."""
# ruff: noqa: E402 - the clock is read before the other imports, so that they count

import time

_FIRST_LINE_S = time.perf_counter()

import functools
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from imaging.listing import ImageError, find_name_clashes, list_images, output_name
from manifest import WeightsError, read_manifest
from options import Options, UsageError, parse_options
from progress import SlideBar, with_progress_bar
from side_by_side import count_image_threads, is_small_image, label_side_by_side
from stopwatch import Stopwatch, describe_profile, seconds_since_process_start
from tiling.settings import DEFAULT_MEMORY_GIB, TilingSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline import ImageResult, Job
    from tiling.maps import TileNetwork
    from workers.pool import Pool

T = TypeVar("T")

logger = logging.getLogger("predict")

EXIT_FINE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
MAX_DECODERS = 4  # blocks decoded side by side; each takes memory
ROOMS = ("imaging", "models", "pipeline", "predict", "router", "tiling", "workers")


@dataclass(frozen=True)
class Inputs:
    """The files of the input folder."""

    images: tuple[Path, ...]
    unsupported: tuple[Path, ...]


def main(
    arguments: Sequence[str] | None = None,
    build_job: "Callable[[Options, Stopwatch], Job] | None" = None,
) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; by default those the program was started with.
    build_job : callable, optional
        Opens the doors to the router and the experts, given the options and the watch that the
        job is to carry; by default `build_trained_job`.

    Returns
    -------
    int
        0 if every image was labelled, 1 if any failed, 2 if nothing could be started, 130 if
        interrupted.
    """
    watch = _start_watch()
    options = parse_options(arguments)
    with _logging(options.verbose):
        code = _run(options, build_job or build_trained_job, watch)
    if options.profile:
        elapsed = sum(watch.seconds().values())
        sys.stderr.write(describe_profile(watch.all_seconds(), elapsed) + "\n")
    return code


def _run(
    options: Options, build_job: "Callable[[Options, Stopwatch], Job]", watch: Stopwatch
) -> int:
    """Do what the command line asks for; return the exit code."""
    try:
        inputs = find_inputs(options.input_path)
        prepare_outputs(inputs.images, options)
        images = choose_images(inputs.images, options)
        with ExitStack() as stack:
            doors = stack.enter_context(_open_doors(options, build_job, watch)) if images else None
            for path in inputs.unsupported:
                remedy = "convert it to PNG, JPEG, BMP or TIFF"
                logger.error("%s: not an image file; %s", path.name, remedy)
            n_failed = label_images(images, *doors) if doors else 0
    except (UsageError, ImageError) as error:
        logger.error("%s", error)
        return EXIT_USAGE
    except KeyboardInterrupt:
        logger.error(
            "interrupted; finished label images are in %s, large images go on where they stopped",
            options.output_path,
        )
        return EXIT_INTERRUPTED
    return EXIT_FAILED if n_failed or inputs.unsupported else EXIT_FINE


@contextmanager
def _open_doors(
    options: Options, build_job: "Callable[[Options, Stopwatch], Job]", watch: Stopwatch
) -> "Iterator[tuple[Job, Pool | None]]":
    """Build the job, whose networks are the workers' if there are any; give these too."""
    if options.workers is None and options.dask is None:
        yield build_job(options, watch), None
        return
    from workers.door import open_pool  # noqa: PLC0415 - brings NumPy and Dask
    from workers.recipe import build_recipe, without_devices  # noqa: PLC0415

    with open_pool(build_recipe(build_job, options, ROOMS)) as pool:
        yield pool.adapt(build_job(without_devices(options), watch)), pool


def find_inputs(path: Path) -> Inputs:
    """List the images of a folder, or take the one file given.

    Raises
    ------
    UsageError
        If the folder holds no image.
    ImageError
        If the folder does not exist or cannot be listed.
    """
    if path.is_file():
        return Inputs((path,), ())
    found = list_images(path)
    if not found.images:
        others = f" among its {len(found.unsupported)} files" if found.unsupported else ""
        raise UsageError(f"{path}: no images{others}; give a folder of PNG, JPEG, BMP or TIFF")
    return Inputs(found.images, found.unsupported)


def prepare_outputs(images: Sequence[Path], options: Options) -> None:
    """Make the output folders and check that every image can have its own label image.

    Raises
    ------
    UsageError
        If two images would have one label image, labels would land among the images, or a folder
        cannot be made or written.
    """
    clashes = [
        f"{first.name} and {second.name} would both be written to {output_name(second)}"
        for first, second in find_name_clashes(images)
    ]
    if clashes:
        raise UsageError(f"{'; '.join(clashes)}; rename one of each pair")
    for folder in filter(None, (options.output_path, options.overlays)):
        if folder.resolve() == options.input_path.resolve():
            raise UsageError(f"{folder}: is the input folder; give another one to write to")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(
                f"{folder}: cannot be written ({reason}); give another folder or mend its"
                " permissions"
            ) from None


def choose_images(images: Sequence[Path], options: Options) -> list[Path]:
    """Leave out images that have a label image already, if that is wanted."""
    if options.overwrite:
        return list(images)
    chosen = [path for path in images if not (options.output_path / output_name(path)).exists()]
    logger.info("%d images have a label image and are left out", len(images) - len(chosen))
    return chosen


def build_trained_job(options: Options, watch: Stopwatch) -> "Job":
    """Open the doors to the trained router and experts; each is read when an image needs it.

    Raises
    ------
    UsageError
        If the device or the runtime asked for is not there.
    """
    with watch.stage("imports"):  # not before there is an image: they bring NumPy and more
        from models import registry  # noqa: PLC0415
        from pipeline import Job  # noqa: PLC0415
        from router.names import EXPERT_OF, stand_ins  # noqa: PLC0415
        from router.router import Route, load_router  # noqa: PLC0415

        device, runtime = choose_runtime(options)
    router = load_once(lambda: load_router(options.weights))

    def route(seen: "npt.NDArray[np.float32]") -> Route:
        if options.modality is None:
            return router().route(seen)
        expert = EXPERT_OF.get(options.modality) or router().expert_for(options.modality, seen)
        return Route(options.modality, expert, {})

    @load_once
    def load(expert: str) -> "TileNetwork":
        network: TileNetwork = registry.load_segmenter(
            expert, device, options.weights, runtime, watch
        )
        return network

    return Job(
        route,
        load,
        options.output_path,
        options.overlays,
        choose_tiling(options, device),
        watch,
        stand_ins(options.experts),
        level=options.level,
        mpp=options.mpp,
        identify=functools.partial(identify_expert, options.weights, f"{runtime} {device}"),
        report=SlideBar() if sys.stderr.isatty() else None,
    )


def load_once(load: Callable[..., T]) -> Callable[..., T]:
    """Keep what a function gives; threads that ask for the same at once wait for one call."""
    kept, lock = functools.cache(load), threading.Lock()

    @functools.wraps(load)
    def give(*arguments: Any) -> T:
        with lock:
            return kept(*arguments)

    return give


def identify_expert(weights: Path, computed_by: str, expert: str) -> str:
    """Name an expert's weights by their hash, and what computes it: what its results depend on."""
    from models.registry import SPECS  # noqa: PLC0415 - not before there is an image

    entry = read_manifest(weights).get(SPECS[expert].weights, {})
    return f"{expert} {entry.get('sha256')} {computed_by}"


def choose_runtime(options: Options) -> tuple[str, str]:
    """Find the device and the library that compute the networks; limit what they take of a GPU.

    Raises
    ------
    UsageError
        If the device or the runtime asked for is not there.
    """
    from models import registry  # noqa: PLC0415 - not before there is an image

    try:
        device = registry.resolve_device(options.device)
        runtime = registry.resolve_runtime(options.runtime, device)
    except registry.DeviceError as error:
        raise UsageError(str(error)) from None
    if options.max_gpu_memory is not None and device != "cpu":
        from models.gpu_memory import limit_gpu_memory  # noqa: PLC0415 - brings PyTorch

        limit_gpu_memory(device, options.max_gpu_memory)
    return device, runtime


def choose_tiling(options: Options, device: str = "cpu") -> TilingSettings:
    """Turn the command line into the settings of the tiling, for the device that computes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = options.max_memory
    n_decoders = min(MAX_DECODERS, max(1, (cores or 1) // 2))
    return TilingSettings(
        batch_size=options.batch_size,
        tile_px=options.tile,
        skip_empty=options.skip_empty,
        diameter_px=options.diameter,
        n_ahead=n_decoders + 1,
        n_decoders=n_decoders,
        max_memory_bytes=None if limit is None else round(limit * 2**30),
        usual_memory_bytes=round(DEFAULT_MEMORY_GIB * 2**30) if device == "cpu" else None,
    )


def label_images(images: Sequence[Path], job: "Job", pool: "Pool | None" = None) -> int:
    """Label images, in this process or on a pool's workers; a failure never stops the rest.

    Returns
    -------
    int
        How many failed.
    """
    from pipeline import process_image  # noqa: PLC0415 - brings NumPy and more

    def label(path: Path) -> "ImageResult":
        return process_image(path, job)

    outcomes: Iterator[tuple[Path, Callable[[], ImageResult]]]
    if pool is None:
        is_small = functools.partial(is_small_image, level=job.level, mpp=job.mpp)
        n_threads = count_image_threads(len(images), job.tiling)
        outcomes = label_side_by_side(images, label, is_small, n_threads, job.watch)
    else:
        outcomes = pool.label_images(images, label)
    n_failed = 0
    for path, outcome in with_progress_bar(outcomes, len(images)):
        try:
            _log_result(outcome())
            continue
        except (ImageError, WeightsError, UsageError) as error:
            logger.error("%s", error if isinstance(error, ImageError) else f"{path.name}: {error}")
        except MemoryError as error:
            logger.error("%s: %s", path.name, str(error) or "out of memory; use a smaller --tile")
        except OSError as error:
            logger.error("%s: %s; check the output folder's free space", path.name, error)
        except Exception:
            logger.exception("%s: failed for a reason that is a fault of this program", path.name)
        n_failed += 1
    return n_failed


def _start_watch() -> Stopwatch:
    """Start the watch as if it had run since the process began."""
    watch = Stopwatch()
    since_first_line = time.perf_counter() - _FIRST_LINE_S
    watch.add("imports", since_first_line)
    watch.add("start", max(0.0, seconds_since_process_start() - since_first_line))
    return watch


def _log_result(result: "ImageResult") -> None:
    """Write the one line of an image."""
    n_windows, n_empty = result.done.n_windows, result.done.n_empty
    logger.info(
        "%s: %s, %s, %s, %d cells%s, %s",
        result.name,
        " x ".join(str(side) for side in result.shape),
        result.modality,
        result.expert,
        result.n_cells,
        f", {n_empty / n_windows:.0%} of the windows empty" if n_empty else "",
        " ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items()),
    )


@contextmanager
def _logging(verbose: bool) -> Iterator[None]:
    """Send this project's messages, and the warnings of others, to stderr."""
    root = logging.getLogger()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root.addHandler(handler)
    logging.captureWarnings(True)
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        with _beside_progress_bar():
            yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)


def _beside_progress_bar() -> AbstractContextManager[None]:
    """Keep messages and the progress bar from breaking each other's lines."""
    if not sys.stderr.isatty():
        return nullcontext()
    from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415 - brings asyncio

    redirection: AbstractContextManager[None] = logging_redirect_tqdm()
    return redirection


def _leave(code: int) -> NoReturn:
    """End the process at once: taking OpenVINO's graphs down first would be 0.1 s for nothing.

    Where other threads are left, as after an interruption, they are waited for as usual.
    """
    if threading.active_count() > 1:
        raise SystemExit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever listened has gone
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    # Libraries ask for a home and a user name, which an arbitrary user id in a container has not.
    os.environ.setdefault("HOME", "/")
    os.environ.setdefault("USER", "cellseg")
    _leave(main())
