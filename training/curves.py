"""Curves over training steps as an SVG picture, one panel a curve."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, PANEL_HEIGHT, MARGIN = 640, 200, 48
N_TICKS = 4
COLOURS = ("#1f6f8b", "#b5482a", "#4f7d2c", "#6b4c9a")

Points = Sequence[tuple[float, float]]


def draw_curves(title: str, curves: Mapping[str, Points]) -> str:
    """Draw curves below each other over a common axis of steps.

    Parameters
    ----------
    title : str
        Above the panels.
    curves : mapping of str to sequence of (step, value)
        One panel each, named; values that are not finite are left out. An empty curve gives an
        empty panel.

    Returns
    -------
    str
        An SVG document.
    """
    height = PANEL_HEIGHT * len(curves) + MARGIN
    last = max((step for points in curves.values() for step, _ in points), default=1.0)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">'
    )
    parts = [
        head,
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for i, (name, points) in enumerate(curves.items()):
        finite = [(x, y) for x, y in points if math.isfinite(y)]
        colour = COLOURS[i % len(COLOURS)]
        parts += _draw_panel(name, finite, MARGIN + i * PANEL_HEIGHT, (last, colour))
    return "\n".join([*parts, "</svg>\n"])


def _draw_panel(name: str, points: Points, top: float, style: tuple[float, str]) -> list[str]:
    """Draw one curve with its frame and ticks; ``style`` is the last step and the colour."""
    last, colour = style
    left, right = MARGIN + 12.0, WIDTH - 16.0
    bottom = top + PANEL_HEIGHT - MARGIN
    low = min((y for _, y in points), default=0.0)
    high = max((y for _, y in points), default=1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (right - left) * x / max(last, 1.0)
        return across, bottom - (bottom - top) * (y - low) / (high - low)

    size = f'width="{right - left}" height="{bottom - top}"'
    parts = [
        f'<rect x="{left}" y="{top}" {size} fill="none" stroke="#999"/>',
        f'<text x="{left}" y="{top - 6}" fill="{colour}">{escape(name)}</text>',
    ]
    for i in range(N_TICKS + 1):
        share = i / N_TICKS
        x, y = place(last * share, low + (high - low) * share)
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{last * share:.0f}'
            "</text>"
        )
        parts.append(
            f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">'
            f"{low + (high - low) * share:.3g}</text>"
        )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for x, y in (place(*point) for point in points[-1:]):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    return parts
