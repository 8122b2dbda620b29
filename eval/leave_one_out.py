"""Train without one source and test on it: ``python -m eval.leave_one_out --data DIR -o OUT``.

For each ``--source`` the expert shipped for its modality is trained without that data set, and so
is what it starts from; then it segments the data set's labelled images, sizes estimated and, for
the Cellpose experts, also given. With ``--together`` nothing learns from any of the sources, so
that a common start is trained once for all of them. What is finished is not done again, so a
stopped call goes on. Options behind ``--`` are handed to ``train.py``, such as
``-- --steps 300 --augment wide``.
"""

import argparse
import itertools
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arguments import read_count
from eval.official import score_labels
from imaging.reading import ImageError, open_image
from manifest import WeightsError
from models.registry import EXPERTS as SHIPPED
from models.registry import load_segmenter, resolve_device
from models.size_view import median_diameter
from router.names import EXPERT_OF, EXPERT_TABLES
from tiling.expert import apply_expert
from tiling.maps import TileNetwork
from tiling.settings import TilingSettings
from tiling.survey import survey_image
from training.data import DataError, Record, list_records, read_labels
from training.recipes import RECIPES

logger = logging.getLogger(__name__)

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
STOPPED = 3  # exit code of train.py when it can be gone on with
NET_DIAMETER_PX = 30.0  # median cell that the Cellpose experts see
EXPERT_FOR = {  # the shipped one
    modality: EXPERT_TABLES["best"].get(expert, expert)
    for modality, expert in (EXPERT_OF | {"brightfield": "cellpose_brightfield"}).items()
}


class StoppedError(Exception):
    """A training was stopped; the same command goes on."""


@dataclass(frozen=True)
class ImageResult:
    """F1 of one image of a left-out source.

    Attributes
    ----------
    name : str
    f1 : float
        As a user would get it, with the expert known.
    f1_true_size : float or None
        With the median diameter of the true cells given; None where the network needs none.
    """

    name: str
    f1: float
    f1_true_size: float | None


@dataclass(frozen=True)
class SourceResult:
    """One row of the table.

    Attributes
    ----------
    source, modality, expert : str
    train_options : tuple of str
        Handed to ``train.py``.
    images : tuple of ImageResult
    """

    source: str
    modality: str
    expert: str
    train_options: tuple[str, ...]
    images: tuple[ImageResult, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The images it was tested on."""
        return tuple(image.name for image in self.images)


class GivenScale:
    """An expert that is told the scale instead of estimating it.

    Parameters
    ----------
    network : TileNetwork
    scale : float
        Network pixels a native pixel.
    """

    def __init__(self, network: TileNetwork, scale: float) -> None:
        self._network, self._scale = network, scale

    def choose_scale(self, views: object) -> float:
        """Give the scale that was told."""
        del views
        return self._scale

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def score_source(
    network: TileNetwork, records: Sequence[Record], with_size: bool
) -> tuple[ImageResult, ...]:
    """Segment labelled images and score them by the challenge's rules.

    Parameters
    ----------
    network : TileNetwork
        The expert.
    records : sequence of Record
        With label files.
    with_size : bool
        Whether to segment once more at the true cell size.

    Returns
    -------
    tuple of ImageResult
        In the order of the records.

    Raises
    ------
    imaging.reading.ImageError
        If a file cannot be read.
    """
    results = []
    for record in records:
        assert record.label is not None
        labels = read_labels(record.label)
        diameter = median_diameter(labels)
        f1_true_size = None
        if with_size and np.isfinite(diameter):
            told: Any = GivenScale(network, NET_DIAMETER_PX / diameter)
            f1_true_size = score_image(told, record, labels)
        results.append(
            ImageResult(record.image.name, score_image(network, record, labels), f1_true_size)
        )
        logger.info("%s: F1 %.3f", record.image.name, results[-1].f1)
    return tuple(results)


def score_image(network: TileNetwork, record: Record, labels: np.ndarray) -> float:
    """Segment one image and compare."""
    with tempfile.TemporaryDirectory() as folder, open_image(record.image) as image:
        found = apply_expert(network, image, survey_image(image), Path(folder), TilingSettings())
        return score_labels(labels, np.array(found.labels)).counts().f1


def run_source(
    source: str, left_out: Sequence[str], records: Sequence[Record], args: argparse.Namespace
) -> SourceResult:
    """Train without a source and test on it, or read what an earlier call found.

    Parameters
    ----------
    source : str
        Name of the data set.
    left_out : sequence of str
        Data sets that nothing learns from, the source among them.
    records : sequence of Record
        Its labelled images to test on.
    args : Namespace
        From :func:`build_parser`.

    Returns
    -------
    SourceResult

    Raises
    ------
    DataError
        If no expert is for its modality, or a training failed (it has said why).
    StoppedError
        If a training was stopped.
    """
    modality = records[0].modality
    expert = args.expert or EXPERT_FOR.get(modality)
    if expert is None:
        raise DataError(f"{source}: no expert is for {modality or 'an unknown modality'}")
    folder, options = args.out / "+".join(left_out), tuple(args.train_options)
    path = folder / (f"{expert}.json" if len(left_out) == 1 else f"{expert}-{source}.json")
    known = read_result(path)
    names = tuple(record.image.name for record in records)
    if known is not None and known.train_options == options and known.names == names:
        logger.info("%s: done already", source)
        return known
    for name in list_chain(expert, options):
        train_without(name, left_out, folder, args)
    device = read_option(options, "--device", resolve_device("auto"))
    network = load_segmenter(expert, device, folder / "weights")
    load_segmenter.cache_clear()  # the next source has other weights in another folder
    with_size = RECIPES[expert].network == "cpnet"
    images = score_source(network, records, with_size)
    result = SourceResult(source, modality, expert, options, images)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return result


def list_chain(expert: str, options: Sequence[str]) -> list[str]:
    """List the runs an expert needs, itself last; only itself if a file starts it."""
    chain = [expert]
    while "--init" not in options and RECIPES[chain[0]].starts_from:
        chain.insert(0, RECIPES[chain[0]].starts_from)
    return chain


def train_without(
    name: str, left_out: Sequence[str], folder: Path, args: argparse.Namespace
) -> None:
    """Run ``train.py`` without some sources; DataError or StoppedError if it does not finish."""
    command = [
        sys.executable, str(TRAIN), name, "--data", str(args.data), "--runs", str(folder / "runs"),
        "--weights", str(folder / "weights"), "--leave-out", *left_out, *args.train_options,
    ]  # fmt: skip
    code = subprocess.run(command, check=False).returncode
    what = f"{name} without {', '.join(left_out)}"
    if code == STOPPED:
        raise StoppedError(f"{what}: stopped; run the same command again")
    if code:
        raise DataError(f"{what}: train.py ended with exit code {code}")


def read_option(options: Sequence[str], name: str, default: str) -> str:
    """Read the value of an option, written ``--name VALUE`` or ``--name=VALUE``."""
    for option, following in itertools.zip_longest(options, options[1:], fillvalue=default):
        if option == name:
            return following
        if option.startswith(f"{name}="):
            return option.partition("=")[2]
    return default


def read_result(path: Path) -> SourceResult | None:
    """Read the result of an earlier call; None if there is none that can be read."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        images = tuple(ImageResult(**image) for image in plain.pop("images"))
        options = tuple(plain.pop("train_options"))
        return SourceResult(**plain, train_options=options, images=images)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def choose_images(records: Sequence[Record], n_images: int) -> list[Record]:
    """Choose up to ``n_images`` records, evenly over their names."""
    ordered = sorted(records, key=lambda record: str(record.image))
    if len(ordered) <= n_images:
        return ordered
    places = np.linspace(0, len(ordered) - 1, n_images).round().astype(int)
    return [ordered[i] for i in places]


def format_table(results: Sequence[SourceResult]) -> str:
    """Write the results as a Markdown table; means and medians are over images."""
    lines = [
        "| source left out | modality | expert | images | mean F1 | median F1 | at true size |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        f1 = [image.f1 for image in result.images]
        told = [image.f1_true_size for image in result.images if image.f1_true_size is not None]
        true_size = f"{np.mean(told):.3f}" if told else ""
        lines.append(
            f"| {result.source} | {result.modality} | {result.expert} | {len(f1)} "
            f"| {np.mean(f1):.3f} | {np.median(f1):.3f} | {true_size} |"
        )
    return "\n".join(lines) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m eval.leave_one_out", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--source", nargs="+", required=True, metavar="DATASET", help="data sets left out in turn"
    )
    parser.add_argument(
        "--together", action="store_true", help="leave all sources out of every training"
    )
    parser.add_argument(
        "--expert",
        choices=SHIPPED,
        help="instead of the modality's own",
    )
    parser.add_argument(
        "--images", type=read_count, default=20, metavar="N", help="images of a source tested on"
    )
    parser.add_argument("train_options", nargs="*", metavar="-- OPTION", help="for train.py")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train, test, print the table; 2 when something does not fit, 3 when stopped."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        labelled = [record for record in list_records(args.data) if record.label]
        results = []
        for source in args.source:
            own = [record for record in labelled if record.dataset == source]
            if not own:
                raise DataError(f"{args.data}: no labelled images of {source}")
            left_out = tuple(args.source) if args.together else (source,)
            results.append(run_source(source, left_out, choose_images(own, args.images), args))
    except StoppedError as error:
        logger.warning("%s", error)
        return STOPPED
    except (DataError, ImageError, WeightsError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    sys.stdout.write(format_table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
