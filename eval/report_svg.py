"""Plots as inline vector graphics: axes, marks, and the frame that names them for everyone.

Colours come from the page's style sheet by class, so that one drawing serves a dark screen, a light
one and paper. Every series has a shape or a dash of its own besides its colour.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from eval.report_markup import Content, Node, element

Point = tuple[float, float]

N_STYLES = 6  # series styles in the style sheet
ALL_STYLE = N_STYLES - 1  # kept for what stands for all series together
UNIT_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4")
WIDE_PX = 600  # wider drawings scroll on a narrow screen, smaller ones shrink
MARK_PX = 3.4  # half the size of a mark
# Corners of each series' mark in units of MARK_PX; None is a disc.
SHAPES: tuple[tuple[Point, ...] | None, ...] = (
    None,
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, 1.2), (1.1, -0.9), (-1.1, -0.9)),
    ((-1.2, 0), (-0.6, -1.05), (0.6, -1.05), (1.2, 0), (0.6, 1.05), (-0.6, 1.05)),
)


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Attributes
    ----------
    label : str
        What is drawn along it, with its unit.
    low, high : float
        Ends, ``high > low``; both positive on a logarithmic axis.
    ticks : tuple of float
        Values with a line and a figure.
    is_log : bool
        Whether equal steps are equal ratios.
    name_tick : callable
        Value to the words at a tick.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False
    name_tick: Callable[[float], str] = field(default=lambda value: f"{value:g}")

    def share(self, value: float) -> float:
        """Place a value: 0 at the low end, 1 at the high end, cut off beyond."""
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, 1e-12))
        return min(max((at - low) / (high - low), 0.0), 1.0)


def linear_axis(label: str, low: float, high: float, n_ticks: int = 5) -> Axis:
    """Make a linear axis whose ends and ticks are round.

    Parameters
    ----------
    label : str
        What is drawn along it.
    low, high : float
        Range to be covered; widened to round values.
    n_ticks : int
        About how many ticks.

    Returns
    -------
    Axis
        With steps of 1, 2, or 5 times a power of ten.
    """
    span = max(high - low, 1e-9)
    unit = 10 ** math.floor(math.log10(span / n_ticks))
    step = next(m * unit for m in (1, 2, 5, 10) if span / (m * unit) <= n_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(round(i * step, 10) for i in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks)


def log_axis(label: str, values: Iterable[float]) -> Axis:
    """Make a logarithmic axis that covers values, with ticks at 1, 2 and 5.

    Parameters
    ----------
    label : str
        What is drawn along it.
    values : iterable of float
        At least one positive; others are passed over.

    Returns
    -------
    Axis
        From the last tick below the values to the first one above them; over many powers of ten
        only these have ticks.
    """
    positive = [v for v in values if v > 0] or [1.0]
    low, high = min(positive), max(positive)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = (1, 2, 5) if high / low < 200 else (1,)
    candidates = [round(m * 10.0**p, 12) for p in powers for m in steps]
    first = max(v for v in candidates if v <= low * (1 + 1e-9))
    last = min(v for v in candidates if v >= high * (1 - 1e-9) and v > first)
    ticks = tuple(v for v in candidates if first <= v <= last)
    return Axis(label, first, last, ticks, is_log=True, name_tick=name_compact)


def name_compact(value: float) -> str:
    """Write a value with a suffix for thousands and millions: 2k, 50M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


@dataclass(frozen=True)
class Frame:
    """The rectangle of a plot and its two axes.

    Attributes
    ----------
    x, y : Axis
        Across and up.
    width, height : float
        Size of the drawing in its own units, one of which is a pixel on a wide screen.
    left, right, top, bottom : float
        Margins for the words around.
    """

    x: Axis
    y: Axis
    width: float = 480
    height: float = 300
    left: float = 52
    right: float = 14
    top: float = 12
    bottom: float = 42

    def at_x(self, value: float) -> float:
        """Place a value along x."""
        return self.left + self.x.share(value) * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Place a value along y; the drawing counts downwards."""
        inner = self.height - self.top - self.bottom
        return self.top + (1 - self.y.share(value)) * inner

    def draw_axes(self) -> Node:
        """Draw grid lines, ticks and labels."""
        x_end, y_end = self.width - self.right, self.height - self.bottom
        parts: list[Content] = []
        for value in self.x.ticks:
            x = self.at_x(value)
            parts.append(line((x, self.top), (x, y_end), "grid"))
            parts.append(words((x, y_end + 16), self.x.name_tick(value), "tick", "middle"))
        for value in self.y.ticks:
            y = self.at_y(value)
            parts.append(line((self.left, y), (x_end, y), "grid"))
            parts.append(words((self.left - 7, y + 4), self.y.name_tick(value), "tick", "end"))
        middle_y = (self.top + y_end) / 2
        parts.append(
            words(((self.left + x_end) / 2, self.height - 6), self.x.label, "label", "middle")
        )
        turned = words((0, 0), self.y.label, "label", "middle")
        turned.set("transform", f"translate(12 {middle_y:.1f}) rotate(-90)")
        parts += [turned, line((self.left, y_end), (x_end, y_end), "axis")]
        return element("g", {"class": "axes"}, *parts)


def draw_plot(
    identifier: str, size: tuple[float, float], title: str, description: str, *parts: Content
) -> Node:
    """Wrap marks into an image that a screen reader announces.

    Parameters
    ----------
    identifier : str
        Unique on the page.
    size : (float, float)
        Width and height of the drawing.
    title, description : str
        Read instead of the marks: what it is, and what it says.
    parts : Element, str or None
        Axes and marks, painted in this order.

    Returns
    -------
    Element
        An ``svg`` as wide as its column allows.
    """
    width, height = size
    return element(
        "svg",
        {
            "class": "plot wide" if width > WIDE_PX else "plot",
            "role": "img",
            "viewBox": f"0 0 {width:g} {height:g}",
            "aria-labelledby": f"{identifier}-t {identifier}-d",
        },
        element("title", {"id": f"{identifier}-t"}, title),
        element("desc", {"id": f"{identifier}-d"}, description),
        *parts,
    )


def line(start: Point, end: Point, name: str) -> Node:
    """Draw a straight line; points are (x, y), as in all of SVG."""
    (x1, y1), (x2, y2) = start, end
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", {"class": name, **{k: f"{v:.1f}" for k, v in ends.items()}})


def words(at: Point, text: str, name: str, anchor: str = "start") -> Node:
    """Write words at a point (x, y) of the base line."""
    place = {"x": f"{at[0]:.1f}", "y": f"{at[1]:.1f}", "text-anchor": anchor}
    return element("text", {"class": name, **place}, text)


def box(at: Point, size: tuple[float, float], name: str, hint: str = "") -> Node:
    """Draw a rectangle from its upper left corner (x, y), with words for hovering."""
    values = {"x": at[0], "y": at[1], "width": max(size[0], 0), "height": max(size[1], 0)}
    attributes = {"class": name, **{k: f"{v:.1f}" for k, v in values.items()}}
    return element("rect", attributes, _hint(hint))


def mark(at: Point, style: int, hint: str = "", name: str = "mark") -> Node:
    """Draw the mark of a series at a point (x, y), with words for hovering."""
    style %= N_STYLES
    shape, group = SHAPES[style], f"{name} s{style}"
    x, y = at
    if shape is None:
        place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{MARK_PX:g}"}
        return element("circle", {"class": group, **place}, _hint(hint))
    corners = " ".join(f"{x + dx * MARK_PX:.1f},{y + dy * MARK_PX:.1f}" for dx, dy in shape)
    return element("polygon", {"class": group, "points": corners}, _hint(hint))


def curve(points: Sequence[Point], style: int, name: str = "curve") -> Node:
    """Draw a series as a line through points (x, y), dashed in its own way."""
    style %= N_STYLES
    attributes = {"class": f"{name} s{style}", "points": _join(points)}
    if DASHES[style]:
        attributes["stroke-dasharray"] = DASHES[style]
    return element("polyline", attributes)


def band(lower: Sequence[Point], upper: Sequence[Point], style: int) -> Node:
    """Fill the interval between two lines of points (x, y)."""
    points = [*lower, *reversed(upper)]
    return element("polygon", {"class": f"band s{style % N_STYLES}", "points": _join(points)})


def draw_legend(names: Mapping[int, str]) -> Node:
    """Name the series by their styles, each beside its mark; a list in HTML, so that it wraps."""
    items = []
    for style, name in names.items():
        sample = element(
            "svg",
            {"class": "key", "viewBox": "0 0 26 12", "aria-hidden": "true"},
            curve([(1, 6), (25, 6)], style),
            mark((13, 6), style),
        )
        items.append(element("li", {}, sample, name))
    return element("ul", {"class": "legend"}, *items)


def figure(plot: Node, caption: str, *more: Content) -> Node:
    """Set a plot with its caption; legends and tables may follow the plot."""
    return element("figure", {}, plot, *more, element("figcaption", {}, caption))


def _hint(text: str) -> Node | None:
    """Words that show on hovering."""
    return element("title", {}, text) if text else None


def _join(points: Iterable[Point]) -> str:
    """Write points as SVG wants them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
