"""Decoders against their references on real images: ``python -m bench.real_maps --data DIR``.

Every labelled validation image goes through the expert that serves it, at the size of the cells
that it estimates; its maps are decoded by this project and by the slow reference
(`bench.decoding`). How far the two agree, image by image, is a matter of these maps alone: true
labels take no part.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arguments import read_count
from bench.decoding import CONTESTS, IOU_MIN, FloatArray
from eval.experts import choose_records
from eval.leave_one_out import EXPERT_FOR
from eval.matching import MatchCounts, match_instances
from imaging.normalise import fit_normaliser
from imaging.reading import ImageError
from manifest import WEIGHTS_DIR, WeightsError
from models.registry import load_segmenter
from models.segmenter import Segmenter
from models.size_view import resize_view
from router.names import MODALITIES
from training.data import DataError, Record, list_records, read_image

logger = logging.getLogger(__name__)

WINDOW_PX = 1024  # largest side of what is decoded of an image, in network pixels
EXPERTS = {
    "cellpose": EXPERT_FOR,
    "cellpose_unchecked": EXPERT_FOR,
    "cdnet": {"fluorescence": "cdnet_fluorescence"},
    "unet": {"brightfield": "unet_brightfield"},
}  # which one's maps a contest is held on, by modality


@dataclass(frozen=True)
class Agreement:
    """How one decoder agrees with its reference.

    Attributes
    ----------
    contest : str
        Of :data:`bench.decoding.CONTESTS`.
    n_images : int
    counts : MatchCounts
        At :data:`bench.decoding.IOU_MIN`, the reference's instances being the true ones.
    """

    contest: str
    n_images: int = 0
    counts: MatchCounts = MatchCounts()

    @property
    def n_ours(self) -> int:
        """Instances that the decoder found."""
        return self.counts.n_pred

    @property
    def n_reference(self) -> int:
        """Instances that its reference found."""
        return self.counts.n_true

    @property
    def f1(self) -> float:
        """F1 of all instances, 1 without any."""
        return self.counts.f1 if self.n_ours or self.n_reference else 1.0

    @property
    def count_error(self) -> float:
        """How far the number of instances is off, as a share of the reference's."""
        return abs(self.n_ours - self.n_reference) / max(self.n_reference, 1)

    def add(self, maps: FloatArray) -> "Agreement":
        """Decode the maps (K, Y, X) of one more image by both."""
        contest = CONTESTS[self.contest]
        counts = match_instances(contest.reference(maps), contest.ours(maps), IOU_MIN)
        return Agreement(self.contest, self.n_images + 1, self.counts + counts)


def compute_maps(network: Segmenter, record: Record) -> FloatArray:
    """Compute the maps of an image, or of its middle if it is large.

    Parameters
    ----------
    network : Segmenter
    record : Record

    Returns
    -------
    (K, Y, X) ndarray of float32
        Sides of at most :data:`WINDOW_PX`.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    pixels = read_image(record)
    view = fit_normaliser(pixels, network.normalisation).apply(pixels)
    scale = network.choose_scale([view])
    maps: FloatArray = network.forward(resize_view(view, scale, WINDOW_PX)[None])[0]
    return maps


def compare_decoders(
    records: Sequence[Record], contests: Sequence[str], weights_dir: Path
) -> Iterator[Agreement]:
    """Hold contests on the maps of images, each contest on those of the modalities it is for.

    Parameters
    ----------
    records : sequence of Record
    contests : sequence of str
        Of :data:`bench.decoding.CONTESTS`.
    weights_dir : Path

    Yields
    ------
    Agreement
        One a contest.

    Raises
    ------
    ImageError, WeightsError
        If a file cannot be read.
    """
    for name in contests:
        agreement = Agreement(name)
        for record in records:
            expert = EXPERTS[name].get(record.modality)
            if expert is None:
                continue
            maps = compute_maps(load_segmenter(expert, "cpu", weights_dir), record)
            agreement = agreement.add(maps)
            logger.info("%s, %s: F1 so far %.4f", name, record.image.name, agreement.f1)
        yield agreement


def format_table(agreements: Sequence[Agreement]) -> str:
    """Write agreements as a Markdown table."""
    lines = [
        f"| decoder | images | instances | reference | F1 at IoU {IOU_MIN} | count off by |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {a.contest} | {a.n_images} | {a.n_ours} | {a.n_reference} | {a.f1:.4f}"
        f" | {a.count_error:.2%} |"
        for a in agreements
    ]
    return "\n".join(lines) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.real_maps", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=read_count, default=3, metavar="N", help="a data set")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_DIR, metavar="DIR")
    parser.add_argument("--only", choices=CONTESTS, action="append", help="leave out the others")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print the table; 1 when a file cannot be read."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        records = choose_records(list_records(args.data), "validation", MODALITIES, args.images)
        agreements = list(compare_decoders(records, args.only or list(CONTESTS), args.weights))
    except (DataError, ImageError, WeightsError, OSError) as error:
        logger.error("%s", error)
        return 1
    sys.stdout.write(format_table(agreements))
    return 0


if __name__ == "__main__":
    sys.exit(main())
