"""The run file: what ``python -m eval.f1 --json FILE`` found, for the comparison and the report.

One JSON object with the fields of :class:`Run` and ``"format": 1``. Thresholds are keys of
``counts`` and ``f1_means`` as Python writes the number (``"0.5"``).
"""

import dataclasses
import json
import subprocess
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eval.matching import MatchCounts
from eval.official import Rules

FORMAT = 1
DIGITS = 4  # the organisers round F1 of each image before they average
MAX_SIZES = 5000  # cells of one image whose size is kept; more are thinned evenly
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class ErrorCounts:
    """Events by kind, see :func:`eval.errors.count_errors`."""

    split: int = 0
    merged: int = 0
    missed: int = 0
    invented: int = 0


@dataclass(frozen=True)
class CellSize:
    """One true cell that was scored.

    Attributes
    ----------
    diameter_px : float
        Diameter of the disc of its area.
    found : bool
        Whether it has a match at the first threshold.
    """

    diameter_px: float
    found: bool


@dataclass(frozen=True)
class SizeBin:
    """Cells of one size, pooled over the images of a group; counts at the first threshold.

    Attributes
    ----------
    low_px, high_px : float
        Diameters, half-open; ``high_px`` is 0 for the last bin, which has no upper end.
    tp, fn : int
        True cells of this size with and without a match.
    fp : int
        Predicted instances of this size without a match.
    """

    low_px: float
    high_px: float
    tp: int
    fp: int
    fn: int

    @property
    def counts(self) -> MatchCounts:
        """The bin's counts, for recall and F1."""
        return MatchCounts(self.tp, self.fp, self.fn)


@dataclass(frozen=True)
class RunImage:
    """Score of one image.

    Attributes
    ----------
    name : str
        File name of the image (``--data``) or of its true label image (``-g``), without folders.
    modality, dataset : str
        Empty where unknown.
    height, width : int
        In pixels.
    problem : str
        Why there is no usable prediction (all true cells count as missed); empty otherwise.
    counts : mapping of str to MatchCounts
        By threshold.
    dice : float
        Of the two foregrounds, border included.
    inst_dice, aji, pq, sq, ap : float
        See :mod:`eval.instances`.
    errors : ErrorCounts
        At IoU 0.5.
    sizes : tuple of CellSize
        At most :data:`MAX_SIZES`.
    """

    name: str
    modality: str
    dataset: str
    height: int
    width: int
    problem: str
    counts: Mapping[str, MatchCounts]
    dice: float
    inst_dice: float
    aji: float
    pq: float
    sq: float
    ap: float
    errors: ErrorCounts
    sizes: tuple[CellSize, ...]

    @property
    def key(self) -> str:
        """``MODALITY/DATASET/NAME``, by which two runs are paired."""
        return f"{self.modality}/{self.dataset}/{self.name}"

    def counts_at(self, iou_min: float) -> MatchCounts:
        """Return the counts at a threshold; KeyError if it was not scored at it."""
        return self.counts[repr(iou_min)]

    def f1_at(self, iou_min: float) -> float:
        """Return F1 at a threshold, rounded to four digits, as the organisers average it."""
        return float(np.round(self.counts_at(iou_min).f1, DIGITS))


@dataclass(frozen=True)
class Unscored:
    """An image that could not be scored and enters no mean: its true labels are unusable.

    Under the organisers' rules also one without a usable prediction.
    """

    name: str
    modality: str
    dataset: str
    problem: str


@dataclass(frozen=True)
class RunSummary:
    """A group of images; means are over images, at the first threshold.

    Attributes
    ----------
    name : str
        ``all``, ``MODALITY`` or ``MODALITY/DATASET``.
    kind : {"all", "modality", "dataset"}
        What the group is.
    n_images, n_missing, n_cells : int
        Images, those without a usable prediction among them, true cells.
    f1_mean, f1_median : float
        With ``_low`` and ``_high``: 95 % bootstrap interval.
    dice_mean, precision_mean, recall_mean, inst_dice_mean, aji_mean, pq_mean, ap_mean : float
        Means over images.
    f1_means : mapping of str to float
        Mean F1 by threshold.
    errors : ErrorCounts
        Summed over the images.
    by_size : tuple of SizeBin
        Bins that hold anything.
    apart : bool
        Reported on its own: in no other line.
    """

    name: str
    kind: str
    n_images: int
    n_missing: int
    n_cells: int
    f1_mean: float
    f1_mean_low: float
    f1_mean_high: float
    f1_median: float
    f1_median_low: float
    f1_median_high: float
    dice_mean: float
    precision_mean: float
    recall_mean: float
    inst_dice_mean: float
    aji_mean: float
    pq_mean: float
    ap_mean: float
    f1_means: Mapping[str, float]
    errors: ErrorCounts
    by_size: tuple[SizeBin, ...]
    apart: bool = False


@dataclass(frozen=True)
class Seams:
    """Predicted instances with a straight edge on the lines of a tile grid.

    Attributes
    ----------
    tile_px : int
        Distance of the lines.
    share : float
        Share of all instances that are cut.
    expected : float
        The same share on grids shifted off the lines: what chance gives.
    n : int
        Instances looked at.
    n_cut : int
        Those cut on the grid.
    """

    tile_px: int
    share: float
    expected: float
    n: int
    n_cut: int


@dataclass(frozen=True)
class Run:
    """One evaluation of one system.

    Attributes
    ----------
    created : str
        Time in UTC, ISO 8601.
    commit : str
        Of this project's clone, ``-dirty`` behind it when files were changed; or ``unknown``.
    system : str
        Name of what was evaluated.
    rules : Rules
        How it was scored.
    thresholds : tuple of float
        Smallest IoU of a match; the first is the one of the means.
    images, unscored, summaries : tuple
        Scores, what could not be scored, groups.
    seams : Seams or None
        Only if it was asked for.
    """

    created: str
    commit: str
    system: str
    rules: Rules
    thresholds: tuple[float, ...]
    images: tuple[RunImage, ...]
    unscored: tuple[Unscored, ...]
    summaries: tuple[RunSummary, ...]
    seams: Seams | None = None

    def summary(self, name: str) -> RunSummary:
        """Return the group of a name; KeyError if there is none."""
        for line in self.summaries:
            if line.name == name:
                return line
        raise KeyError(name)


def write_run(path: Path, run: Run) -> None:
    """Write a run file.

    Parameters
    ----------
    path : Path
        Overwritten.
    run : Run
        Its content.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    plain = {"format": FORMAT, **dataclasses.asdict(run)}
    text = json.dumps(plain, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_run(path: Path) -> Run:
    """Read a run file.

    Parameters
    ----------
    path : Path
        As :func:`write_run` writes it; fields that are not known are passed over.

    Returns
    -------
    Run
        Its content.

    Raises
    ------
    ValueError
        If it cannot be read or is no run file: with the file's name and what is wrong in it.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: no run file of eval.f1 ({error})") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise ValueError(f"{path}: no run file of eval.f1 (format {FORMAT} is wanted)")
    try:
        run = _build(Run, plain, "run")
    except ValueError as error:
        raise ValueError(f"{path}: no run file of eval.f1 ({error})") from error
    return typing.cast("Run", run)


def now_utc() -> str:
    """Give the time as the run file writes it: ``2026-11-22T22:00:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_commit(folder: Path = ROOT) -> str:
    """Name the commit of a clone; ``-dirty`` behind it when files were changed.

    Parameters
    ----------
    folder : Path
        A clone; by default this project's.

    Returns
    -------
    str
        ``unknown`` outside of git.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown" if done.returncode == 0 else "unknown"


def _build(kind: Any, value: Any, where: str) -> Any:
    """Turn plain JSON into a value of an annotated type; ValueError says where it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _build(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None and isinstance(value, dict):
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _build_dataclass(kind, value, where)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    raise ValueError(f"{where} is {str(value)[:40]!r}, wanted {getattr(kind, '__name__', kind)}")


def _build_dataclass(kind: Any, value: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass from a JSON object; fields with a default may lack."""
    hints = typing.get_type_hints(kind)
    known = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            known[field.name] = _build(
                hints[field.name], value[field.name], f"{where}.{field.name}"
            )
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"{where} has no {field.name}")
    return kind(**known)
