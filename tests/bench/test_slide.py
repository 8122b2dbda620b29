import pytest

from bench import slide
from bench.execution import BenchmarkError, Execution
from bench.slide import KINDS, Said, describe_runs, main, read_log
from models.registry import SPECS
from synthetic import KINDS as CELLS

LOG = """\
DEBUG slide.ome.tiff: 0.7 network pixels a pixel
DEBUG slide.ome.tiff: 30 of 40 windows computed
INFO slide.ome.tiff: 200 x 300 x 1, phase, cellpose_phase, 55 cells, 25% of the windows empty
"""


def test_every_kind_can_be_made_and_labelled():
    for kind in KINDS.values():
        assert kind.cells in CELLS
        assert kind.expert in SPECS


def test_the_log_of_predict_tells_what_was_done():
    assert read_log(LOG) == Said("cellpose_phase", 55, 0.7, 30, 40)
    with pytest.raises(BenchmarkError, match="nothing"):
        read_log("nothing")


def test_figures_are_per_megapixel_of_the_file():
    runs = [Execution("slide", 10.0, 16.0, 900.0, 0), Execution("slide", 20.0, 36.0, 1000.0, 0)]
    rows = describe_runs(runs, [5.0, 8.0], read_log(LOG), (KINDS["cellpose"], (1000, 2000)))
    by_name = {row.name.rpartition(": ")[2]: row for row in rows}
    assert by_name["elapsed"].values == (5.0, 10.0)
    assert by_name["CPU"].values == (8.0, 18.0)
    assert by_name["bare network"].values == (2.5, 4.0)
    assert by_name["bare network / whole call"].values == (0.5, 0.4)
    assert by_name["peak memory"].median == 950
    assert by_name["windows left out"].values == (0.25,)
    assert "55 cells" in by_name["elapsed"].note


def test_a_slide_that_is_not_labelled_is_said(monkeypatch, capsys, tmp_path):
    def fail(name, command):
        raise BenchmarkError("predict.py failed")

    monkeypatch.setattr(slide, "execute_well", fail)
    arguments = ["--size", "300", "400", "--folder", str(tmp_path)]
    assert main([*arguments, "--json", str(tmp_path / "x.json")]) == 1
    assert "predict.py failed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
