"""The scores of one run: headline figures, tables by group, means with intervals, error kinds."""

import re
from collections.abc import Sequence

from eval.report_markup import (
    Column,
    Content,
    Node,
    absent,
    details,
    element,
    format_interval,
    format_number,
    paragraph,
    section,
    table,
)
from eval.report_svg import (
    ALL_STYLE,
    UNIT_TICKS,
    Axis,
    Frame,
    curve,
    draw_legend,
    draw_plot,
    figure,
    line,
    linear_axis,
    mark,
    words,
)
from eval.run_file import Run, RunSummary

ROW_PX = 26  # height of a row of the plot of means
SCORE_COLUMNS = (
    Column("Group", is_number=False),
    Column("Images"),
    Column("Missing", hint="images without a usable prediction; their cells count as missed"),
    Column("Cells", hint="true cells that are scored"),
    Column("Mean F1"),
    Column("95 %", hint="bootstrap interval of the mean over images"),
    Column("Median"),
    Column("95 %", hint="bootstrap interval of the median over images"),
    Column("Precision"),
    Column("Recall"),
    Column("Dice"),
    Column("iDice", hint="mean Dice over instances (mInstDice)"),
    Column("AJI", hint="aggregated Jaccard index"),
    Column("PQ", hint="panoptic quality"),
    Column("AP", hint="TP / (TP + FP + FN), mean over IoU 0.5 to 0.95"),
)
ERROR_COLUMNS = (
    Column("Group", is_number=False),
    Column("True cells"),
    *(
        Column(f"{kind}{per}")
        for kind in ("Split", "Merged", "Missed", "Invented")
        for per in ("", " / 100")
    ),
)


def name_group(name: str) -> str:
    """Name a group as the tables show it."""
    return "all images" if name == "all" else name


def list_modalities(run: Run) -> list[RunSummary]:
    """List the groups that are modalities; their place is their style in every plot."""
    return [line for line in run.summaries if line.kind == "modality"]


def build_headline(run: Run) -> Node:
    """Build the few figures that everything else explains.

    Parameters
    ----------
    run : Run
        Without images it has no figures, and says so.

    Returns
    -------
    Element
        A list of terms and values.
    """
    try:
        total = run.summary("all")
    except KeyError:
        return absent("No image was scored that counts in the means.")
    missing = f"{total.n_missing} without a prediction" if total.n_missing else "none missing"
    n_apart = len(run.images) - total.n_images
    if n_apart:
        missing += f", {n_apart} more apart"
    facts = (
        (
            "Mean F1",
            format_number(total.f1_mean),
            format_interval(total.f1_mean_low, total.f1_mean_high),
        ),
        (
            "Median F1",
            format_number(total.f1_median),
            format_interval(total.f1_median_low, total.f1_median_high),
        ),
        ("Precision", format_number(total.precision_mean), "mean over images"),
        ("Recall", format_number(total.recall_mean), "mean over images"),
        ("Images", format_number(total.n_images, 0), missing),
        ("True cells", format_number(total.n_cells, 0), "scored"),
    )
    tiles = [
        element(
            "div",
            {"class": "tile"},
            element("dt", {}, name),
            element("dd", {"class": "value"}, value),
            element("dd", {"class": "small"}, note),
        )
        for name, value, note in facts
    ]
    return element("dl", {"class": "tiles"}, *tiles)


def build_scores(run: Run) -> Node:
    """Build the section with the tables by modality and data set, and the plot of means.

    Parameters
    ----------
    run : Run
        Its summaries are shown as they are.

    Returns
    -------
    Element
        The section.
    """
    threshold = run.thresholds[0] if run.thresholds else 0.5
    means = [s for s in run.summaries if s.kind in ("modality", "all")]
    datasets = [s for s in run.summaries if s.kind == "dataset"]
    lead = (
        f"Means are over images, at IoU ≥ {threshold:g}; intervals are 95 % bootstrap intervals "
        "over images."
    )
    if not means:
        return section("scores", "Scores", absent("The run has no image that counts in a mean."))
    apart = any(s.apart for s in datasets)
    return section(
        "scores",
        "Scores",
        paragraph(lead),
        _draw_means(means, threshold),
        _score_table("Scores by modality", means, "scores"),
        _score_table("Scores by data set", datasets, "scores datasets") if datasets else None,
        paragraph("† Reported on its own: other cells are annotated there; in no mean.", "small")
        if apart
        else None,
        _draw_thresholds(run, means) if len(run.thresholds) > 1 else None,
        _list_problems(run),
    )


def build_errors(run: Run) -> Node:
    """Build the section on what goes wrong: split, merged, missed and invented cells.

    Parameters
    ----------
    run : Run
        Its summaries are shown as they are.

    Returns
    -------
    Element
        The section.
    """
    rows = []
    for summary in run.summaries:
        if summary.kind == "dataset":
            continue
        errors = summary.errors
        cells: list[Content] = [_group_cell(summary), format_number(summary.n_cells, 0)]
        for n in (errors.split, errors.merged, errors.missed, errors.invented):
            share = 100 * n / summary.n_cells if summary.n_cells else None
            cells += [format_number(n, 0), format_number(share, 1)]
        rows.append(cells)
    lead = (
        "A true cell that several predictions share is split; one prediction over several true "
        "cells has merged them; what is left unmatched is missed or invented."
    )
    return section(
        "errors",
        "Kinds of errors",
        paragraph(lead),
        table("Errors by kind, and for each 100 true cells", ERROR_COLUMNS, rows),
    )


def _group_cell(summary: RunSummary) -> Node:
    """Name a row; the class tells the style sheet what kind of group it is."""
    name = name_group(summary.name) + (" †" if summary.apart else "")
    # Long names of data sets may break after a stroke, not in the middle of a word.
    first, *others = re.split(r"(?<=[/_])", name)
    breakable = (part for piece in others for part in (element("wbr"), piece))
    return element("span", {"class": f"is-{summary.kind}"}, first, *breakable)


def _score_table(caption: str, summaries: Sequence[RunSummary], name: str) -> Node:
    """Build a table with a row a group."""
    rows = []
    for s in summaries:
        f1 = [
            format_number(s.f1_mean),
            format_interval(s.f1_mean_low, s.f1_mean_high),
            format_number(s.f1_median),
            format_interval(s.f1_median_low, s.f1_median_high),
        ]
        others = (
            s.precision_mean,
            s.recall_mean,
            s.dice_mean,
            s.inst_dice_mean,
            s.aji_mean,
            s.pq_mean,
            s.ap_mean,
        )
        row: list[Content] = [_group_cell(s)]
        row += [format_number(n, 0) for n in (s.n_images, s.n_missing, s.n_cells)]
        rows.append([*row, *f1, *map(format_number, others)])
    return table(caption, SCORE_COLUMNS, rows, name)


def _draw_means(summaries: Sequence[RunSummary], threshold: float) -> Node:
    """Draw mean and median F1 of each group, with the mean's interval."""
    height = 44 + ROW_PX * len(summaries)
    rows = Axis("", 0, len(summaries), ())
    frame = Frame(_f1_axis("F1"), rows, 960, height, left=150, top=6, bottom=38)
    parts: list[Content] = [frame.draw_axes()]
    said = []
    for i, s in enumerate(summaries):
        y = frame.at_y(len(summaries) - i - 0.5)
        start, end = frame.at_x(s.f1_mean_low), frame.at_x(s.f1_mean_high)
        hint = f"{name_group(s.name)}: mean {s.f1_mean:.3f}, median {s.f1_median:.3f}"
        at_median = frame.at_x(s.f1_median)
        style = _style_of(i, s)
        parts += [
            words((frame.left - 12, y + 4), name_group(s.name), f"row is-{s.kind}", "end"),
            line((start, y), (end, y), f"interval s{style}"),
            line((start, y - 5), (start, y + 5), f"interval s{style}"),
            line((end, y - 5), (end, y + 5), f"interval s{style}"),
            line((at_median, y - 8), (at_median, y + 8), "median"),
            mark((frame.at_x(s.f1_mean), y), style, hint, "mark big"),
        ]
        said.append(hint)
    plot = draw_plot(
        "means", (960, height), "Mean and median F1 of each group", "; ".join(said), *parts
    )
    caption = "mean (mark) with its 95 % interval, median (upright line)."
    return figure(plot, f"F1 at IoU ≥ {threshold:g}: {caption}")


def _draw_thresholds(run: Run, summaries: Sequence[RunSummary]) -> Node:
    """Draw mean F1 of each group against the threshold."""
    thresholds = sorted(run.thresholds)
    x = linear_axis("smallest IoU of a match", thresholds[0], thresholds[-1])
    frame = Frame(x, _f1_axis("mean F1"), 960, 320)
    parts: list[Content] = [frame.draw_axes()]
    rows = []
    for i, s in enumerate(summaries):
        known = {t: s.f1_means[repr(t)] for t in thresholds if repr(t) in s.f1_means}
        rows.append([name_group(s.name), *(format_number(known.get(t)) for t in thresholds)])
        points = [(frame.at_x(t), frame.at_y(v)) for t, v in known.items()]
        parts.append(curve(points, _style_of(i, s)))
        parts += [mark(point, _style_of(i, s)) for point in points]
    said = f"From IoU {thresholds[0]:g} to {thresholds[-1]:g}; the table below has the figures."
    plot = draw_plot("thresholds", (960, 320), "Mean F1 against the threshold", said, *parts)
    columns = [Column("Group", is_number=False), *(Column(f"{t:g}") for t in thresholds)]
    return figure(
        plot,
        "Mean F1 against the smallest IoU that counts as a match.",
        draw_legend({_style_of(i, s): name_group(s.name) for i, s in enumerate(summaries)}),
        details("Figures", table("Mean F1 by threshold", columns, rows)),
    )


def _list_problems(run: Run) -> Node | None:
    """List the images that have no score of their own, and why."""
    said = [(i.key, f"all cells count as missed: {i.problem}") for i in run.images if i.problem]
    said += [
        (f"{u.modality}/{u.dataset}/{u.name}", f"not scored: {u.problem}") for u in run.unscored
    ]
    if not said:
        return None
    items = [element("li", {}, element("b", {}, key.lstrip("/")), f": {why}") for key, why in said]
    title = f"{len(said)} images with a problem"
    return details(title, element("ul", {"class": "problems"}, *items))


def _style_of(place: int, summary: RunSummary) -> int:
    """Give the style of a group: that of its modality, or the one kept for all together."""
    return ALL_STYLE if summary.kind == "all" else place % ALL_STYLE


def _f1_axis(label: str) -> Axis:
    """Make the axis that every F1 is drawn along."""
    return Axis(label, 0, 1, UNIT_TICKS)
