"""Axes, marks and tables of the report, and the files it reads besides the run."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from eval.report_inputs import read_routing, read_timing, tolerance_s
from eval.report_markup import Column, element, format_interval, format_number, table, to_html
from eval.report_router import build_router
from eval.report_sizes import recall_intervals
from eval.report_svg import (
    N_STYLES,
    SHAPES,
    Frame,
    linear_axis,
    log_axis,
    mark,
    name_compact,
)
from eval.report_time import build_time
from eval.run_file import CellSize
from tests.eval.test_report_examples import image_of


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (0.2, 7.3), (-3, 12), (0, 123456)])
def test_linear_axes_cover_their_range_with_even_round_ticks(low, high):
    axis = linear_axis("", low, high)
    assert axis.low <= low
    assert axis.high >= high
    steps = np.diff(axis.ticks)
    assert np.allclose(steps, steps[0])
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert round(mantissa, 6) in (1, 2, 5)
    assert 2 <= len(axis.ticks) <= 8


@pytest.mark.parametrize("values", [[1], [3, 90], [0.004, 2e6], [1000, 1000], [], [0, -2]])
def test_log_axes_cover_their_values(values):
    axis = log_axis("", values)
    assert 0 < axis.low < axis.high
    assert {axis.low, axis.high} <= set(axis.ticks)
    for value in values:
        assert value <= 0 or axis.low <= value * (1 + 1e-9) <= axis.high * (1 + 1e-8)
    assert 2 <= len(axis.ticks) <= 12


def test_equal_ratios_are_equal_steps_on_a_log_axis():
    axis = log_axis("", [1, 1000])
    shares = [axis.share(v) for v in (1, 10, 100, 1000)]
    assert shares == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert axis.share(1e9) == 1
    assert axis.share(0) == 0


def test_a_frame_counts_upwards():
    frame = Frame(linear_axis("", 0, 1), linear_axis("", 0, 1))
    assert frame.at_x(0) < frame.at_x(1) <= frame.width
    assert frame.at_y(1) < frame.at_y(0) <= frame.height


def test_series_differ_without_colour():
    assert len(set(SHAPES)) == N_STYLES
    drawn = {to_html(mark((5, 5), style)).split("points")[-1] for style in range(N_STYLES)}
    assert len(drawn) == N_STYLES


@pytest.mark.parametrize(
    ("value", "words"), [(2000, "2k"), (5e7, "50M"), (1, "1"), (0.5, "0.5"), (3e9, "3G")]
)
def test_large_values_are_named_short(value, words):
    assert name_compact(value) == words


def test_figures_that_are_not_known_are_a_dash():
    assert format_number(None) == format_number(float("nan")) == "\N{EN DASH}"
    assert format_number(-0.12345) == "\N{MINUS SIGN}0.123"
    assert format_number(1234567, 0) == "1\u202f234\u202f567"
    assert format_interval(0.1, None) == "\N{EN DASH}"
    assert format_interval(0.1, 0.25, 2) == "0.10\N{EN DASH}0.25"


def test_text_is_escaped_and_cleaned():
    node = element("p", {"title": '"<&\u202e'}, "<b>", element("i", {}, "&"), "\x00\ud800\ttail")
    html = to_html(node)
    assert html == ('<p title="&quot;<&amp;\ufffd">&lt;b&gt;<i>&amp;</i>\ufffd\ufffd\ttail</p>')
    assert html.encode("utf-8")


def test_a_table_names_its_rows_and_refuses_ragged_ones():
    columns = [Column("Name", is_number=False), Column("F1")]
    html = to_html(table("Scores", columns, [["a", "0.5"]]))
    assert '<th scope="row">a</th><td class="n">0.5</td>' in html
    with pytest.raises(ValueError, match="argument"):
        table("Scores", columns, [["a"]])


def test_recall_by_size_draws_whole_images():
    found = tuple(CellSize(10.0, found=True) for _ in range(50))
    lost = tuple(CellSize(10.0, found=False) for _ in range(50))
    images = [
        replace(image_of("a", 1, 0, 0), sizes=found),
        replace(image_of("b", 1, 0, 0), sizes=lost),
    ]
    low_px = np.array([0.0, 8.0, 16.0, 32.0])
    recall = recall_intervals(images, low_px)
    assert recall[1].tolist() == [0.5, 0, 1]  # as if there were two cells, not a hundred
    assert np.isnan(recall[[0, 2]]).all()
    even = recall_intervals([replace(images[0], sizes=found + lost)] * 3, low_px)
    assert even[1].tolist() == [0.5, 0.5, 0.5]


def process(system, image, real_s, **changes):
    plain = {
        "system": system,
        "image": image,
        "height": 1000,
        "width": 2000,
        "repeat": 0,
        "real_s": real_s,
        "rank_s": max(0, real_s - 20),
        "exit_code": 0,
        "peak_host_mib": 512.0,
        "peak_gpu_mib": None,
        "gpu_mib_s": None,
        "stages": None,
    }
    return plain | changes


def read_processes(folder, *processes):
    path = folder / "runtime.json"
    machine = {"processor": "P", "cores": 2, "gpu": "", "memory_gib": 8.0}
    plain = {"format": 1, "created": "now", "commit": "c", "machine": machine, "runs": processes}
    path.write_text(json.dumps(plain))
    return read_timing(path)


def text_of(node):
    return " ".join(" ".join(node.itertext()).split())


def test_the_tolerance_grows_beyond_a_megapixel():
    assert [tolerance_s(n) for n in (1, 1_000_000, 2_500_000)] == [10, 10, 25]


def test_failed_processes_are_counted_and_not_timed(tmp_path):
    timing = read_processes(
        tmp_path,
        process("ours", "a", 10.0),
        process("ours", "b", 24.0),
        process("ours", "c", 500.0, exit_code=1),
        process("peer", "a", 30.0),
        process("peer", "b", 36.0),
    )
    said = text_of(build_time(timing))
    assert "P, 2 cores, 8 GiB, no GPU" in said
    # System, images, failed, median, 90 %, longest, s a Mpx, beyond, rank s, host MiB
    assert "ours 3 1 17.00 22.60 24.00 8.50 1 of 2 4.00 512" in said
    assert "peer / ours 2 2.25 1.50\N{EN DASH}3.00 1.50 3.00" in said
    assert "3 of 4 processes are above it" in said
    assert "Stages are not known" in said


def test_stages_are_medians_by_size_of_image(tmp_path):
    timing = read_processes(
        tmp_path,
        process("ours", "a", 3.0, stages={"imports": 1, "network": 2}),
        process("ours", "b", 5.0, stages={"imports": 2, "network": 4}),
        process("ours", "c", 1.0, height=10, stages={"imports": 1, "network": 0.25}),
    )
    said = text_of(build_time(timing))
    assert "ours, beyond 1 Mpx 1.50 3.00 4.50" in said
    assert "ours, up to 1 Mpx 1.00 0.25 1.25" in said


def test_gpu_memory_is_shown_against_the_limit_where_it_was_measured(tmp_path):
    timing = read_processes(tmp_path, process("ours", "a", 3.0, peak_gpu_mib=2048.0))
    assert "peak GPU memory" in text_of(build_time(timing))
    host = read_processes(tmp_path, process("ours", "a", 3.0))
    assert "peak host memory" in text_of(build_time(host))
    unknown = read_processes(tmp_path, process("ours", "a", 3.0, peak_host_mib=None))
    assert "Memory was not measured" in text_of(build_time(unknown))


def test_nothing_but_failures_is_no_plot(tmp_path):
    said = text_of(build_time(read_processes(tmp_path, process("ours", "a", 3.0, exit_code=1))))
    assert "ours 1 1 \N{EN DASH}" in said
    assert "has no image" in text_of(build_time(read_processes(tmp_path)))


def test_a_process_without_its_time_is_refused(tmp_path):
    broken = process("ours", "a", 3.0)
    del broken["real_s"]
    with pytest.raises(ValueError, match=r"runtime\.json: no runtime file .*no 'real_s'"):
        read_processes(tmp_path, broken)


def test_the_confusion_table_counts_rows_and_shades_by_their_share(tmp_path):
    path = tmp_path / "router.json"
    counts = {"phase": {"phase": 8, "dic": 2}, "dic": {"phase": 0, "dic": 0}}
    matrix = {"images": 10, "right": 0.8, "counts": counts}
    plain = {"modality": matrix, "expert": matrix, "errors": {}}
    path.write_text(json.dumps(plain))
    routing = read_routing(path)
    assert (routing.modality.n_right, routing.modality.n_images) == (8, 10)
    section = build_router(routing)
    assert "phase 8 2 0.800 dic 0 0 \N{EN DASH}" in text_of(section)
    assert "No image went astray" in text_of(section)
    cells = [n.get("class") for n in section.iter("span")][:4]
    assert cells == ["cell h4 right", "cell h1", "cell h0", "cell h0 right"]
