"""Two runs side by side: differences by group, and image by image."""

from collections.abc import Sequence

import numpy as np

from eval.compare import Comparison, GroupChange, ImageChange, compare_runs
from eval.report_markup import (
    Column,
    Content,
    Node,
    absent,
    details,
    element,
    format_number,
    paragraph,
    section,
    table,
)
from eval.report_scores import list_modalities, name_group
from eval.report_svg import (
    UNIT_TICKS,
    Axis,
    Frame,
    box,
    draw_legend,
    draw_plot,
    figure,
    line,
    linear_axis,
    mark,
)
from eval.run_file import Run

N_LISTED = 10  # images that changed most, either way
N_BINS = 21  # of the histogram of differences; odd, so that one bin is "no change"
REACHES = (0.1, 0.2, 0.5, 1.0)  # half widths of that histogram
SIDE = 480  # of both plots
GROUP_COLUMNS = (
    Column("Group", is_number=False),
    Column("Images"),
    Column("Other", hint="mean F1 of the other run"),
    Column("This run", hint="mean F1 of this run"),
    Column("Difference"),
    Column("95 %", hint="paired bootstrap interval of the mean difference over images"),
    Column("p", hint="Wilcoxon's signed-rank test, corrected after Holm"),
    Column("Verdict", is_number=False),
)
VERDICTS = {
    "better": ("better", "▲ better"),
    "worse": ("worse", "▼ worse"),
    "same": ("small", "within noise"),
}


def build_comparison(run: Run, other: Run | None) -> Node:
    """Build the section that compares a run with another one.

    Parameters
    ----------
    run : Run
        The report's own.
    other : Run or None
        None gives a line that says what is missing.

    Returns
    -------
    Element
        The section; runs that cannot be compared give a line that says why.
    """
    title = "Comparison"
    if other is None:
        return section("comparison", title, absent("One run only: no --against file was given."))
    try:
        found = compare_runs(other, run)
    except ValueError as error:
        said = f"{run.system} and {other.system} cannot be compared: {error}."
        return section("comparison", title, absent(said))
    n_alone = len(found.only_a) + len(found.only_b)
    alone = f" {n_alone} images are in one run only and left out." if n_alone else ""
    lead = (
        f"This run, {run.system} ({run.commit}), against {other.system} ({other.commit}) on the "
        f"{len(found.images)} images of both, at IoU ≥ {found.iou_min:g}.{alone} Beyond noise "
        "means: the interval leaves 0 out, and the corrected p is below 0.05."
    )
    datasets = [group for group in found.groups if group.kind == "dataset"]
    means = [group for group in found.groups if group.kind != "dataset"]
    by_gain = sorted(found.images, key=lambda image: image.difference)
    return section(
        "comparison",
        title,
        paragraph(lead),
        _group_table("Mean F1 by modality, this run minus the other", means),
        details("By data set", _group_table("Mean F1 by data set", datasets)) if datasets else None,
        element("div", {"class": "pair"}, _draw_both(run, found), _draw_gains(found.images)),
        element(
            "div",
            {"class": "pair"},
            _change_table("Gained most", [i for i in reversed(by_gain) if i.difference > 0]),
            _change_table("Lost most", [i for i in by_gain if i.difference < 0]),
        ),
    )


def _group_table(caption: str, groups: Sequence[GroupChange]) -> Node:
    """Build the table of differences."""
    rows: list[list[Content]] = []
    for group in groups:
        name = name_group(group.name) + (" †" if group.apart else "")
        p_value = "< 0.001" if group.p_adjusted < 0.001 else format_number(group.p_adjusted)
        style, verdict = VERDICTS[group.verdict]
        rows.append(
            [
                element("span", {"class": f"is-{group.kind}"}, name),
                format_number(group.n_images, 0),
                format_number(group.a_mean),
                format_number(group.b_mean),
                _signed(group.difference),
                f"{_signed(group.low)} to {_signed(group.high)}",
                p_value,
                element("span", {"class": style}, verdict),
            ]
        )
    return table(caption, GROUP_COLUMNS, rows)


def _draw_both(run: Run, found: Comparison) -> Node:
    """Draw F1 in both runs, image by image."""
    known = [name_group(s.name) for s in list_modalities(run)]
    names = list(dict.fromkeys([*known, *(i.modality or "unknown" for i in found.images)]))
    x, y = Axis("F1, other run", 0, 1, UNIT_TICKS), Axis("F1, this run", 0, 1, UNIT_TICKS)
    frame = Frame(x, y, SIDE, SIDE)
    marks, shown = [], set()
    for image in found.images:
        style = names.index(image.modality or "unknown")
        hint = f"{image.key.lstrip('/')}: {image.b:.3f}, other {image.a:.3f}"
        marks.append(mark((frame.at_x(image.a), frame.at_y(image.b)), style, hint))
        shown.add(style)
    n_better = sum(image.difference > 0 for image in found.images)
    n_worse = sum(image.difference < 0 for image in found.images)
    said = f"{n_better} images are better in this run, {n_worse} worse, of {len(found.images)}"
    plot = draw_plot(
        "both",
        (SIDE, SIDE),
        "F1 of each image in both runs",
        said,
        frame.draw_axes(),
        line((frame.at_x(0), frame.at_y(0)), (frame.at_x(1), frame.at_y(1)), "limit"),
        *marks,
    )
    caption = f"Each image in both runs; above the line this run is better. {said}."
    return figure(plot, caption, draw_legend({i: names[i] for i in sorted(shown)}))


def _draw_gains(images: Sequence[ImageChange]) -> Node:
    """Draw a histogram of the differences."""
    gains = np.array([image.difference for image in images])
    reach = next(r for r in REACHES if np.abs(gains).max() <= r or r == REACHES[-1])
    counts, edges = np.histogram(gains, N_BINS, (-reach, reach))
    ticks = tuple(round(reach * share, 3) for share in (-1, -0.5, 0, 0.5, 1))
    x = Axis("F1, this run minus other", -reach, reach, ticks)
    frame = Frame(x, linear_axis("images", 0, int(counts.max())), SIDE, SIDE)
    bars: list[Content] = []
    for n, low, high in zip(counts.tolist(), edges, edges[1:], strict=False):
        left, right, top = frame.at_x(low) + 1, frame.at_x(high) - 1, frame.at_y(n)
        hint = f"{low:+.3f} to {high:+.3f}: {n} images"
        if n:
            bars.append(box((left, top), (right - left, frame.at_y(0) - top), "bar s0", hint))
    plot = draw_plot(
        "gains",
        (SIDE, SIDE),
        "Histogram of the differences of F1",
        f"{len(gains)} differences from {gains.min():+.3f} to {gains.max():+.3f}",
        frame.draw_axes(),
        *bars,
        line((frame.at_x(0), frame.top), (frame.at_x(0), frame.at_y(0)), "limit"),
    )
    return figure(plot, "How much the images changed; right of the line this run is better.")


def _change_table(caption: str, images: Sequence[ImageChange]) -> Node:
    """List the images that changed most one way."""
    if not images:
        return absent(f"{caption}: no image.")
    names = ("Image", "Other", "This run", "Difference")
    columns = [Column(name, is_number=i > 0) for i, name in enumerate(names)]
    rows = [
        [i.key.lstrip("/"), format_number(i.a), format_number(i.b), _signed(i.difference)]
        for i in images[:N_LISTED]
    ]
    return table(caption, columns, rows, "names")


def _signed(value: float) -> str:
    """Format a difference with its sign."""
    return ("+" if value > 0 else "") + format_number(value)
