"""Fit the router: ``python -m training.router --data DIR --weights-dir weights``.

K-Means sees every training and unlabelled image, and no label (paper, section 2.2). Afterwards each
centre takes its name from a small record: the known modality, or for brightfield the suggested
expert, of the training images nearest to it.
"""

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from imaging.reading import ImageError, open_image
from manifest import WEIGHTS_DIR, WeightsError, write_entry
from router.features import hsv_features, rgb_features
from router.router import (
    BRIGHTFIELD_EXPERTS,
    MODALITIES,
    ROUTER_NAME,
    Clusters,
    Router,
    with_log_variance,
)
from tiling.survey import survey_image
from training.data import DataError, Record, list_records, split_validation

logger = logging.getLogger(__name__)

RECORD_NAME = "router.json"  # the same centres and how they were named, for people


@dataclass(frozen=True)
class FitSettings:
    """How to fit; the defaults were chosen on validation images (``--validate``).

    Attributes
    ----------
    n_modality_clusters, n_brightfield_clusters : int
        Far more centres than names: phase and DIC lie close together.
    balance : float in [0, 1]
        An image of a data set of n images weighs n ** -balance: at 0 all images weigh the same,
        at 1 all data sets.
    n_starts : int
        K-Means runs with other starting centres, of which the tightest is kept.
    seed : int
        Of the starting centres.
    """

    n_modality_clusters: int = 64
    n_brightfield_clusters: int = 64
    balance: float = 0.5
    n_starts: int = 10
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """Features of one image beside what is known about it.

    Attributes
    ----------
    record : Record
        The image's line in the index.
    hsv, rgb : (6,) ndarray of float64
        As ``router.features`` measures them.
    """

    record: Record
    hsv: NDArray[np.float64]
    rgb: NDArray[np.float64]


@dataclass(frozen=True)
class NamedFit:
    """A fitted K-Means and the record its centres were named from.

    Attributes
    ----------
    clusters : Clusters
        Centres and names.
    votes : tuple of dict
        Of each centre: name to number of known images nearest to it.
    diameters_px : tuple of float or None
        Of each centre: median of these images' median cell diameters.
    """

    clusters: Clusters
    votes: tuple[dict[str, int], ...]
    diameters_px: tuple[float | None, ...]


def measure_samples(records: Iterable[Record]) -> list[Sample]:
    """Measure the features of images, one after the other.

    Parameters
    ----------
    records : iterable of Record
        Images; one that cannot be read is logged and left out.

    Returns
    -------
    list of Sample
        In the order of the records.
    """
    samples = []
    for record in records:
        try:
            with open_image(record.image) as image:
                seen = survey_image(image).fields
        except ImageError as error:
            logger.warning("%s", error)
            continue
        samples.append(Sample(record, hsv_features(seen), rgb_features(seen)))
    return samples


def fit_modalities(samples: Sequence[Sample], settings: FitSettings) -> NamedFit:
    """Fit the first K-Means and name its centres.

    Parameters
    ----------
    samples : sequence of Sample
        Labelled and unlabelled images.
    settings : FitSettings

    Returns
    -------
    NamedFit

    Raises
    ------
    training.data.DataError
        If no image with a known modality is given.
    """
    return _fit(samples, "hsv", "modality", MODALITIES, settings)


def fit_router(
    samples: Sequence[Sample], settings: FitSettings | None = None
) -> tuple[Router, dict[str, Any]]:
    """Fit both K-Means and name their centres.

    Parameters
    ----------
    samples : sequence of Sample
        Labelled and unlabelled images; the second K-Means takes those that the first calls
        brightfield.
    settings : FitSettings, optional
        How to fit.

    Returns
    -------
    router : Router
        Ready to route.
    record : dict
        JSON-ready description of every centre.

    Raises
    ------
    training.data.DataError
        If no image with a known modality, or no brightfield image with a known expert, is given.
    """
    settings = settings or FitSettings()
    if not samples:
        raise DataError("no images to fit the router on")
    first = fit_modalities(samples, settings)
    bright = [s for s in samples if next(iter(first.clusters.distances(s.hsv))) == "brightfield"]
    if not bright:
        raise DataError("no brightfield images to fit the router on")
    second = _fit(bright, "rgb", "expert", BRIGHTFIELD_EXPERTS, settings)
    record = {
        "modalities": _describe(first, "hsv"),
        "brightfield": _describe(second, "rgb"),
        "images": len(samples),
        "datasets": dict(sorted(Counter(s.record.dataset for s in samples).items())),
    }
    return Router(first.clusters, second.clusters), record


def write_router(weights_dir: Path, router: Router, record: dict[str, Any]) -> None:
    """Write ``router.joblib``, its entry in the manifest, and ``router.json`` for people.

    Parameters
    ----------
    weights_dir : Path
        Made when missing.
    router : Router
        To be written as plain arrays and lists.
    record : dict
        From :func:`fit_router`; goes into both files.

    Raises
    ------
    OSError, manifest.WeightsError
        If a file cannot be written or the manifest is damaged.
    """
    weights_dir.mkdir(parents=True, exist_ok=True)
    partial = weights_dir / (ROUTER_NAME + ".partial")
    joblib.dump(router.to_plain() | {"record": record}, partial, compress=3)
    partial.replace(weights_dir / ROUTER_NAME)
    text = json.dumps(record, indent=2)
    (weights_dir / RECORD_NAME).write_text(text + "\n", encoding="utf-8")
    facts = {"kind": "router", "images": record["images"], "datasets": [*record["datasets"]]}
    write_entry(weights_dir, ROUTER_NAME, facts | {"validation": record.get("validation", {})})


def validate(samples: Sequence[Sample], settings: FitSettings) -> dict[str, float]:
    """Fit without the validation images and measure how many of them are routed rightly.

    Parameters
    ----------
    samples : sequence of Sample
        Training and unlabelled images.
    settings : FitSettings
        To be judged.

    Returns
    -------
    dict of str to float
        Share of right answers, for each modality and each brightfield expert.
    """
    _, held_out = split_validation(s.record for s in samples)
    paths = {record.image for record in held_out}
    router, _ = fit_router([s for s in samples if s.record.image not in paths], settings)
    right: dict[str, list[bool]] = {}
    for sample in (s for s in samples if s.record.image in paths):
        known = sample.record
        modality = next(iter(router.modalities.distances(sample.hsv)))
        right.setdefault(known.modality, []).append(modality == known.modality)
        if known.modality == "brightfield" and known.expert in BRIGHTFIELD_EXPERTS:
            expert = next(iter(router.brightfield.distances(sample.rgb)))
            right.setdefault(known.expert, []).append(expert == known.expert)
    return {name: round(float(np.mean(answers)), 4) for name, answers in sorted(right.items())}


def _fit(
    samples: Sequence[Sample],
    colours: str,
    column: str,
    known: tuple[str, ...],
    settings: FitSettings,
) -> NamedFit:
    """Standardise, run K-Means without labels, then name the centres."""
    wanted = settings.n_modality_clusters if colours == "hsv" else settings.n_brightfield_clusters
    points = with_log_variance(np.array([getattr(s, colours) for s in samples]))
    weights = _balance([s.record.dataset for s in samples], settings.balance)
    mean = np.average(points, axis=0, weights=weights)
    deviation = np.sqrt(np.average((points - mean) ** 2, axis=0, weights=weights))
    deviation[deviation == 0] = 1
    standard = (points - mean) / deviation
    n_clusters = min(wanted, len(np.unique(standard, axis=0)))
    kmeans = KMeans(n_clusters, n_init=settings.n_starts, random_state=settings.seed)
    nearest = kmeans.fit(standard, sample_weight=weights).labels_
    centres = np.asarray(kmeans.cluster_centers_, np.float64)

    members = [_known_members(samples, nearest == i, column, known) for i in range(n_clusters)]
    names = _lend_names([_heaviest(samples, m, column, weights) for m in members], centres)
    return NamedFit(
        Clusters(mean, deviation, centres, names),
        tuple(dict(Counter(getattr(samples[j].record, column) for j in m)) for m in members),
        tuple(_median(samples[j].record.median_diameter_px for j in m) for m in members),
    )


def _known_members(
    samples: Sequence[Sample], mask: NDArray[np.bool_], column: str, known: tuple[str, ...]
) -> list[int]:
    """List the images of a cluster whose name is known."""
    return [int(j) for j in np.flatnonzero(mask) if getattr(samples[j].record, column) in known]


def _heaviest(
    samples: Sequence[Sample], members: Iterable[int], column: str, weights: NDArray[np.float64]
) -> str:
    """Name a cluster by weighted majority; empty if it has no known image."""
    totals: dict[str, float] = {}
    for j in members:
        name = getattr(samples[j].record, column)
        totals[name] = totals.get(name, 0.0) + float(weights[j])
    return max(totals, key=totals.__getitem__, default="")


def _balance(datasets: Sequence[str], balance: float) -> NDArray[np.float64]:
    """Weigh images so that large data sets do not take all centres; the mean weight is 1."""
    sizes = Counter(datasets)
    weights = np.array([sizes[name] ** -balance for name in datasets])
    normalised: NDArray[np.float64] = weights / weights.mean()
    return normalised


def _lend_names(names: Sequence[str], centres: NDArray[np.float64]) -> tuple[str, ...]:
    """Give a centre without known images the name of the nearest centre that has one."""
    named = [i for i, name in enumerate(names) if name]
    if not named:
        raise DataError("no image with a known modality (or expert): the centres stay unnamed")
    lent = []
    for i, name in enumerate(names):
        lengths = np.linalg.norm(centres[named] - centres[i], axis=1)
        lent.append(name or names[named[int(lengths.argmin())]])
    return tuple(lent)


def _median(values: Iterable[float]) -> float | None:
    """Take the median of the known values, rounded; None if there is none."""
    known = [value for value in values if np.isfinite(value)]
    return round(float(np.median(known)), 1) if known else None


def _describe(fit: NamedFit, colours: str) -> dict[str, Any]:
    """Describe the centres in the features' own units."""
    clusters = fit.clusters
    features = clusters.centres * clusters.deviation + clusters.mean
    columns = [f"mean_{c}" for c in colours] + [f"log_variance_{c}" for c in colours]
    return {
        "features": columns,
        "mean": clusters.mean.round(4).tolist(),
        "deviation": clusters.deviation.round(4).tolist(),
        "centres": [
            {
                "name": clusters.names[i],
                "votes": fit.votes[i],
                "median_diameter_px": fit.diameters_px[i],
                "centre": features[i].round(4).tolist(),
            }
            for i in range(len(clusters.names))
        ],
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m training.router", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights-dir", type=Path, default=WEIGHTS_DIR, metavar="DIR")
    parser.add_argument("--modality-clusters", type=int, default=FitSettings.n_modality_clusters)
    parser.add_argument(
        "--brightfield-clusters", type=int, default=FitSettings.n_brightfield_clusters
    )
    parser.add_argument("--balance", type=float, default=FitSettings.balance)
    parser.add_argument("--seed", type=int, default=FitSettings.seed)
    parser.add_argument(
        "--validate", action="store_true", help="measure on validation images, write nothing"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and write the router; 2 if the data does not allow it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    settings = FitSettings(
        args.modality_clusters, args.brightfield_clusters, args.balance, seed=args.seed
    )
    try:
        records = [r for r in list_records(args.data) if r.split != "test"]
        samples = measure_samples(r for r in records if r.modality in ("", *MODALITIES))
        validation = validate(samples, settings)
        logger.info("right on validation images: %s", validation)
        if not args.validate:
            router, record = fit_router(samples, settings)
            write_router(args.weights_dir, router, record | {"validation": validation})
    except (DataError, WeightsError, OSError) as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
