"""How the F1 of images is distributed, and how it depends on the size of the cells."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
from eval.report_scores import list_modalities
from eval.report_svg import (
    ALL_STYLE,
    UNIT_TICKS,
    Axis,
    Frame,
    band,
    box,
    curve,
    draw_legend,
    draw_plot,
    figure,
    line,
    log_axis,
    mark,
    words,
)
from eval.run_file import Run, RunImage, SizeBin

N_BINS = 20  # of F1 in a histogram
ROW_PX = 62  # height of one histogram
N_DRAWS = 1000  # of the bootstrap over images
SEED = 20221

Values = NDArray[np.float64]


def name_modality(image: RunImage) -> str:
    """Name the modality of an image as the summaries do."""
    return image.modality or "unknown"


def build_distribution(run: Run) -> Node:
    """Build the section with a histogram of the images' F1 for each modality.

    Parameters
    ----------
    run : Run
        Its first threshold is the one shown.

    Returns
    -------
    Element
        The section.
    """
    threshold = run.thresholds[0] if run.thresholds else 0.5
    groups = _group_images(run)
    if not groups:
        return section("distribution", "Distribution of F1", absent("The run has no image."))
    scores = {
        name: np.array([image.f1_at(threshold) for image in images])
        for name, images in groups.items()
    }
    columns = [Column("Modality", is_number=False), Column("Images"), Column("F1 = 0")]
    columns += [Column(f"{p} %", hint="percentile of F1") for p in (10, 25, 50, 75, 90)]
    rows = []
    for name, values in scores.items():
        low = np.percentile(values, (10, 25, 50, 75, 90))
        zeros = format_number(int((values == 0).sum()), 0)
        rows.append([name, format_number(len(values), 0), zeros, *map(format_number, low)])
    return section(
        "distribution",
        "Distribution of F1",
        _draw_histograms(scores),
        details("Figures", table("Percentiles of the images' F1", columns, rows)),
    )


def build_sizes(run: Run) -> Node:
    """Build the section on F1 and recall against the diameter of the cells.

    Parameters
    ----------
    run : Run
        Pooled cells come from its summaries, intervals from its images.

    Returns
    -------
    Element
        The section.
    """
    bins = _all_bins(run)
    if not bins or not any(image.sizes for image in run.images):
        return section("sizes", "Size of the cells", absent("The run has no true cells."))
    groups = {s.name: s.by_size for s in list_modalities(run) if s.by_size}
    modalities = [s.name for s in list_modalities(run)]
    edges = [b.low_px for b in bins] + [bins[-1].high_px]
    x = log_axis("diameter of the cell, px", [_middle(b) for b in bins])
    recall = recall_intervals(_counted_images(run), np.array(edges))
    return section(
        "sizes",
        "Size of the cells",
        paragraph("Diameters are those of discs of the cells' area, in pixels of the image."),
        element(
            "div",
            {"class": "pair"},
            _draw_f1_by_size(groups, modalities, x),
            _draw_recall_by_size(bins, recall, x),
        ),
        _draw_images_by_size(run, modalities),
        details("Figures", _size_table(bins, recall)),
    )


def _group_images(run: Run) -> dict[str, list[RunImage]]:
    """Group the images that count in the means by modality, in the order of the tables."""
    groups: dict[str, list[RunImage]] = {s.name: [] for s in list_modalities(run)}
    for image in _counted_images(run):
        groups.setdefault(name_modality(image), []).append(image)
    return {name: images for name, images in groups.items() if images}


def _counted_images(run: Run) -> list[RunImage]:
    """List the images that are in the means: not those of data sets reported on their own."""
    apart = {s.name for s in run.summaries if s.apart}
    return [i for i in run.images if f"{i.modality}/{i.dataset}" not in apart]


def _draw_histograms(scores: dict[str, Values]) -> Node:
    """Draw one histogram a modality, one above the other, over a common axis."""
    height = 40 + ROW_PX * len(scores)
    x = Axis("F1 of an image", 0, 1, UNIT_TICKS)
    rows = Axis("", 0, len(scores), ())
    frame = Frame(x, rows, 960, height, left=150, right=80, top=4, bottom=36)
    parts: list[Content] = [frame.draw_axes()]
    said = []
    for i, (name, values) in enumerate(scores.items()):
        base = frame.at_y(len(scores) - i - 1)
        counts, edges = np.histogram(values, N_BINS, (0, 1))
        for n, low, high in zip(counts, edges, edges[1:], strict=False):
            tall = (ROW_PX - 16) * n / max(counts.max(), 1)
            left, right = frame.at_x(low) + 1, frame.at_x(high) - 1
            hint = f"{name}, F1 {low:.2f} to {high:.2f}: {n} images"
            if n:
                parts.append(box((left, base - tall), (right - left, tall), f"bar s{i}", hint))
        median = float(np.median(values))
        at = frame.at_x(median)
        said.append(f"{name}: {len(values)} images, median {median:.3f}")
        parts += [
            line((frame.left, base), (frame.width - frame.right, base), "axis"),
            line((at, base - ROW_PX + 12), (at, base), "median"),
            words((frame.left - 12, base - 20), name, "row", "end"),
            words((frame.left - 12, base - 4), f"{len(values)} images", "tick", "end"),
            words((frame.width - frame.right + 8, base - 4), f"max {counts.max()}", "tick"),
        ]
    plot = draw_plot(
        "histograms", (960, height), "Histograms of F1 by modality", "; ".join(said), *parts
    )
    caption = "Number of images by F1, in steps of 0.05; each row has its own height, with the "
    return figure(plot, caption + "tallest bar's number at its right. Upright line: median.")


def _all_bins(run: Run) -> list[SizeBin]:
    """Give the size bins of all images; the last one gets an upper end to be drawn at."""
    try:
        bins = list(run.summary("all").by_size)
    except KeyError:
        return []
    if bins and not bins[-1].high_px:
        last = bins[-1]
        bins[-1] = SizeBin(last.low_px, _open_end(last.low_px), last.tp, last.fp, last.fn)
    return bins


def _open_end(low_px: float) -> float:
    """Give the last bin, which has no upper end, the width of a doubling."""
    return 2 * max(low_px, 1.0)


def _middle(size: SizeBin) -> float:
    """Place a bin: the geometric mean of its ends."""
    high = size.high_px or _open_end(size.low_px)
    return float(np.sqrt(max(size.low_px, high / 4, 1.0) * high))


def _draw_f1_by_size(
    groups: dict[str, tuple[SizeBin, ...]], modalities: Sequence[str], x: Axis
) -> Node:
    """Draw F1 of the pooled cells of each modality against their diameter."""
    frame = Frame(x, Axis("F1 of pooled cells", 0, 1, UNIT_TICKS))
    parts: list[Content] = [frame.draw_axes()]
    for name, bins in groups.items():
        style = modalities.index(name)
        points = [(frame.at_x(_middle(b)), frame.at_y(b.counts.f1)) for b in bins]
        parts.append(curve(points, style))
        parts += [
            mark(point, style, f"{name}, {_name_bin(b)}: F1 {b.counts.f1:.3f}, {b.tp + b.fn} cells")
            for point, b in zip(points, bins, strict=True)
        ]
    said = "F1 of cells by diameter for " + ", ".join(groups)
    plot = draw_plot("f1-size", (480, 300), "F1 against the diameter of the cells", said, *parts)
    legend = draw_legend({modalities.index(name): name for name in groups})
    return figure(plot, "F1 over the pooled cells of each size, by modality.", legend)


def _draw_recall_by_size(bins: Sequence[SizeBin], recall: Values, x: Axis) -> Node:
    """Draw the share of true cells found against their diameter, with its interval."""
    frame = Frame(x, Axis("recall", 0, 1, UNIT_TICKS))
    shown = [(b, r) for b, r in zip(bins, recall, strict=True) if not np.isnan(r).any()]

    def points(column: int) -> list[tuple[float, float]]:
        return [(frame.at_x(_middle(b)), frame.at_y(r[column])) for b, r in shown]

    marks = [
        mark(point, ALL_STYLE, f"{_name_bin(b)}: {r[0]:.3f} ({format_interval(r[1], r[2])})")
        for point, (b, r) in zip(points(0), shown, strict=True)
    ]
    said = "; ".join(f"{_name_bin(b)}: {r[0]:.2f}" for b, r in shown)
    plot = draw_plot(
        "recall-size",
        (480, 300),
        "Recall against the diameter of the cells",
        said,
        frame.draw_axes(),
        band(points(1), points(2), ALL_STYLE),
        curve(points(0), ALL_STYLE),
        *marks,
    )
    caption = "Share of the true cells that were found, all images, with its 95 % interval "
    return figure(plot, caption + "(bootstrap over images).")


def _draw_images_by_size(run: Run, modalities: Sequence[str]) -> Node:
    """Draw F1 of every image against the median diameter of its cells."""
    threshold = run.thresholds[0]
    shown = [
        (image, float(np.median([s.diameter_px for s in image.sizes])))
        for image in _counted_images(run)
        if image.sizes
    ]
    frame = Frame(
        log_axis("median diameter of the image's cells, px", [d for _, d in shown]),
        Axis("F1 of the image", 0, 1, UNIT_TICKS),
        960,
        340,
    )
    marks = [
        mark(
            (frame.at_x(diameter), frame.at_y(image.f1_at(threshold))),
            modalities.index(name_modality(image)),
            f"{image.key.lstrip('/')}: F1 {image.f1_at(threshold):.3f}, {diameter:.0f} px",
        )
        for image, diameter in shown
    ]
    plot = draw_plot(
        "image-size",
        (960, 340),
        "F1 of images against the median diameter of their cells",
        f"{len(shown)} images; the tables above have the means.",
        frame.draw_axes(),
        *marks,
    )
    caption = "Every image, by the median size of its cells."
    return figure(plot, caption, draw_legend(dict(enumerate(modalities))))


def recall_intervals(images: Sequence[RunImage], edges: Values) -> Values:
    """Measure recall in each size bin: (n_bins, 3) with 95 % interval; NaN without cells.

    Images are drawn with replacement, not cells: the cells of an image stand and fall together.
    """
    n_bins = len(edges) - 1
    found, total = np.zeros((len(images), n_bins)), np.zeros((len(images), n_bins))
    for row, image in enumerate(images):
        diameters = np.array([s.diameter_px for s in image.sizes])
        hits = np.array([s.found for s in image.sizes], bool)
        total[row] = _count(diameters, edges)
        found[row] = _count(diameters[hits], edges)
    rng = np.random.default_rng(SEED)
    shares = np.full(len(images), 1 / max(len(images), 1))
    weights = rng.multinomial(len(images), shares, N_DRAWS).astype(np.float64)
    n_found, n_total = weights @ found, weights @ total
    result = np.full((n_bins, 3), np.nan)
    for i in np.flatnonzero(total.sum(axis=0)):
        drawn = n_found[:, i][n_total[:, i] > 0] / n_total[:, i][n_total[:, i] > 0]
        known = found[:, i].sum() / total[:, i].sum()
        result[i] = (known, *np.percentile(drawn, (2.5, 97.5)))
    return result


def _count(diameters: Values, edges: Values) -> NDArray[np.int64]:
    """Count diameters in half-open bins; the last bin takes all beyond."""
    places = np.clip(np.searchsorted(edges, diameters, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(places, minlength=len(edges) - 1)


def _size_table(bins: Sequence[SizeBin], recall: Values) -> Node:
    """Build the table behind the plots."""
    names = ("Diameter", "True cells", "Found", "Invented", "Recall", "95 %", "F1")
    columns = [Column(name, is_number=i > 0) for i, name in enumerate(names)]
    rows = [
        [
            _name_bin(b),
            format_number(b.tp + b.fn, 0),
            format_number(b.tp, 0),
            format_number(b.fp, 0),
            format_number(float(r[0])),
            format_interval(float(r[1]), float(r[2])),
            format_number(b.counts.f1),
        ]
        for b, r in zip(bins, recall, strict=True)
    ]
    return table("All images by size of the cells", columns, rows)


def _name_bin(size: SizeBin) -> str:
    """Name a bin by its ends."""
    if not size.high_px:
        return f"{size.low_px:.0f} px and more"
    return f"{size.low_px:.0f} to {size.high_px:.0f} px"
