"""Time a system as the challenge's organisers do: one fresh start an image, wall clock around it.

Without --image that is this project's predict.py in a fresh process; with --image a fresh container
by the organisers' own command line. Peak host memory is the sum of the resident sets of the whole
process tree; GPU memory is that of the whole GPU above its level at the start; both every 0.1 s.
"""

import argparse
import logging
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arguments import read_count
from eval.containers import has_container, has_image
from eval.launch import System, container_system, local_system, peer_system
from eval.runtime_file import SizedImage, TimedRun, read_machine, write_csv, write_json
from eval.runtime_table import compare, format_ratios, format_system
from eval.timing import Schedule, time_systems
from eval.usage import find_visible_gpu, has_nvidia_gpu, open_gpu
from imaging.reading import ImageError, list_images, open_image
from imaging.writing import find_name_clashes

logger = logging.getLogger(__name__)

EXIT_FINE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
LOCAL_NAME = "cellseg"
NO_GPU = "none"
ENGINES = ("docker", "podman")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # what engines take as a container's name
EPILOG = """\
stock Cellpose 3 on the same RGB images in turn, with the weights of an expert (three channels, so
--all_channels) in MODEL; it needs --dir and takes no BMP files:
  python -m eval.runtime -i IMAGES --against-name cellpose --against 'python -m cellpose
      --dir {input} --pretrained_model MODEL --all_channels --save_tif --no_npy --savedir {output}'

exit code: 0 every run left its label image, 1 some did not, 2 wrong usage, 130 interrupted
"""


class UsageError(Exception):
    """The command line asks for something that cannot be; nothing has been run."""


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.runtime",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-i", "--images", type=Path, required=True, metavar="FOLDER", help="images to label")
    add(
        "-o",
        "--output",
        type=Path,
        default=Path("build/runtime"),
        metavar="FOLDER",
        help="for NAME_running_time.csv and the label images, NAME_seg (default: %(default)s)",
    )
    add("--json", type=Path, metavar="FILE", help="every run with its figures, for the report")
    add("--repeats", type=read_count, default=1, metavar="N", help="rounds (default: 1)")
    add("--limit", type=read_count, metavar="S", help="stop a run after so many seconds, it failed")
    add_system_arguments(parser)
    return parser


def add_system_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to run."""
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--image", metavar="NAME:latest", help="container image to run")
    mode.add_argument("--local", action="store_true", help="predict.py, no container (default)")
    add = parser.add_argument
    add(
        "--docker",
        metavar="ENGINE",
        help=f"what speaks Docker's command line (default: {' or '.join(ENGINES)}, if on PATH)",
    )
    add(
        "--gpu",
        metavar="INDEX",
        help=f"the one GPU to use and watch, or '{NO_GPU}' (default: the first visible, if any;"
        " without one containers are started without --gpus)",
    )
    add("--name", help="name of the system (default: the image's name, or cellseg)")
    add("--options", default="", help="more options of predict.py: --options='--device cpu'")
    add(
        "--against",
        metavar="COMMAND",
        help="another system, run in turn: {input} is a folder with one image, {image} that"
        " image, {output} the folder for its label image, any name that begins as the image's",
    )
    add("--against-name", default="against", metavar="NAME", help="(default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; by default those the program was started with.

    Returns
    -------
    int
        0 if every run left its label image, 1 if one did not, 2 if nothing could be run, 130 if
        interrupted; what was measured until then is written.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        schedule, n_unreadable = make_schedule(args)
    except (UsageError, ImageError) as error:
        logger.error("%s", error)
        return EXIT_USAGE
    runs: list[TimedRun] = []
    interrupted = broken = False
    try:
        with _interrupted_once():
            for run in time_systems(schedule):
                runs.append(run)
                _log_run(run)
    except KeyboardInterrupt:
        interrupted = True
    except OSError as error:
        broken = True
        logger.error("%s; no more runs", error)
    try:
        report(schedule, runs, args.json)
    except OSError as error:
        broken = True
        logger.error("%s: cannot be written (%s)", error.filename, error.strerror)
    if interrupted:
        logger.error("interrupted after %d runs", len(runs))
        return EXIT_INTERRUPTED
    failed = broken or n_unreadable or any(run.problem for run in runs)
    return EXIT_FAILED if failed else EXIT_FINE


def make_schedule(args: argparse.Namespace) -> tuple[Schedule, int]:
    """Check the command line against files, engine and GPU.

    Parameters
    ----------
    args : Namespace
        From :func:`build_parser`.

    Returns
    -------
    Schedule
        What to run.
    int
        Number of images that could not be read; each has its line in the log.

    Raises
    ------
    UsageError
        If something asked for is not there.
    ImageError
        If there is no folder of images.
    """
    images, n_unreadable = _read_sizes(args.images)
    device = _choose_gpu(args.gpu)
    gpu = open_gpu(device)
    if args.gpu not in (None, NO_GPU) and gpu is None:
        logger.warning("GPU %s: NVML does not see it, its memory is not measured", args.gpu)
    try:
        systems = _make_systems(args, device, has_nvidia_gpu(gpu))
    except ValueError as error:
        raise UsageError(str(error)) from error
    output = args.output.resolve()
    try:
        output.mkdir(parents=True, exist_ok=True)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be made ({error.strerror})") from None
    return Schedule(systems, images, args.repeats, output, gpu, args.limit), n_unreadable


def report(schedule: Schedule, runs: Sequence[TimedRun], json_file: Path | None) -> None:
    """Write the organisers' CSV of each system and the JSON file, print the tables.

    Parameters
    ----------
    schedule : Schedule
        What was to be run.
    runs : sequence of TimedRun
        What was; without any nothing is written.
    json_file : Path or None
        Where the JSON goes.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    if not runs:
        return
    names = [system.name for system in schedule.systems]
    for name in names:
        path = write_csv(schedule.output, name, runs)
        sys.stdout.write(f"{format_system(runs, name)}{path}\n\n")
    if len(names) > 1:
        sys.stdout.write(format_ratios(compare(runs, *names), *names))
    if json_file:
        machine = read_machine(schedule.gpu.name if schedule.gpu else "")
        commands = [(system.name, shlex.join(system.template)) for system in schedule.systems]
        write_json(json_file, machine, commands, runs)


def _read_sizes(path: Path) -> tuple[tuple[SizedImage, ...], int]:
    """Read the sizes of the images of a folder; count those that cannot be read."""
    paths = (path,) if path.is_file() else list_images(path).images
    if not paths:
        raise UsageError(f"{path}: no images; give a folder of PNG, JPEG, BMP or TIFF files")
    clashes = [f"{one.name} and {other.name}" for one, other in find_name_clashes(paths)]
    if clashes:
        raise UsageError(f"one label image for {'; '.join(clashes)}: rename one of each pair")
    images, n_unreadable = [], 0
    for file in paths:
        try:
            with open_image(file) as image:
                images.append(SizedImage(file, *image.shape[:2]))
        except ImageError as error:
            logger.error("%s", error)
            n_unreadable += 1
    if not images:
        raise UsageError(f"{path}: none of its {n_unreadable} images can be read")
    return tuple(images), n_unreadable


def _choose_gpu(asked: str | None) -> str | None:
    """Choose the one GPU: as asked, else the first that CUDA may see; None for no GPU."""
    if asked is not None:
        return None if asked == NO_GPU else asked
    return find_visible_gpu()


def _make_systems(
    args: argparse.Namespace, device: str | None, has_gpu: bool
) -> tuple[System, ...]:
    """Describe the system and the one it is compared with; UsageError or ValueError."""
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": device or ""}
    if args.image:
        systems = [_make_container(args, device if has_gpu or args.gpu else None)]
    elif args.docker:
        raise UsageError("--docker needs --image, the image to run")
    else:
        systems = [local_system(args.name or LOCAL_NAME, args.options, environment)]
    if args.against is not None:
        peer = peer_system(args.against_name, args.against, environment)
        if shutil.which(peer.template[0]) is None:
            raise UsageError(f"--against: no program {peer.template[0]}; give its path")
        systems.append(peer)
    names = [system.name for system in systems]
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            raise UsageError(f"{name!r}: no name, or taken; give --name or --against-name")
    return tuple(systems)


def _make_container(args: argparse.Namespace, device: str | None) -> System:
    """Describe the container, after a look at the engine."""
    engine = args.docker or next(filter(shutil.which, ENGINES), ENGINES[0])
    if shutil.which(engine) is None:
        raise UsageError(
            f"no {engine} on PATH; install it, name another one with --docker, or"
            " leave --image out to time predict.py without a container"
        )
    if not has_image(engine, args.image):
        raise UsageError(
            f"{engine} has no image {args.image}; build it, or load it:"
            f" {engine} load -i FILE.tar.gz"
        )
    name = args.name or args.image.rpartition("/")[2].partition(":")[0]
    if has_container(engine, name):
        raise UsageError(f"there is a container {name} already; remove it, or give --name")
    if device is None:
        logger.warning("no NVIDIA GPU here, or none wanted: the container runs without --gpus")
    return container_system(name, args.image, engine, device, args.options)


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt, so that clearing up is not cut."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log_run(run: TimedRun) -> None:
    """Write the one line of a run."""
    name = run.image.path.name
    if run.problem:
        logger.error("%s: %s: %s", name, run.system, run.problem)
    else:
        logger.info("%s: %s %.2f s, rank %.2f s", name, run.system, run.real_s, run.rank_s)


if __name__ == "__main__":
    sys.exit(main())
