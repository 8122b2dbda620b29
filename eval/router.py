"""How often the router is right: ``python -m eval.router --data DIR``.

One confusion table of modalities and one of the brightfield experts. The expert in the index is a
suggestion from the size of the cells, so the second table measures agreement, not truth.
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

from imaging.reading import ImageError, open_image
from manifest import WEIGHTS_DIR, WeightsError
from router.router import BRIGHTFIELD_EXPERTS, MODALITIES, Route, Router, load_router
from tiling.survey import survey_image
from training.data import DataError, Record, list_records

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoutedImage:
    """One image and where it was sent.

    Attributes
    ----------
    record : Record
        What the index says about it.
    route : Route
        What the router says.
    size_expert : str
        What its second K-Means says, whatever the first one says.
    """

    record: Record
    route: Route
    size_expert: str


@dataclass(frozen=True)
class Confusion:
    """How many images of each true name were given each name.

    Attributes
    ----------
    names : tuple of str
        In the order of the table.
    counts : dict of (str, str) to int
        Number of images by (true, routed).
    """

    names: tuple[str, ...]
    counts: dict[tuple[str, str], int]

    @property
    def n_images(self) -> int:
        """Number of images in the table."""
        return sum(self.counts.values())

    @property
    def accuracy(self) -> float:
        """Share of the images on the diagonal; 0 without images."""
        right = sum(self.counts.get((name, name), 0) for name in self.names)
        return right / max(1, self.n_images)

    def recall(self, name: str) -> float:
        """Share of the images of one true name that were given it; 0 without images."""
        n_true = sum(self.counts.get((name, other), 0) for other in self.names)
        return self.counts.get((name, name), 0) / max(1, n_true)

    def to_plain(self) -> dict[str, Any]:
        """Give the table as a JSON-ready dictionary: counts by true, then routed name."""
        counts = {t: {r: self.counts.get((t, r), 0) for r in self.names} for t in self.names}
        return {"images": self.n_images, "right": self.accuracy, "counts": counts}


def route_records(router: Router, records: Iterable[Record]) -> list[RoutedImage]:
    """Route images; one that cannot be read is logged and left out.

    Parameters
    ----------
    router : Router
        To be measured.
    records : iterable of Record
        With a known modality.

    Returns
    -------
    list of RoutedImage
        In the order of the records.
    """
    routed = []
    for record in records:
        try:
            with open_image(record.image) as image:
                fields = survey_image(image).fields
        except ImageError as error:
            logger.warning("%s", error)
            continue
        size_expert = router.expert_for("brightfield", fields)
        routed.append(RoutedImage(record, router.route(fields), size_expert))
    return routed


def count_modalities(images: Iterable[RoutedImage]) -> Confusion:
    """Count true against routed modality."""
    counts = Counter((image.record.modality, image.route.modality) for image in images)
    return Confusion(MODALITIES, dict(counts))


def count_experts(images: Iterable[RoutedImage]) -> Confusion:
    """Count suggested against chosen expert of the brightfield images, routed rightly or not."""
    counts = Counter(
        (image.record.expert, image.size_expert)
        for image in images
        if image.record.modality == "brightfield" and image.record.expert in BRIGHTFIELD_EXPERTS
    )
    return Confusion(BRIGHTFIELD_EXPERTS, dict(counts))


def count_errors(images: Iterable[RoutedImage]) -> dict[str, dict[str, int]]:
    """Count the answers of each data set that has errors.

    Parameters
    ----------
    images : iterable of RoutedImage
        Any number.

    Returns
    -------
    dict of str to dict of str to int
        ``MODALITY/DATASET`` to number of ``images`` and of each wrong modality or expert.
    """
    groups: dict[str, Counter[str]] = {}
    for image in images:
        known = image.record
        group = groups.setdefault(f"{known.modality}/{known.dataset}", Counter())
        group["images"] += 1
        if image.route.modality != known.modality:
            group[image.route.modality] += 1
        elif known.expert in BRIGHTFIELD_EXPERTS and image.route.expert != known.expert:
            group[image.route.expert] += 1
    return {name: dict(group) for name, group in sorted(groups.items()) if len(group) > 1}


def format_confusion(title: str, table: Confusion) -> str:
    """Lay a confusion table out as text: a row a true name, a column a routed one."""
    width = max(len(name) for name in table.names) + 2
    head = f"{title:24}" + "".join(f"{name:>{width}}" for name in table.names) + "   right"
    rows = [
        f"{true:24}"
        + "".join(f"{table.counts.get((true, routed), 0):{width}d}" for routed in table.names)
        + f"{table.recall(true):8.3f}"
        for true in table.names
    ]
    total = f"right: {table.accuracy:.4f} of {table.n_images} images"
    return "\n".join([head, *rows, total])


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m eval.router", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", default="test")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_DIR, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the tables")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the tables; 2 when the arguments do not fit."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        router = load_router(args.weights)
        records = [
            record
            for record in list_records(args.data)
            if record.split == args.split and record.modality in MODALITIES
        ]
        if not records:
            raise DataError(f"{args.data}: no image of known modality in split {args.split!r}")
        images = route_records(router, records)
        _report(images, args.json)
    except (DataError, WeightsError, OSError) as error:
        logger.error("%s", error)
        return 2
    return 0


def _report(images: Sequence[RoutedImage], json_path: Path | None) -> None:
    """Write the tables to standard output and, if asked, to a file."""
    modalities, experts = count_modalities(images), count_experts(images)
    errors = count_errors(images)
    lines = [
        format_confusion("modality", modalities),
        "",
        format_confusion("brightfield expert", experts),
        "",
        "data sets with errors (suggested experts counted as true)",
        *(f"  {name:40}{_words(group)}" for name, group in errors.items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    if json_path:
        result = {
            "modality": modalities.to_plain(),
            "expert": experts.to_plain(),
            "errors": errors,
        }
        json_path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _words(group: dict[str, int]) -> str:
    """Say what happened to the images of a data set."""
    wrong = ", ".join(f"{n} to {name}" for name, n in group.items() if name != "images")
    return f"{group['images']} images: {wrong}"


if __name__ == "__main__":
    sys.exit(main())
