import re
import xml.etree.ElementTree as ET

import pytest

from bench.baseline import compare_reports
from bench.picture import LEFT, UNITS, draw_report
from bench.rows import Failure, Report, Row
from tests.bench.test_baseline import MACHINE

SVG = "{http://www.w3.org/2000/svg}"
ROWS = tuple(
    Row(f"<{unit}>", unit, (2.0, 1.0, 4.0), unit == "ratio", bench="quick") for unit in UNITS
)


def report(*rows, failures=()):
    return Report("2026-01-01T00:00:00Z", "abc", MACHINE, {}, rows, failures)


def draw(now, before=None):
    return draw_report(now, compare_reports(now, before))


def elements(text, tag, name):
    found = ET.fromstring(text).iter(SVG + tag)
    return [node for node in found if name in (node.get("class") or "").split()]


def test_every_row_has_its_range_and_its_median():
    text = draw(report(*ROWS))
    assert len(elements(text, "circle", "s0")) == len(ROWS)
    ranges = elements(text, "line", "range")
    medians = elements(text, "circle", "s0")
    for line, disc in zip(ranges, medians, strict=True):
        assert float(line.get("x1")) < float(disc.get("cx")) < float(line.get("x2"))
    for unit in UNITS:
        assert f"quick: &lt;{unit}&gt;" in text


def test_a_unit_without_rows_has_no_panel():
    assert "memory, MiB" not in draw(report(ROWS[0]))


def test_ratios_of_which_less_is_better_have_a_panel_of_their_own():
    less = Row("own / stock", "ratio", (0.2, 0.21, 0.22), bench="slide_peer")
    more = Row("F1", "ratio", (0.9, 0.91, 0.92), True, bench="slide_peer")
    none = Row("windows left out", "ratio", (0.0,), True, bench="slide")
    text = draw(report(more, less, none))
    below_axes = [node.text for node in elements(text, "text", "label") if node.text]
    assert below_axes == ["ratio (less is better)", "ratio (more is better)"]
    left, *others = sorted(float(d.get("cx")) for d in elements(text, "circle", "s0"))
    assert left == LEFT  # nothing at all lies at the axis of a logarithmic scale
    assert len(others) == 2
    assert min(others) > LEFT


def test_the_baseline_is_drawn_beside_and_what_got_worse_is_said():
    before = report(Row("<s>", "s", (0.5, 0.5, 0.5), bench="quick"))
    text = draw(report(*ROWS), before)
    (diamond,) = elements(text, "polygon", "s3")
    (worse,) = elements(text, "text", "worse")
    assert worse.text.endswith("worse")
    first_x = float(diamond.get("points").split(",")[0])
    assert first_x < float(elements(text, "circle", "s0")[0].get("cx"))
    assert not elements(draw(report(*ROWS)), "polygon", "s3")


def test_failures_are_named_and_nothing_leaves_the_drawing():
    text = draw(report(*ROWS, failures=(Failure("other", "x" * 400),)))
    assert "other failed: xxx" in text
    root = ET.fromstring(text)
    written = [node.attrib for node in root.iter(SVG + "text")]
    ys = [float(place["y"]) for place in written if "transform" not in place]
    assert max(ys) < float(root.attrib["height"])


def test_a_run_without_any_row_is_still_a_picture():
    assert ET.fromstring(draw(report())).tag == f"{SVG}svg"


def colours(style):
    return dict(re.findall(r"\.(\w+)[^{}]*\{[^{}]*?(?:fill|stroke): (#\w{6})", style))


def luminance(colour):
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_words_and_marks_stand_out_in_both_modes(mode):
    text = draw(report(*ROWS))
    style = text[text.index("<style>") : text.index("</style>")]
    light, dark = style.split("@media")
    found = colours(light) | (colours(dark) if mode == "dark" else {})
    ground = luminance(found["ground"])
    for name in ("soft", "range", "s0", "s3", "worse", "better"):
        bright, dim = sorted((ground, luminance(found[name])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, name
