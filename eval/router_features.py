"""What the router's features and clusters are worth: ``python -m eval.router_features --data DIR``.

Every choice is fitted without labels, as the router is, and asked about images it was not fitted
on: the validation images (their sources are known) and, one data set after the other left out of
the fit, images of sources it has never seen. Phase contrast and DIC count as one: either's expert
asks the general one. Test images are not used.
"""

import argparse
import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.reading import ImageError
from router.names import MODALITIES
from training.data import DataError, Record, list_records, split_validation
from training.router import FitSettings, Sample, fit_modalities, measure_samples

logger = logging.getLogger(__name__)

Features = NDArray[np.float64]
IS_MEAN = np.arange(6) < 3

FEATURES: Mapping[str, Callable[[Sample], Features]] = {
    "HSV": lambda sample: sample.hsv,
    "HSV, means": lambda sample: np.where(IS_MEAN, sample.hsv, 0.0),
    "HSV, variances": lambda sample: np.where(IS_MEAN, 0.0, sample.hsv),
    "V": lambda sample: np.where(np.arange(6) % 3 == 2, sample.hsv, 0.0),
    "RGB": lambda sample: sample.rgb,
}
"""What K-Means sees, by name; a feature that is left out is constant."""

DEFAULT_CLUSTERS = (4, 8, 16, 32, 64)
ONE_NAME = {"dic": "phase"}


@dataclass(frozen=True)
class Rightness:
    """Shares of right modalities, each the mean over data sets or modalities.

    Attributes
    ----------
    known : float
        Of validation images, mean over modalities.
    unseen : float
        Of data sets left out of the fit, mean over data sets.
    """

    known: float
    unseen: float


def measure(samples: Sequence[Sample], settings: FitSettings) -> Rightness:
    """Fit with validation images, then with one data set after the other, left out.

    Parameters
    ----------
    samples : sequence of Sample
        Training and unlabelled images; what stands in ``hsv`` is what K-Means sees.
    settings : FitSettings

    Returns
    -------
    Rightness

    Raises
    ------
    training.data.DataError
        If nothing is left to fit on or to ask about.
    """
    held_out = {record.image for record in split_validation(s.record for s in samples)[1]}
    answers = _ask(samples, settings, lambda record: record.image in held_out)
    names = sorted({modality for modality, _ in answers})
    known = [np.mean([right for name, right in answers if name == wanted]) for wanted in names]
    unseen = [
        np.mean([right for _, right in _ask(samples, settings, _is_of(dataset))])
        for dataset in _testable(samples)
    ]
    if not known or not unseen:
        raise DataError("too few data sets: one must be left out and another of its modality stay")
    return Rightness(float(np.mean(known)), float(np.mean(unseen)))


def _is_of(dataset: str) -> Callable[[Record], bool]:
    """Tell whether a record is of a data set."""
    return lambda record: record.dataset == dataset


def _testable(samples: Sequence[Sample]) -> list[str]:
    """List the labelled data sets whose modality another one shows too."""
    sets = sorted({(_name(s.record), s.record.dataset) for s in samples if s.record.label})
    return [
        dataset
        for name, dataset in sets
        if any(other == name and its != dataset for other, its in sets)
    ]


def _ask(
    samples: Sequence[Sample], settings: FitSettings, is_asked: Callable[[Record], bool]
) -> list[tuple[str, bool]]:
    """Fit on the other images; give the modality of those asked about, and if it was found."""
    fit = fit_modalities([s for s in samples if not is_asked(s.record)], settings)
    found = []
    for sample in (s for s in samples if is_asked(s.record) and s.record.label):
        answer = next(iter(fit.clusters.distances(sample.hsv)))
        name = _name(sample.record)
        found.append((name, ONE_NAME.get(answer, answer) == name))
    return found


def _name(record: Record) -> str:
    """Name a record's modality, phase contrast and DIC as one."""
    return ONE_NAME.get(record.modality, record.modality)


def compare(
    samples: Sequence[Sample], clusters: Sequence[int], n_starts: int
) -> Iterator[tuple[str, int, Rightness]]:
    """Measure every choice of features and clusters.

    Parameters
    ----------
    samples : sequence of Sample
    clusters : sequence of int
        Numbers of clusters.
    n_starts : int
        K-Means runs a fit.

    Yields
    ------
    str, int, Rightness
        Features, clusters, and what they are worth.
    """
    for name, n_clusters in itertools.product(FEATURES, clusters):
        seen = [replace(sample, hsv=FEATURES[name](sample)) for sample in samples]
        yield name, n_clusters, measure(seen, FitSettings(n_clusters, n_starts=n_starts))


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m eval.router_features", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clusters", nargs="+", type=int, default=DEFAULT_CLUSTERS, metavar="N")
    parser.add_argument("--starts", type=int, default=3, metavar="N", help="K-Means runs a fit")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table, a row a choice; 2 if the data does not allow it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(*args.clusters, args.starts) < 1:
        parser.error("--clusters and --starts must be 1 or more")
    try:
        records = [r for r in list_records(args.data) if r.split != "test"]
        samples = measure_samples(r for r in records if r.modality in MODALITIES)
        sys.stdout.write(
            "| features | clusters | known sources | unseen sources |\n|---|---|---|---|\n"
        )
        for name, n_clusters, right in compare(samples, args.clusters, args.starts):
            row = f"| {name} | {n_clusters} | {right.known:.3f} | {right.unseen:.3f} |\n"
            sys.stdout.write(row)
            sys.stdout.flush()
    except (DataError, ImageError, OSError) as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
