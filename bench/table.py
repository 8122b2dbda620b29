"""A run of the benchmarks as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.baseline import SAME_MACHINE, Change, is_same_machine
from bench.rows import Report, Row

QUIET_LOAD = 0.5  # programs that want a core; more disturb the figures


def format_report(report: Report, changes: Sequence[Change], before: Report | None) -> str:
    """Write what was measured, where, and how it compares.

    Parameters
    ----------
    report : Report
    changes : sequence of Change
        From :func:`bench.baseline.compare_reports`.
    before : Report or None
        The baseline; its columns are left out without one.

    Returns
    -------
    str
        A table and lines around it.
    """
    columns = ["bench", "what", "median", "lowest", "highest", "unit", "runs"]
    columns += ["baseline", "now / then", "beyond noise"] if before else []
    columns.append("note")
    lines = [*describe_run(report), "", _line(columns), _line(["---"] * len(columns))]
    lines += [_line(_cells(change, before is not None)) for change in changes]
    for failure in report.failures:
        cells = [failure.bench, f"**failed:** {failure.error}"]
        lines.append(_line(cells + [""] * (len(columns) - len(cells))))
    if before is not None:
        lines += ["", *_describe_baseline(report, before)]
    return "\n".join(lines) + "\n"


def describe_run(report: Report) -> list[str]:
    """Say in a few lines where and with what a run was made.

    Parameters
    ----------
    report : Report

    Returns
    -------
    list of str
        The last one warns if other programs were at work.
    """
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{_name_machine(machine)}, {machine['memory_gib']:g} GiB"
    lines = [
        f"{where}; commit {report.commit}, {report.created}",
        f"Python {machine['python']}, {versions}",
    ]
    if machine["load"] > QUIET_LOAD:
        lines.append(
            f"The machine was busy (load {machine['load']:g} at the start): seconds are too long, "
            "CPU seconds and ratios hold better."
        )
    return lines


def format_figure(value: float, row: Row) -> str:
    """Write one value of a row with the digits that its unit deserves."""
    if row.unit == "MiB":
        return f"{value:.0f}"
    return f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def _cells(change: Change, has_baseline: bool) -> list[str]:
    """Fill the columns for one row."""
    row = change.now
    figures = [format_figure(value, row) for value in (row.median, row.low, row.high)]
    cells = [row.bench, row.name, *figures, row.unit, str(len(row.values))]
    if has_baseline:
        before = format_figure(change.before.median, row) if change.before else ""
        ratio = "" if change.ratio is None else f"{change.ratio:.2f}"
        verdict = f"**{change.verdict}**" if change.verdict == "worse" else change.verdict
        cells += [before, ratio, verdict]
    return [*cells, row.note]


def _name_machine(machine: Mapping[str, Any]) -> str:
    """Name what makes two machines compute alike; what an older file lacks is None."""
    processor, cores, precision, gpu = (machine.get(key) for key in SAME_MACHINE)
    return f"{processor}, {cores} cores, {f'{gpu}, ' if gpu else ''}{precision}"


def _describe_baseline(report: Report, before: Report) -> list[str]:
    """Say what the baseline is, and what it has that this run has not."""
    lines = [f"Baseline: commit {before.commit}, {before.created}"]
    if not is_same_machine(report, before):
        lines.append(
            f"It was measured on another machine ({_name_machine(before.machine)}): "
            "nothing is said about noise."
        )
    n_missing = len({row.key for row in before.rows} - {row.key for row in report.rows})
    if n_missing:
        lines.append(f"{n_missing} rows of the baseline were not measured.")
    return lines


def _line(cells: Iterable[str]) -> str:
    """Write one line of a table; line ends and bars inside a cell would break it."""
    return f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |"
