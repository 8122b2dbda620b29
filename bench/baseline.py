"""What got worse or better since a stored run, beyond noise.

Two runs of a row differ beyond noise if none of the one's values lies among the other's, and the
medians differ by more than :data:`MIN_CHANGE` and by more than the clock can tell. Nothing is said
about noise where it is not known: of runs on different machines, and of times taken once or twice.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.rows import Report, Row, Unit

BASELINES = Path(__file__).resolve().parent / "baselines"
SAME_MACHINE = ("processor", "cores", "precision", "gpu")  # one cloud, several processors
# Between two occasions the machine changes more than between the runs of one: page cache, clock
# frequency and neighbours do not show in the range of three values.
MIN_CHANGE = 0.1
MIN_VALUES = 3  # of either run, to know its noise; memory hardly varies
RESOLUTION: Mapping[Unit, float] = {"s": 0.01, "s / Mpx": 0.01, "MiB": 2.0, "ratio": 0.005}
Verdict = Literal["", "worse", "better"]


@dataclass(frozen=True)
class Change:
    """A row beside the same row of the baseline.

    Attributes
    ----------
    now : Row
    before : Row or None
        None where the baseline has no such row.
    verdict : {"", "worse", "better"}
        Empty within noise, or where there is nothing to compare.
    """

    now: Row
    before: Row | None = None
    verdict: Verdict = ""

    @property
    def ratio(self) -> float | None:
        """Median now over median then; None where there was none, or it was 0."""
        if self.before is None or not self.before.median:
            return None
        return self.now.median / self.before.median


def compare_reports(now: Report, before: Report | None) -> list[Change]:
    """Pair the rows of two runs by benchmark and name.

    Parameters
    ----------
    now : Report
        Each of its rows is in the result.
    before : Report or None
        The baseline.

    Returns
    -------
    list of Change
        Without verdicts if the machines differ.
    """
    if before is None:
        return [Change(row) for row in now.rows]
    known = {row.key: row for row in before.rows}
    may_judge = is_same_machine(now, before)
    changes = []
    for row in now.rows:
        other = known.get(row.key)
        verdict = judge(row, other) if other is not None and may_judge else ""
        changes.append(Change(row, other, verdict))
    return changes


def judge(now: Row, before: Row) -> Verdict:
    """Tell whether a row got worse or better beyond noise.

    Parameters
    ----------
    now, before : Row
        Of equal key.

    Returns
    -------
    {"", "worse", "better"}
    """
    knows_noise = min(len(now.values), len(before.values)) >= MIN_VALUES or now.unit == "MiB"
    if not knows_noise or (now.low <= before.high and before.low <= now.high):
        return ""
    difference = now.median - before.median
    least = max(MIN_CHANGE * abs(before.median), RESOLUTION.get(now.unit, 0.0))
    if abs(difference) <= least:
        return ""
    return "better" if (difference > 0) == now.more_is_better else "worse"


def is_same_machine(now: Report, before: Report) -> bool:
    """Tell whether two runs have equal processors, cores, precision and GPU, if any."""
    return all(now.machine.get(key, "") == before.machine.get(key, "") for key in SAME_MACHINE)


def name_baseline(machine: Mapping[str, Any]) -> Path:
    """Name the file of a machine's baseline: ``baselines/PROCESSOR-CORES-PRECISION[-GPU].json``.

    Parameters
    ----------
    machine : mapping
        From :func:`bench.machine.describe_machine`.

    Returns
    -------
    Path
        Whether or not it exists.
    """
    words = f"{machine['processor']} {machine['cores']} cores {machine['precision']}"
    words = f"{words} {machine.get('gpu', '')}".lower()
    return BASELINES / f"{re.sub('[^a-z0-9]+', '-', words).strip('-')}.json"
