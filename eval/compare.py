"""What got better or worse between two runs of eval.f1: ``python -m eval.compare A.json B.json``.

Images are paired by MODALITY/DATASET/NAME. A group of images is worse (or better) beyond noise if
the 95 % bootstrap interval of its mean difference lies below (above) 0 and Wilcoxon's signed-rank
test, corrected after Holm for the groups of its kind, gives p < 0.05. Exit code: 0 no
group is worse, 1 one is, 2 the files cannot be compared.
"""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.intervals import bootstrap
from eval.ranks import adjust_holm, compare_signed_ranks
from eval.run_file import Run, RunImage, read_run

logger = logging.getLogger(__name__)

P_MAX = 0.05
N_CHANGES = 10  # images listed
N_NAMES = 5  # images named that only one run has

METRICS: dict[str, Callable[[RunImage, float], float]] = {
    "f1": lambda image, iou_min: image.f1_at(iou_min),
    "dice": lambda image, _: image.dice,
    "inst_dice": lambda image, _: image.inst_dice,
    "ap": lambda image, _: image.ap,
    "aji": lambda image, _: image.aji,
    "pq": lambda image, _: image.pq,
}


@dataclass(frozen=True)
class ImageChange:
    """One image in both runs.

    Attributes
    ----------
    key : str
        ``MODALITY/DATASET/NAME``.
    modality, dataset : str
        Empty where unknown.
    a, b : float
        Its score in both runs.
    """

    key: str
    modality: str
    dataset: str
    a: float
    b: float

    @property
    def difference(self) -> float:
        """How much better B is."""
        return self.b - self.a


@dataclass(frozen=True)
class GroupChange:
    """A group of images in both runs; means and medians are over images.

    Attributes
    ----------
    name : str
        ``all``, ``MODALITY`` or ``MODALITY/DATASET``.
    kind : {"all", "modality", "dataset"}
        What the group is.
    n_images : int
        In both runs.
    a_mean, b_mean, a_median, b_median : float
        Of each run.
    difference, low, high : float
        Mean of B minus A and its 95 % paired bootstrap interval.
    p_value, p_adjusted : float
        Of Wilcoxon's signed-rank test; after Holm's correction within the kind.
    apart : bool
        In no other group.
    """

    name: str
    kind: str
    n_images: int
    a_mean: float
    b_mean: float
    a_median: float
    b_median: float
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    apart: bool

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or, within noise, ``same``."""
        if self.p_adjusted >= P_MAX or self.low <= 0 <= self.high:
            return "same"
        return "better" if self.low > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two runs compared.

    Attributes
    ----------
    system_a, system_b, commit_a, commit_b : str
        What is compared.
    metric : str
        One of :data:`METRICS`.
    iou_min : float
        Threshold of ``f1``.
    groups : tuple of GroupChange
        All, modalities, data sets.
    images : tuple of ImageChange
        All images in both runs, those that changed most first.
    only_a, only_b : tuple of str
        Keys of images in one run only.
    """

    system_a: str
    system_b: str
    commit_a: str
    commit_b: str
    metric: str
    iou_min: float
    groups: tuple[GroupChange, ...]
    images: tuple[ImageChange, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def is_worse(self) -> bool:
        """Whether any group is worse beyond noise, the ones apart included."""
        return any(group.verdict == "worse" for group in self.groups)


def compare_runs(run_a: Run, run_b: Run, metric: str = "f1") -> Comparison:
    """Compare two runs on the images that both have.

    Parameters
    ----------
    run_a, run_b : Run
        Before and after, or one system and another.
    metric : str
        One of :data:`METRICS`; ``f1`` at the first threshold of A that B has too.

    Returns
    -------
    Comparison
        Positive differences: B is better.

    Raises
    ------
    ValueError
        If there is no such metric, the runs were scored by different rules, share no threshold or
        no image, or one has a key twice.
    """
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}, known: {', '.join(METRICS)}")
    if run_a.rules != run_b.rules:
        raise ValueError(f"scored by different rules: {run_a.rules} and {run_b.rules}")
    shared = [iou_min for iou_min in run_a.thresholds if iou_min in run_b.thresholds]
    if not shared:
        raise ValueError(f"no common threshold in {run_a.thresholds} and {run_b.thresholds}")
    images_a, images_b = _by_key(run_a), _by_key(run_b)
    score = METRICS[metric]
    images = [
        ImageChange(key, one.modality, one.dataset, score(one, shared[0]), score(other, shared[0]))
        for key, one in images_a.items()
        if (other := images_b.get(key)) is not None
    ]
    if not images:
        raise ValueError("the runs have no image in common (MODALITY/DATASET/NAME)")
    return Comparison(
        run_a.system,
        run_b.system,
        run_a.commit,
        run_b.commit,
        metric,
        shared[0],
        groups=_compare_groups(images, _names_apart(run_a) | _names_apart(run_b)),
        images=tuple(sorted(images, key=lambda one: (-abs(one.difference), one.key))),
        only_a=tuple(key for key in images_a if key not in images_b),
        only_b=tuple(key for key in images_b if key not in images_a),
    )


def format_comparison(comparison: Comparison) -> str:
    """Lay a comparison out as text, ending with a line break."""
    c = comparison
    metric = f"F1 at IoU >= {c.iou_min:g}" if c.metric == "f1" else c.metric
    lines = [
        f"A: {c.system_a} ({c.commit_a})   B: {c.system_b} ({c.commit_b})",
        f"{metric}, {len(c.images)} images in both",
        *_name_missing("A", c.only_a),
        *_name_missing("B", c.only_b),
        "",
        f"{'':36}{'images':>7}{'A':>9}{'B':>9}{'B - A':>9}{'95 %':>18}{'p (Holm)':>10}",
    ]
    lines += [
        f"{f'{g.name} (apart)' if g.apart else g.name:36}{g.n_images:7d}"
        f"{g.a_mean:9.4f}{g.b_mean:9.4f}{g.difference:+9.4f}{f'{g.low:+.4f} {g.high:+.4f}':>18}"
        f"{g.p_adjusted:10.4f}  {'' if g.verdict == 'same' else g.verdict}"
        for g in c.groups
    ]
    changed = [image for image in c.images if image.difference][:N_CHANGES]
    if changed:
        lines += ["", "changed most"]
        lines += [f"  {i.a:.4f} -> {i.b:.4f}  {i.difference:+.4f}  {i.key}" for i in changed]
    worse = [group.name for group in c.groups if group.verdict == "worse"]
    lines += ["", f"worse beyond noise: {', '.join(worse) or 'nothing'}"]
    return "\n".join(lines) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=Path, metavar="A.json", help="run file of eval.f1: before")
    parser.add_argument("b", type=Path, metavar="B.json", help="run file of eval.f1: after")
    parser.add_argument("--metric", choices=METRICS, default="f1", help="default: f1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the comparison")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two run files; see the module for the exit codes."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        comparison = compare_runs(read_run(args.a), read_run(args.b), args.metric)
        sys.stdout.write(format_comparison(comparison))
        if args.json:
            text = json.dumps(_to_plain(comparison), indent=1, allow_nan=False)
            args.json.write_text(text + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    return int(comparison.is_worse)


def _by_key(run: Run) -> dict[str, RunImage]:
    """Give the images of a run by key; ValueError if a key occurs twice."""
    images = {image.key: image for image in run.images}
    if len(images) < len(run.images):
        raise ValueError(f"{run.system}: several images have one MODALITY/DATASET/NAME")
    return images


def _names_apart(run: Run) -> set[str]:
    """Name the data sets of a run that are reported apart."""
    return {line.name for line in run.summaries if line.apart}


def _compare_groups(images: Sequence[ImageChange], apart: set[str]) -> tuple[GroupChange, ...]:
    """Compare all images, modalities and data sets; p values are corrected within each kind."""
    groups: dict[tuple[str, str], list[ImageChange]] = {}
    for image in images:
        dataset = f"{image.modality}/{image.dataset}"
        if dataset not in apart:
            groups.setdefault(("all", "all"), []).append(image)
            groups.setdefault(("modality", image.modality or "unknown"), []).append(image)
        if image.dataset:
            groups.setdefault(("dataset", dataset), []).append(image)
    changes: list[GroupChange] = []
    for kind in ("all", "modality", "dataset"):
        same_kind = [
            _compare_group(name, kind, groups[kind, name], name in apart)
            for name in sorted(name for of, name in groups if of == kind)
        ]
        adjusted = adjust_holm([change.p_value for change in same_kind])
        changes += [
            dataclasses.replace(change, p_adjusted=p)
            for change, p in zip(same_kind, adjusted, strict=True)
        ]
    return tuple(changes)


def _compare_group(name: str, kind: str, images: Sequence[ImageChange], apart: bool) -> GroupChange:
    """Compare one group; its p value is not yet corrected."""
    a, b = np.array([image.a for image in images]), np.array([image.b for image in images])
    mean = bootstrap(b - a)
    p_value = compare_signed_ranks(a, b)
    return GroupChange(
        name,
        kind,
        len(images),
        a_mean=float(a.mean()),
        b_mean=float(b.mean()),
        a_median=float(np.median(a)),
        b_median=float(np.median(b)),
        difference=mean.value,
        low=mean.low,
        high=mean.high,
        p_value=p_value,
        p_adjusted=p_value,
        apart=apart,
    )


def _name_missing(run: str, keys: Sequence[str]) -> Iterable[str]:
    """Say which images only one run has."""
    if keys:
        more = ", ..." if len(keys) > N_NAMES else ""
        yield f"only in {run}, left out: {len(keys)} images ({', '.join(keys[:N_NAMES])}{more})"


def _to_plain(comparison: Comparison) -> dict[str, object]:
    """Give a comparison as a JSON-ready dictionary, verdicts and differences included."""
    plain = dataclasses.asdict(comparison)
    plain["is_worse"] = comparison.is_worse
    for group, line in zip(comparison.groups, plain["groups"], strict=True):
        line["verdict"] = group.verdict
    for image, line in zip(comparison.images, plain["images"], strict=True):
        line["difference"] = image.difference
    return plain


if __name__ == "__main__":
    sys.exit(main())
