import importlib
import sys
from xml.etree import ElementTree as ET

import pytest

from training.curves import draw_curves
from training.monitor import Monitor, open_events, write_rows

SVG = "{http://www.w3.org/2000/svg}"
LOSSES = [{"step": 25, "loss": 2.0, "lr": 0.1}, {"step": 50, "loss": 1.0, "lr": 0.05}]
HISTORY = [{"step": 50, "loss": 1.5, "val_f1": 0.25}]


def points_of(svg):
    lines = ET.fromstring(svg).iter(f"{SVG}polyline")
    return [
        [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()] for line in lines
    ]


def test_curves_rise_and_fall_as_the_values_do():
    svg = draw_curves("a & b", {"loss": [(0, 4), (50, 1), (100, 2)], "f1 <": [(100, 0.5)]})
    loss, f1 = points_of(svg)
    x, y = zip(*loss, strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1])
    assert y[1] > y[2] > y[0]  # down is large in a picture
    assert len(f1) == 1
    assert f1[0][0] == x[2]  # a common axis of steps
    assert "a &amp; b" in svg


def test_curves_without_values_are_empty_panels():
    svg = draw_curves("a", {"loss": [(1, float("nan")), (2, float("inf"))], "f1": []})
    assert points_of(svg) == [[], []]


def test_rows_become_a_csv(tmp_path):
    write_rows(tmp_path / "a.csv", LOSSES)
    assert (tmp_path / "a.csv").read_text().split() == ["step,loss,lr", "25,2.0,0.1", "50,1.0,0.05"]
    write_rows(tmp_path / "b.csv", [])
    assert not (tmp_path / "b.csv").exists()


def test_a_run_leaves_tables_and_a_picture_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # an import of it fails
    with Monitor(tmp_path) as monitor:
        monitor.note_loss(LOSSES)
        monitor.note_validation(HISTORY, LOSSES)
    assert {p.name for p in tmp_path.iterdir()} == {"losses.csv", "metrics.csv", "curves.svg"}
    assert [len(points) for points in points_of((tmp_path / "curves.svg").read_text())] == [2, 1]
    assert open_events(tmp_path / "events") is None


def test_tensorboard_gets_the_same_values(tmp_path):
    pytest.importorskip("tensorboard")
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    with Monitor(tmp_path) as monitor:
        for end in (1, 2):
            monitor.note_loss(LOSSES[:end])
        monitor.note_validation(HISTORY, LOSSES)
    events = reader.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(25, 2.0), (50, 1.0)]
    assert [(e.step, e.value) for e in events.Scalars("validation/f1")] == [(50, 0.25)]
