"""A run of the benchmarks as a picture: medians and ranges, one panel a unit and direction.

One SVG file on its own, with the colours of a light and a dark screen inside; the marks and axes
are those of the report on accuracy (:mod:`eval.report_svg`).
"""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from bench.baseline import Change
from bench.rows import Failure, Report, Unit
from bench.table import describe_run, format_figure
from eval.report_markup import Content, Node, element
from eval.report_svg import Axis, Frame, draw_plot, line, log_axis, mark, words

WIDTH, LEFT, RIGHT = 1080.0, 510.0, 130.0
HEAD_PX, LINE_PX, ROW_PX, GAP_PX, BOTTOM_PX = 34.0, 16.0, 19.0, 30.0, 42.0
NOW, BEFORE = 0, 3  # styles of the marks: a disc, and a diamond
UNITS: dict[Unit, str] = {
    "s": "seconds",
    "s / Mpx": "seconds a megapixel",
    "MiB": "memory, MiB",
    "ratio": "ratio",
}
STYLE = """
svg { font: 12px system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
.ground { fill: #ffffff; } text { fill: #1c2126; } .title { font-size: 16px; font-weight: 600; }
.soft, .label { fill: #59636e; } .tick { font-size: 11.5px; }
.grid { stroke: #e1e4e8; } .axis { stroke: #aeb6bf; }
.range { stroke: #1d5fae; stroke-width: 2.2; } .s0 { fill: #1d5fae; }
.s3 { fill: none; stroke: #59636e; stroke-width: 1.4; } .worse { fill: #b3361f; font-weight: 600; }
.better { fill: #1a7f4e; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #131619; } text { fill: #e6e9ec; } .soft, .label { fill: #9ea8b3; }
  .grid { stroke: #2d333a; } .axis { stroke: #5a646f; }
  .range { stroke: #7fb4f5; } .s0 { fill: #7fb4f5; } .s3 { stroke: #9ea8b3; }
  .worse { fill: #ff8f78; } .better { fill: #62cf98; }
}
"""


def draw_report(report: Report, changes: Sequence[Change]) -> str:
    """Draw a run.

    Parameters
    ----------
    report : Report
    changes : sequence of Change
        Its rows, from :func:`bench.baseline.compare_reports`; where there is a baseline, its
        medians are drawn as hollow diamonds.

    Returns
    -------
    str
        An SVG document.
    """
    head = [*describe_run(report), *_explain(changes)]
    parts: list[Content] = [words((16, 24), "python -m bench", "title")]
    y = HEAD_PX
    for text in head:
        y += LINE_PX
        parts.append(words((16, y), text, "soft"))
    for unit, more in itertools.product(UNITS, (False, True)):
        shown = [c for c in changes if (c.now.unit, c.now.more_is_better) == (unit, more)]
        if shown:
            label = f"{UNITS[unit]} ({'more' if more else 'less'} is better)"
            panel, y = _draw_panel(shown, label, y + GAP_PX)
            parts.append(panel)
    for failure in report.failures:
        y += LINE_PX
        parts.append(words((16, y), _shorten(failure), "worse"))
    ground = element("rect", {"class": "ground", "width": "100%", "height": "100%"})
    size = (WIDTH, y + 16)
    title, description = "Speed and memory", "; ".join(head)
    svg = draw_plot("bench", size, title, description, element("style", {}, STYLE), ground, *parts)
    for name, value in zip(("width", "height"), size, strict=True):
        svg.set(name, f"{value:g}")
    svg.set("xmlns", "http://www.w3.org/2000/svg")
    return ET.tostring(svg, encoding="unicode") + "\n"


def _explain(changes: Sequence[Change]) -> list[str]:
    """Say what the marks mean."""
    shown = "Discs: medians; lines: lowest to highest"
    with_baseline = any(change.before for change in changes)
    return [f"{shown}; hollow diamonds: medians of the baseline" if with_baseline else shown]


def _draw_panel(changes: Sequence[Change], label: str, top: float) -> tuple[Node, float]:
    """Draw rows of one unit below each other; give where the panel ends, too."""
    n = len(changes)
    names = [f"{change.now.bench}: {change.now.name}" for change in reversed(changes)]
    rows = Axis("", -0.5, n - 0.5, tuple(range(n)), name_tick=lambda i: names[int(i)])
    medians = [change.before.median for change in changes if change.before]
    ends = [end for change in changes for end in (change.now.low, change.now.high)]
    bottom = top + n * ROW_PX + BOTTOM_PX
    frame = Frame(log_axis(label, [*ends, *medians]), rows, WIDTH, bottom, LEFT, RIGHT, top)
    marks = [_draw_row(change, n - 1 - i, frame) for i, change in enumerate(changes)]
    return element("g", {}, frame.draw_axes(), *marks), bottom


def _draw_row(change: Change, at: float, frame: Frame) -> Node:
    """Draw the range, the marks and the median of one row."""
    row, y = change.now, frame.at_y(at)
    low, high = ((frame.at_x(end), y) for end in (row.low, row.high))
    figure = format_figure(row.median, row)
    verdict = f"  {change.verdict}" if change.verdict else ""
    before = change.before
    return element(
        "g",
        {},
        line(low, high, "range"),
        mark((frame.at_x(before.median), y), BEFORE) if before else None,
        mark((frame.at_x(row.median), y), NOW, hint=f"{row.name}: {figure} {row.unit}"),
        words((WIDTH - RIGHT + 10, y + 4), f"{figure}{verdict}", change.verdict or "figure"),
    )


def _shorten(failure: Failure) -> str:
    """Say in one line of the picture what failed."""
    text = f"{failure.bench} failed: {' '.join(failure.error.split())}"
    return text if len(text) <= 150 else f"{text[:149]}\N{HORIZONTAL ELLIPSIS}"
