"""Label every cell in microscope images of any modality: a folder in, one label image each out."""

import argparse
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from imaging.reading import ImageError, list_images
from imaging.writing import find_name_clashes, output_name
from manifest import WEIGHTS_DIR, WeightsError
from pipeline import ImageResult, Job, process_image
from router.router import EXPERT_OF, MODALITIES, Route, load_router
from tiling.engine import DEFAULT_BATCH_SIZE, TilingSettings
from tiling.maps import SIDE_MULTIPLE, TileNetwork

logger = logging.getLogger("predict")

EXIT_FINE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
ROOMS = ("imaging", "models", "pipeline", "predict", "router", "tiling")
MIN_TILE_PX = 64
INPUT_FOLDERS = ("/workspace/inputs", "/in")  # the organisers' mount, and this project's image's
OUTPUT_FOLDERS = ("/workspace/outputs", "/out")


class UsageError(Exception):
    """The command line asks for something that cannot be; nothing has been done."""


@dataclass(frozen=True)
class Options:
    """The command line, checked as far as that is possible without looking at files."""

    input_path: Path
    output_path: Path
    device: str
    modality: str | None
    tile: int | None
    batch_size: int
    overwrite: bool
    weights: Path
    overlays: Path | None
    verbose: bool


@dataclass(frozen=True)
class Inputs:
    """The files of the input folder."""

    images: tuple[Path, ...]
    unsupported: tuple[Path, ...]


def main(
    arguments: Sequence[str] | None = None, build_job: Callable[[Options], Job] | None = None
) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; by default those the program was started with.
    build_job : callable, optional
        Opens the doors to the router and the experts; by default `build_trained_job`.

    Returns
    -------
    int
        0 if every image was labelled, 1 if any failed, 2 if nothing could be started, 130 if
        interrupted.
    """
    options = parse_options(arguments)
    with _logging(options.verbose):
        try:
            inputs = find_inputs(options.input_path)
            prepare_outputs(inputs.images, options)
            images = choose_images(inputs.images, options)
            job = (build_job or build_trained_job)(options) if images else None
        except (UsageError, ImageError) as error:
            logger.error("%s", error)
            return EXIT_USAGE
        for path in inputs.unsupported:
            logger.error("%s: not an image file; convert it to PNG, JPEG, BMP or TIFF", path.name)
        try:
            n_failed = label_images(images, job) if job else 0
        except KeyboardInterrupt:
            logger.error("interrupted; finished label images are in %s", options.output_path)
            return EXIT_INTERRUPTED
    return EXIT_FAILED if n_failed or inputs.unsupported else EXIT_FINE


def parse_options(arguments: Sequence[str] | None) -> Options:
    """Read the command line; exits with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description=__doc__,
        epilog="Exit code: 0 all images labelled, 1 some failed, 2 wrong usage.",
    )
    add = parser.add_argument
    _add_folder(parser, "i", "input", INPUT_FOLDERS, "folder of images, or one image")
    _add_folder(
        parser, "o", "output", OUTPUT_FOLDERS, "folder for NAME_label.tiff, made if need be"
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    add("--modality", choices=MODALITIES, help="of all images; skips the router")
    add("--tile", type=_tile_px, metavar="PX", help="window side (default: the expert's own)")
    add(
        "--batch-size",
        type=_positive,
        default=DEFAULT_BATCH_SIZE,
        metavar="N",
        help="windows that the network sees at once (default: %(default)s)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--overwrite", action="store_true", default=True, help="label again (the default)"
    )
    existing.add_argument(
        "--skip-existing",
        action="store_false",
        dest="overwrite",
        help="leave out images that have a label image",
    )
    add("--weights", type=Path, default=WEIGHTS_DIR, metavar="FOLDER", help="trained weights")
    add("--overlays", type=Path, metavar="FOLDER", help="also write pictures with outlines here")
    add("-v", "--verbose", action="store_true", help="say more")
    return Options(**vars(parser.parse_args(arguments)))


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


def build_trained_job(options: Options) -> Job:
    """Open the doors to the trained router and experts; each is read when an image needs it.

    Raises
    ------
    UsageError
        If the device asked for is not there.
    """
    from models.registry import DeviceError, load_segmenter, resolve_device  # noqa: PLC0415

    try:
        device = resolve_device(options.device)
    except DeviceError as error:
        raise UsageError(str(error)) from None
    router = functools.cache(lambda: load_router(options.weights))

    def route(overview: npt.NDArray[np.float32]) -> Route:
        if options.modality is None:
            return router().route(overview)
        expert = EXPERT_OF.get(options.modality)  # brightfield has two
        return Route(
            options.modality, expert or router().expert_for(options.modality, overview), {}
        )

    def load(expert: str) -> TileNetwork:
        network: TileNetwork = load_segmenter(expert, device, options.weights)
        return network

    tiling = TilingSettings(options.batch_size, options.tile)
    return Job(route, load, options.output_path, options.overlays, tiling)


def label_images(images: Sequence[Path], job: Job) -> int:
    """Label images one after another; one that fails never stops the rest.

    Returns
    -------
    int
        How many failed.
    """
    n_failed = 0
    for path in tqdm(images, unit="image", disable=not sys.stderr.isatty()):
        try:
            _log_result(process_image(path, job))
            continue
        except (ImageError, WeightsError) as error:
            logger.error("%s", error if isinstance(error, ImageError) else f"{path.name}: {error}")
        except MemoryError as error:
            logger.error("%s: %s", path.name, str(error) or "out of memory; use a smaller --tile")
        except OSError as error:
            logger.error("%s: %s; check the output folder's free space", path.name, error)
        except Exception:
            logger.exception("%s: failed for a reason that is a fault of this program", path.name)
        n_failed += 1
    return n_failed


def _log_result(result: ImageResult) -> None:
    """Write the one line of an image."""
    logger.info(
        "%s: %s, %s, %s, %d cells, %s",
        result.name,
        " x ".join(str(side) for side in result.shape),
        result.modality,
        result.expert,
        result.n_cells,
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


def _add_folder(
    parser: argparse.ArgumentParser, letter: str, word: str, usual: Sequence[str], purpose: str
) -> None:
    """Add the option of a folder; it must be given where none of the usual ones exists."""
    present = next((Path(name) for name in usual if Path(name).is_dir()), None)
    parser.add_argument(
        f"-{letter}",
        f"--{word}_path",
        f"--{word}-path",
        type=Path,
        default=present,
        required=present is None,
        metavar="PATH",
        help=f"{purpose} (default: {' or '.join(usual)}, if there)",
    )


def _tile_px(text: str) -> int:
    """Read the side of a window."""
    side = int(text)
    if side < MIN_TILE_PX or side % SIDE_MULTIPLE:
        raise argparse.ArgumentTypeError(
            f"must be a multiple of {SIDE_MULTIPLE}, at least {MIN_TILE_PX}, got {side}"
        )
    return side


def _positive(text: str) -> int:
    """Read a positive number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    # Libraries ask for a home and a user name, which an arbitrary user id in a container has not.
    os.environ.setdefault("HOME", "/")
    os.environ.setdefault("USER", "cellseg")
    raise SystemExit(main())
