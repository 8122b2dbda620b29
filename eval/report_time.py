"""Running time and memory against the size of the image, and where the time goes."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

import numpy as np

from eval.report_inputs import TimedImage, Timing, tolerance_s
from eval.report_markup import (
    Column,
    Content,
    Node,
    absent,
    element,
    format_interval,
    format_number,
    paragraph,
    section,
    table,
)
from eval.report_svg import (
    N_STYLES,
    Axis,
    Frame,
    box,
    draw_legend,
    draw_plot,
    figure,
    line,
    linear_axis,
    log_axis,
    mark,
    words,
)
from eval.runtime_file import TOLERANCE_PX, TOLERANCE_S

GPU_LIMIT_MIB = 10 * 1024  # what the organisers' server has
N_DRAWS = 1000  # of the bootstrap over images
SEED = 20222
STAGE_ROW_PX = 34
PIXELS = "pixels of the image"
TIME_COLUMNS = (
    Column("System", is_number=False),
    Column("Images"),
    Column("Failed", hint="processes that ended with another exit code than 0"),
    Column("Median s"),
    Column("90 % s", hint="90th percentile"),
    Column("Longest s"),
    Column("s / Mpx", hint="all seconds by all megapixels"),
    Column("Beyond tolerance"),
    Column("Rank s", hint="seconds beyond the tolerance, added up"),
    Column("Host MiB", hint="highest peak"),
    Column("GPU MiB", hint="highest peak"),
    Column("GPU MiB·s", hint="area under the GPU's memory over time, median"),
)


def build_time(timing: Timing | None) -> Node:
    """Build the section on running time and memory.

    Parameters
    ----------
    timing : Timing or None
        None gives a line that says what is missing.

    Returns
    -------
    Element
        The section.
    """
    title = "Time and memory"
    if timing is None:
        return section("time", title, absent("Not measured: no --runtime file was given."))
    if not timing.images:
        return section("time", title, absent("The runtime file has no image."))
    lead = "Seconds from the start of a fresh process to its end, one image each"
    return section(
        "time",
        title,
        paragraph(f"{lead}. Machine: {timing.machine}. Commit {timing.commit}, {timing.created}."),
        table("Running time by system", TIME_COLUMNS, [_row(timing, s) for s in timing.systems]),
        _compare_systems(timing),
        draw_legend(dict(enumerate(timing.systems))),
        element("div", {"class": "pair"}, _draw_time(timing), _draw_memory(timing)),
        _build_stages(timing),
    )


def _row(timing: Timing, system: str) -> list[Content]:
    """Summarise one system; what went wrong is counted, but not timed."""
    good = timing.of(system)
    n_failed = sum(i.system == system for i in timing.images) - len(good)
    seconds = np.array([i.real_s for i in good])
    known = seconds.size > 0
    n_beyond = sum(i.rank_s > 0 for i in good)
    return [
        system,
        format_number(len({i.image for i in timing.images if i.system == system}), 0),
        format_number(n_failed, 0),
        format_number(float(np.median(seconds)) if known else None, 2),
        format_number(float(np.percentile(seconds, 90)) if known else None, 2),
        format_number(float(seconds.max()) if known else None, 2),
        format_number(seconds.sum() / sum(i.n_px for i in good) * 1e6 if known else None, 2),
        f"{n_beyond} of {len(good)}",
        format_number(sum(i.rank_s for i in good), 2),
        format_number(max(_known(i.host_mib for i in good), default=None), 0),
        format_number(max(_known(i.gpu_mib for i in good), default=None), 0),
        format_number(_median(_known(i.gpu_mib_s for i in good)), 0),
    ]


def _draw_time(timing: Timing) -> Node:
    """Draw seconds against pixels, with the tolerance."""
    good = [i for i in timing.images if i.exit_code == 0]
    x = log_axis(PIXELS, [i.n_px for i in good])
    y = log_axis("running time, s", [*(i.real_s for i in good), TOLERANCE_S, tolerance_s(x.high)])
    frame = Frame(x, y)
    corners = [v for v in (x.low, TOLERANCE_PX, x.high) if x.low <= v <= x.high]
    steps = [
        line(
            (frame.at_x(a), frame.at_y(tolerance_s(a))),
            (frame.at_x(b), frame.at_y(tolerance_s(b))),
            "limit",
        )
        for a, b in itertools.pairwise(corners)
    ]
    label = words((frame.left + 6, frame.at_y(TOLERANCE_S) - 6), "tolerance", "limit-name")
    n_beyond = sum(i.rank_s > 0 for i in good)
    said = f"{len(good)} processes, {n_beyond} of them beyond the tolerance"
    plot = draw_plot(
        "time-px",
        (480, 300),
        "Running time against pixels, with the tolerance",
        said,
        frame.draw_axes(),
        *steps,
        label,
        *_marks(frame, timing, lambda i: i.real_s, "s"),
    )
    caption = "Running time. The tolerance is 10 s up to 1 Mpx and 10 s a Mpx beyond; "
    return figure(plot, f"{caption}{n_beyond} of {len(good)} processes are above it.")


def _draw_memory(timing: Timing) -> Node:
    """Draw the peaks of memory against pixels: the GPU's where known, else the host's."""
    good = [i for i in timing.images if i.exit_code == 0]
    on_gpu = any(i.gpu_mib for i in good)
    value: Callable[[TimedImage], float | None] = (
        (lambda i: i.gpu_mib) if on_gpu else (lambda i: i.host_mib)
    )
    peaks = _known(map(value, good))
    where = "GPU" if on_gpu else "host"
    if not peaks:
        return absent("Memory was not measured.")
    top = max([*peaks, GPU_LIMIT_MIB]) if on_gpu else max(peaks)
    frame = Frame(
        log_axis(PIXELS, [i.n_px for i in good]),
        linear_axis(f"peak {where} memory, GiB", 0, top / 1024),
    )
    limit: list[Content] = []
    if on_gpu:
        y = frame.at_y(GPU_LIMIT_MIB / 1024)
        limit = [
            line((frame.left, y), (frame.width - frame.right, y), "limit"),
            words((frame.left + 6, y + 15), "challenge's limit", "limit-name"),
        ]
    said = f"{len(peaks)} peaks, from {min(peaks):.0f} to {max(peaks):.0f} MiB"

    def in_gib(timed: TimedImage) -> float | None:
        peak = value(timed)
        return None if peak is None else peak / 1024

    plot = draw_plot(
        "memory-px",
        (480, 300),
        f"Peak {where} memory against pixels",
        said,
        frame.draw_axes(),
        *limit,
        *_marks(frame, timing, in_gib, "GiB"),
    )
    return figure(plot, f"Peak memory of the {where}: {said}.")


def _marks(
    frame: Frame, timing: Timing, value: Callable[[TimedImage], float | None], unit: str
) -> list[Content]:
    """Mark every process that went well and has the value."""
    marks: list[Content] = []
    for style, system in enumerate(timing.systems):
        for timed in timing.of(system):
            v = value(timed)
            if v is not None:
                hint = f"{system}, {timed.image}: {v:.2f} {unit}, {timed.n_px / 1e6:.2f} Mpx"
                marks.append(mark((frame.at_x(timed.n_px), frame.at_y(v)), style, hint))
    return marks


def _median_stages(timing: Timing) -> dict[str, dict[str, float]]:
    """Give the median seconds of each stage, by system and size of image."""
    bars = {}
    for system in timing.systems:
        for name, is_large in (("up to 1 Mpx", False), ("beyond 1 Mpx", True)):
            known = [
                i.stages
                for i in timing.of(system)
                if i.stages and (i.n_px > TOLERANCE_PX) == is_large
            ]
            if known:
                names = dict.fromkeys(stage for stages in known for stage in stages)
                bars[f"{system}, {name}"] = {
                    stage: float(median([stages.get(stage, 0.0) for stages in known]))
                    for stage in names
                }
    return bars


def _build_stages(timing: Timing) -> Node:
    """Show where the time goes: a bar a system and size of image, and the figures."""
    bars = _median_stages(timing)
    if not bars:
        return absent("Stages are not known: no process told its profile.")
    names = list(dict.fromkeys(stage for stages in bars.values() for stage in stages))
    columns = [Column("System and size", is_number=False), *map(Column, names), Column("Sum")]
    rows = [
        [
            name,
            *(format_number(stages.get(stage), 2) for stage in names),
            format_number(sum(stages.values()), 2),
        ]
        for name, stages in bars.items()
    ]
    return element(
        "div",
        {},
        _draw_stages(bars, names),
        table("Median seconds of each stage", columns, rows),
    )


def _draw_stages(bars: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Node:
    """Draw one bar of stages for each entry."""
    height = 44 + STAGE_ROW_PX * len(bars)
    x = linear_axis("seconds", 0, max(sum(stages.values()) for stages in bars.values()), 8)
    frame = Frame(x, Axis("", 0, len(bars), ()), 960, height, left=210, top=6, bottom=38)
    parts: list[Content] = [frame.draw_axes()]
    for row, (name, stages) in enumerate(bars.items()):
        y, start = frame.at_y(len(bars) - row) + 5, 0.0
        parts.append(words((frame.left - 12, y + 16), name, "row", "end"))
        for stage, seconds in stages.items():
            left, right = frame.at_x(start), frame.at_x(start + seconds)
            parts += _stage_box(names.index(stage), stage, seconds, (left, right, y))
            start += seconds
    said = "; ".join(f"{name}: {sum(stages.values()):.2f} s" for name, stages in bars.items())
    plot = draw_plot("stages", (960, height), "Median seconds of each stage", said, *parts)
    return figure(plot, "Where the time goes: medians over the processes, in seconds.")


def _stage_box(
    place: int, stage: str, seconds: float, span: tuple[float, float, float]
) -> list[Content]:
    """Draw one stage of a bar; its name goes inside where there is room."""
    left, right, y = span
    name = f"stage t{place % (N_STYLES + 2)}"
    parts: list[Content] = [
        box((left, y), (right - left, STAGE_ROW_PX - 10), name, f"{stage}: {seconds:.2f} s")
    ]
    if right - left > 8 * len(stage):
        parts.append(words(((left + right) / 2, y + 16), stage, "inside", "middle"))
    return parts


def _compare_systems(timing: Timing) -> Node | None:
    """Compare the first system with each other one, image by image."""
    first, *others = timing.systems
    rows: list[list[Content]] = []
    for other in others:
        ratios = _ratios(timing, first, other)
        if ratios:
            values = np.array(ratios)
            draws = np.random.default_rng(SEED).choice(values, (N_DRAWS, values.size))
            low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
            rows.append(
                [
                    f"{other} / {first}",
                    format_number(values.size, 0),
                    format_number(float(np.median(values)), 2),
                    format_interval(low, high, 2),
                    format_number(float(values.min()), 2),
                    format_number(float(values.max()), 2),
                ]
            )
    if not rows:
        return None
    names = ("Ratio of seconds", "Images", "Median", "95 %", "Least", "Most")
    columns = [Column(name, is_number=i > 0) for i, name in enumerate(names)]
    return table("Running time of the systems on the same images", columns, rows)


def _ratios(timing: Timing, first: str, other: str) -> list[float]:
    """Give the ratio of median seconds for each image that both systems labelled."""
    by_image: list[dict[str, list[float]]] = [{}, {}]
    for seconds, system in zip(by_image, (first, other), strict=True):
        for timed in timing.of(system):
            seconds.setdefault(timed.image, []).append(timed.real_s)
    ours, theirs = by_image
    return [median(theirs[n]) / median(s) for n, s in ours.items() if n in theirs and median(s) > 0]


def _known(values: Iterable[float | None]) -> list[float]:
    """Keep what was measured."""
    return [v for v in values if v is not None]


def _median(values: Sequence[float]) -> float | None:
    """Give the median; None of nothing."""
    return median(values) if values else None
