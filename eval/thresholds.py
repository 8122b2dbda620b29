"""Choose a Cellpose expert's thresholds: ``python -m eval.thresholds --data DIR --experts A B``.

Every validation image goes through the network once; its maps are decoded with each pair of
thresholds and scored by the organisers' rules. Test images are never looked at.
"""

import argparse
import itertools
import logging
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from eval.experts import add_choice_of_images, choose_records
from eval.leave_one_out import score_image
from imaging.reading import ImageError
from manifest import WeightsError
from models.flows import FlowThresholds, decode_flows
from models.registry import EXPERTS, load_segmenter, resolve_device
from models.segmenter import FloatArray, LabelArray, Segmenter
from tiling.maps import TileNetwork
from training.data import DataError, Record, list_records, read_labels

logger = logging.getLogger(__name__)

CELLPOSE = tuple(expert for expert in EXPERTS if expert.startswith("cellpose"))


class Replay:
    """An expert that computes the maps of ONE image once and decodes them in several ways.

    Parameters
    ----------
    network : Segmenter
        A Cellpose expert.

    Notes
    -----
    The engine asks for the same windows in the same order every time, so the answers are kept in
    that order.
    """

    def __init__(self, network: Segmenter) -> None:
        self._network = network
        self._scale: float | None = None
        self._answers: list[FloatArray] = []
        self._n_asked = 0
        self._thresholds = FlowThresholds()

    def rewind(self, thresholds: FlowThresholds) -> None:
        """Begin the image again, with other thresholds."""
        self._thresholds, self._n_asked = thresholds, 0

    def choose_scale(self, views: Sequence[FloatArray]) -> float:
        """Choose the scale the first time, and keep to it."""
        if self._scale is None:
            self._scale = self._network.choose_scale(views)
        return self._scale

    def forward(self, batch: FloatArray) -> FloatArray:
        """Give the maps of a batch, computed the first time only."""
        if self._n_asked == len(self._answers):
            self._answers.append(self._network.forward(batch))
        self._n_asked += 1
        return self._answers[self._n_asked - 1]

    def decode(self, maps: FloatArray) -> LabelArray:
        """Turn maps (3, Y, X) into labels by the thresholds of this round."""
        labels: LabelArray = decode_flows(maps, self._network.runtime.device, self._thresholds)
        return labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def score_thresholds(
    network: Segmenter, records: Sequence[Record], choices: Sequence[FlowThresholds]
) -> np.ndarray:
    """Score validation images with each pair of thresholds.

    Parameters
    ----------
    network : Segmenter
        A Cellpose expert.
    records : sequence of Record
        With label files.
    choices : sequence of FlowThresholds

    Returns
    -------
    (R, T) ndarray of float64
        F1 at IoU 0.5 of each record with each choice.

    Raises
    ------
    imaging.reading.ImageError
        If a file cannot be read.
    """
    f1 = np.zeros((len(records), len(choices)))
    for i, record in enumerate(records):
        assert record.label is not None
        labels, replay = read_labels(record.label), Replay(network)
        for j, choice in enumerate(choices):
            replay.rewind(choice)
            f1[i, j] = score_image(cast("TileNetwork", replay), record, labels)
        logger.info("%s: F1 %s", record.image.name, " ".join(f"{value:.3f}" for value in f1[i]))
    return f1


def format_table(
    f1: np.ndarray, records: Sequence[Record], choices: Sequence[FlowThresholds]
) -> str:
    """Write the mean over images and over data sets (each counts once) as a Markdown table."""
    lines = ["| cell logit | flow error | mean F1 | mean of data sets |", "|---|---|---|---|"]
    names = np.array([record.dataset for record in records])
    for column, choice in zip(f1.T, choices, strict=True):
        of_sets = np.mean([column[names == name].mean() for name in sorted(set(names))])
        pair = f"{choice.cell_logit:g} | {choice.flow_error:g}"
        lines.append(f"| {pair} | {column.mean():.4f} | {of_sets:.4f} |")
    return "\n".join(lines) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m eval.thresholds", description=__doc__)
    add_choice_of_images(parser)
    parser.add_argument("--experts", nargs="+", required=True, choices=CELLPOSE, metavar="NAME")
    parser.add_argument("--logits", nargs="+", type=float, default=[-1.0, -0.5, 0.0, 0.5])
    parser.add_argument("--errors", nargs="+", type=float, default=[0.4, 0.6, 0.8, 0.0])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table an expert; 2 when something does not fit."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parser = build_parser()
    args = parser.parse_args(argv)
    choices = [FlowThresholds(*pair) for pair in itertools.product(args.logits, args.errors)]
    try:
        records = choose_records(list_records(args.data), "validation", args.modality, args.images)
        for expert in args.experts:
            network = load_segmenter(expert, resolve_device("auto"), args.weights)
            f1 = score_thresholds(network, records, choices)
            sys.stdout.write(f"{expert}\n\n{format_table(f1, records, choices)}\n")
            sys.stdout.flush()
    except (DataError, ImageError, WeightsError, OSError) as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
