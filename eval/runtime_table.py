"""What the runtime harness prints: one table a system, and the ratios between two systems."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from eval.launch import STAGES
from eval.runtime_file import TimedRun

UNKNOWN = "-"
OUTSIDE = "outside"  # of the program: starting and ending the process or the container
ALL = "all"
Figure = Callable[[TimedRun], float | None]

COLUMNS: dict[str, tuple[Figure, int]] = {  # heading: figure of a run, digits behind the point
    "Mpx": (lambda run: run.image.mpx, 2),
    "real s": (lambda run: run.real_s, 2),
    "rank s": (lambda run: run.rank_s, 2),
    "host MiB": (lambda run: run.usage.peak_host_mib, 0),
    "GPU MiB": (lambda run: run.usage.peak_gpu_mib, 0),
    "GPU MiB s": (lambda run: run.usage.gpu_mib_s, 0),
}
COMPARED: dict[str, Figure] = {
    "real time": lambda run: run.real_s,
    "host memory": lambda run: run.usage.peak_host_mib,
    "GPU memory": lambda run: run.usage.peak_gpu_mib,
}


@dataclass(frozen=True)
class Ratio:
    """How one system's figures compare with another's.

    Attributes
    ----------
    image : str
        The image, or ``all``.
    values : dict
        By name of the figure: median of the one over median of the other; None where not known.
    """

    image: str
    values: dict[str, float | None]


def compare(runs: Sequence[TimedRun], system: str, against: str) -> list[Ratio]:
    """Divide the medians of two systems.

    Parameters
    ----------
    runs : sequence of TimedRun
        Of both systems; failed ones are passed over.
    system, against : str
        Divisor and dividend: above 1 ``against`` takes more.

    Returns
    -------
    list of Ratio
        One an image that both labelled, and one for all their runs on these; empty if there is
        no such image.
    """
    good = [run for run in runs if not run.problem]
    names = {s: {r.image.path.name for r in good if r.system == s} for s in (system, against)}
    both = [n for n in _image_names(good) if n in names[system] and n in names[against]]
    groups = {name: [run for run in good if run.image.path.name == name] for name in both}
    if both:
        groups[ALL] = [run for name in both for run in groups[name]]
    return [
        Ratio(name, {what: _divide(group, f, system, against) for what, f in COMPARED.items()})
        for name, group in groups.items()
    ]


def format_system(runs: Sequence[TimedRun], system: str) -> str:
    """Lay out the figures of one system.

    Parameters
    ----------
    runs : sequence of TimedRun
        Of any system.
    system : str
        Whose to show.

    Returns
    -------
    str
        Medians of the runs that count, a line an image and one for all; then the stages.
    """
    own = [run for run in runs if run.system == system]
    good = [run for run in own if not run.problem]
    lines = [f"{system}: {len(own)} runs, {len(own) - len(good)} failed"]
    groups = {name: [r for r in good if r.image.path.name == name] for name in _image_names(own)}
    groups[f"median of {ALL}"] = good
    width = max(map(len, groups))
    lines.append(" ".join([f"{'image':<{width}}", *(f"{name:>9}" for name in COLUMNS)]))
    for name, group in groups.items():
        cells = [_format(median(group, figure), digits) for figure, digits in COLUMNS.values()]
        lines.append(" ".join([f"{name:<{width}}", *(f"{cell:>9}" for cell in cells)]))
    return "\n".join([*lines, *_format_stages(good)]) + "\n"


def format_ratios(ratios: Iterable[Ratio], system: str, against: str) -> str:
    """Lay out the comparison of two systems; empty without a common image."""
    rows = list(ratios)
    if not rows:
        return ""
    width = max(len(row.image) for row in rows)
    lines = [f"{against} over {system}, ratios of medians (above 1: {against} takes more)"]
    lines.append(" ".join([f"{'image':<{width}}", *(f"{name:>11}" for name in COMPARED)]))
    for row in rows:
        cells = [_format(row.values[name], 2) for name in COMPARED]
        lines.append(" ".join([f"{row.image:<{width}}", *(f"{cell:>11}" for cell in cells)]))
    return "\n".join(lines) + "\n"


def median(runs: Iterable[TimedRun], figure: Figure) -> float | None:
    """Take the median of a figure over the runs in which it is known; None without any."""
    known = [value for run in runs if (value := figure(run)) is not None]
    return statistics.median(known) if known else None


def _divide(runs: Sequence[TimedRun], figure: Figure, system: str, against: str) -> float | None:
    """Divide the median of one system's runs by the other's; None without a positive divisor."""
    one = median((run for run in runs if run.system == against), figure)
    other = median((run for run in runs if run.system == system), figure)
    return one / other if one is not None and other else None


def _format_stages(runs: Sequence[TimedRun]) -> list[str]:
    """Write the medians of the stages on one line, or nothing where no run told them."""
    told = [(run.real_s, run.stages) for run in runs if run.stages is not None]
    if not told:
        return []
    medians = {stage: statistics.median(stages[stage] for _, stages in told) for stage in STAGES}
    medians[OUTSIDE] = statistics.median(real_s - sum(s.values()) for real_s, s in told)
    return ["stages, median s: " + ", ".join(f"{name} {s:.2f}" for name, s in medians.items())]


def _image_names(runs: Iterable[TimedRun]) -> list[str]:
    """List the images in the order of the runs."""
    return list(dict.fromkeys(run.image.path.name for run in runs))


def _format(value: float | None, digits: int) -> str:
    """Write a figure, or a dash where it is not known."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"
