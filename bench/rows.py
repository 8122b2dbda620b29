"""What the benchmarks give: rows of repeated measurements, and the file that holds a run of them.

The file is one JSON object with the fields of :class:`Report` and ``"format": 1``; beside its
``values`` each row has their ``median``, ``low`` and ``high``, for whoever reads it without this
module.
"""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

FORMAT = 1
DIGITS = 5
Unit = Literal["s", "s / Mpx", "MiB", "ratio"]


class ReportError(Exception):
    """A file is not a report of this module's making."""


@dataclass(frozen=True)
class Row:
    """One quantity, measured repeatedly.

    Attributes
    ----------
    name : str
        What was measured, with the size of the work: rows of equal bench and name are
        comparable.
    unit : {"s", "s / Mpx", "MiB", "ratio"}
    values : tuple of float
        One a repetition, in their order; at least one.
    more_is_better : bool
        Whether a larger value is the better one.
    n_warm_up : int
        Runs before, which do not count.
    note : str
        What a reader should know besides.
    bench : str
        Which benchmark measured it; whoever runs the benchmark writes it here.
    """

    name: str
    unit: Unit
    values: tuple[float, ...]
    more_is_better: bool = False
    n_warm_up: int = 0
    note: str = ""
    bench: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What pairs rows of two reports."""
        return self.bench, self.name

    @property
    def median(self) -> float:
        """Middle of the values."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """Smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """Largest value."""
        return max(self.values)


@dataclass(frozen=True)
class Failure:
    """A benchmark that did not end well; rows that it gave before stay."""

    bench: str
    error: str


@dataclass(frozen=True)
class Report:
    """One run of the benchmarks.

    Attributes
    ----------
    created : str
        Time in UTC, ISO 8601.
    commit : str
        Of this project's clone, ``-dirty`` behind it when files were changed.
    machine : dict
        From :func:`bench.machine.describe_machine`.
    settings : dict
        JSON-ready: what the run was asked for.
    rows : tuple of Row
    failures : tuple of Failure
    seconds : dict of str to float
        How long each benchmark took altogether.
    """

    created: str
    commit: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    failures: tuple[Failure, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def pair_ratios(above: Iterable[float], below: Iterable[float]) -> tuple[float, ...]:
    """Divide what was measured in turn, round by round: a slow spell of the machine cancels.

    Parameters
    ----------
    above, below : iterable of float
        As many each; ``below`` positive.

    Returns
    -------
    tuple of float
    """
    return tuple(a / b for a, b in zip(above, below, strict=True))


def write_report(path: Path, report: Report) -> None:
    """Write a report.

    Parameters
    ----------
    path : Path
        Overwritten; its folder is made.
    report : Report

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    plain = {"format": FORMAT, **asdict(report), "rows": [_plain_row(row) for row in report.rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """Read a report.

    Parameters
    ----------
    path : Path
        Written by :func:`write_report`.

    Returns
    -------
    Report

    Raises
    ------
    ReportError
        If it cannot be read or is something else.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.pop("format") != FORMAT:
            raise ReportError(f"{path}: wanted a report of format {FORMAT}")
        rows = tuple(_read_row(row) for row in plain.pop("rows"))
        failures = tuple(Failure(**failure) for failure in plain.pop("failures"))
        return Report(rows=rows, failures=failures, **plain)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportError(f"{path}: not a report of python -m bench ({error})") from error


def _plain_row(row: Row) -> dict[str, Any]:
    """Give a row and what follows from its values, rounded."""
    values = _rounded(row.values)
    middle = {"median": row.median, "low": row.low, "high": row.high}
    return asdict(row) | {"values": values} | {k: _rounded([v])[0] for k, v in middle.items()}


def _read_row(plain: dict[str, Any]) -> Row:
    """Make a row of its JSON object."""
    known = {k: v for k, v in plain.items() if k not in ("median", "low", "high")}
    return Row(**known | {"values": tuple(float(value) for value in plain["values"])})


def _rounded(values: Sequence[float]) -> list[float]:
    """Round figures to so many digits after the point."""
    return [round(value, DIGITS) for value in values]
