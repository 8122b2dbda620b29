from pathlib import Path

import numpy as np
import pytest

from bench import slide
from bench.baseline import compare_reports
from bench.execution import BenchmarkError, Execution
from bench.picture import draw_report
from bench.rows import ReportError, Row, read_report
from bench.slide import (
    QUICK_SHAPE,
    Said,
    describe_runs,
    main,
    measure_full_slides,
    measure_peer,
    measure_slides,
    read_log,
    relate_memory,
    sample_windows,
)
from bench.slide_files import KINDS, Kind, Slide, make_pyramid
from bench.suite import Plan

LOG = """\
DEBUG slide.ome.tiff: 0.7 network pixels a pixel
DEBUG slide.ome.tiff: 30 of 40 windows computed
INFO slide.ome.tiff: 200 x 300 x 1, {modality}, {expert}, 55 cells, 25% of the windows empty
"""
SAID = Said("cellpose_phase", 55, 0.7, 30, 40)


class FakeSample:
    """Stands in for windows: one takes a tenth of a second."""

    def time_window(self):
        return 0.1


def count_pixels(slide, n_repeats, options=(), device="cpu"):
    """Stand in for measuring a slide."""
    yield Row(f"{slide.name}, {device}", "s", (1.0,) * n_repeats)


def name_slide(folder, kind, shape, tissue=0.6):
    """Stand in for writing a slide."""
    return Slide(folder / "slide.tiff", kind, shape)


@pytest.fixture
def predict(monkeypatch):
    """Stand in for ``predict.py``: 10 s, and as much memory as told; keeps the commands."""

    class Predict:
        def __init__(self):
            self.commands, self.expert, self.peak_mib = [], "cellpose_phase", 900.0

        def __call__(self, name, command, device):
            assert command[command.index("--device") + 1] == device
            self.commands.append(command)
            log = LOG.format(modality="phase", expert=self.expert)
            gpu = None if device == "cpu" else 3000.0
            return Execution(name, 10.0, 16.0, self.peak_mib, 0, peak_gpu_mib=gpu), log

    fake = Predict()
    monkeypatch.setattr(slide, "execute_well", fake)
    monkeypatch.setattr(slide, "sample_windows", lambda *_: FakeSample())
    monkeypatch.setattr(slide, "make_pyramid", name_slide)
    monkeypatch.setattr(slide, "make_plain", name_slide)
    monkeypatch.setattr(slide, "warm_up", lambda *_: None)
    return fake


@pytest.fixture
def run(predict, tmp_path, capsys):
    """Run the command on a small slide; gives exit code, table and report."""

    def run(*arguments, size=(300, 400), name="out.json"):
        path, size = tmp_path / name, [str(side) for side in size]
        code = main(["--size", *size, "--folder", str(tmp_path), "--json", str(path), *arguments])
        return code, capsys.readouterr().out, read_report(path)

    return run


def test_the_log_of_predict_tells_what_was_done():
    assert read_log(LOG.format(modality="phase", expert="cellpose_phase")) == SAID
    with pytest.raises(BenchmarkError, match="nothing"):
        read_log("nothing")


def test_figures_are_per_megapixel_of_the_file():
    runs = [Execution("slide", 10.0, 16.0, 900.0, 0), Execution("slide", 20.0, 36.0, 1000.0, 0)]
    made = Slide(Path("slide.tiff"), KINDS["cellpose"], (1000, 2000))
    by_name = {row.name.rpartition(": ")[2]: row for row in describe_runs(runs, [5, 8], SAID, made)}
    assert by_name["elapsed"].values == (5.0, 10.0)
    assert by_name["elapsed"].name == "1000 x 2000, phase, cellpose_phase: elapsed"
    assert by_name["CPU"].values == (8.0, 18.0)
    assert by_name["bare network"].values == (2.5, 4.0)
    assert by_name["bare network / whole call"].values == (0.5, 0.4)
    assert by_name["peak memory"].median == 950
    assert by_name["windows left out"].values == (0.25,)
    assert "55 cells" in by_name["elapsed"].note


class FlatNetwork:
    """Stands in for an expert's network where windows are only read."""

    normalisation = "joint"
    tile_px, side_multiple, halo_px = 128, 32, 16


def test_windows_of_the_bare_network_show_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(slide, "load_segmenter", lambda *_: FlatNetwork())
    monkeypatch.setattr("synthetic.slides.N_TILES", 1)
    made = make_pyramid(tmp_path, Kind("phase"), (1100, 1100), tissue=0.4)
    sample = sample_windows(made, Said("cellpose_phase", 5, 1.0, 10, 100))
    assert sample.batch.shape == (4, 128, 128, 3)
    assert (np.ptp(sample.batch, axis=(1, 2, 3)) > 0.1).all()
    blank = make_pyramid(tmp_path, Kind("phase"), (600, 600), tissue=0.0)
    with pytest.raises(BenchmarkError, match="empty"):
        sample_windows(blank, Said("cellpose_phase", 5, 1.0, 10, 100))


def test_the_suite_measures_a_slide_of_each_kind(predict, tmp_path):
    predict.expert = "cellpose_general"  # whichever labels it
    plan = Plan(tmp_path, tmp_path, n_repeats=2, kinds=("phase", "dic"), is_quick=True)
    rows = list(measure_slides(plan))
    sizes = f"{QUICK_SHAPE[0]} x {QUICK_SHAPE[1]}"
    for kind in plan.kinds:
        (ratio,) = (
            row
            for row in rows
            if row.name.startswith(f"{sizes}, {kind}, cellpose_gen")
            and row.unit == "ratio"
            and "whole call" in row.name
        )
        assert ratio.values == pytest.approx((0.3, 0.3))  # 30 windows of 0.1 s in 10 s
        assert any(str(tmp_path / kind / "slide.tiff") in command for command in predict.commands)
    asked = [
        command[command.index("--modality") + 1]
        for command in predict.commands
        if "--modality" in command
    ]
    assert asked == ["phase", "phase", "dic", "dic"]


def test_the_suite_has_the_whole_slide_of_the_challenge(predict, tmp_path, monkeypatch):
    monkeypatch.setattr(slide, "measure_slide", count_pixels)
    names = [
        [row.name for row in measure_full_slides(Plan(tmp_path, tmp_path, is_quick=is_quick))]
        for is_quick in (False, True)
    ]
    assert names == [["8415 x 10496, phase, cpu"], ["512 x 768, phase, cpu"]]


def test_on_a_gpu_its_memory_is_told_and_the_network_runs_there(predict, tmp_path, monkeypatch):
    sampled = []

    def sample(made, said, device):
        sampled.append(device)
        return FakeSample()

    monkeypatch.setattr(slide, "sample_windows", sample)
    rows = {
        row.name.rpartition(": ")[2]: row
        for row in measure_slides(Plan(tmp_path, tmp_path, 2, is_quick=True, device="cuda"))
    }
    assert sampled == ["cuda"]
    assert rows["peak GPU memory"].values == (3000.0, 3000.0)
    assert rows["peak memory"].values == (900.0, 900.0)


def test_a_gpu_that_is_not_there_ends_the_run_before_the_work(predict, monkeypatch, capsys):
    monkeypatch.setattr("models.registry.count_gpus", lambda: 0)
    assert main(["--device", "cuda"]) == 1
    assert "no CUDA device found" in capsys.readouterr().err
    assert predict.commands == []


def test_the_suite_compares_with_the_peer_where_there_is_one(predict, tmp_path, monkeypatch):
    compared, made_at = [], tmp_path / "cache" / "peer" / "bin" / "python"

    def compare(made, python, n_repeats, device):
        assert device == "cpu"
        compared.append((made.kind.cells, made.shape, python, n_repeats))
        yield Row("ratio", "ratio", (0.2,))

    monkeypatch.setattr(slide, "compare_on_slide", compare)
    monkeypatch.setattr(slide, "prepare_peer", lambda folder, *_: folder / "bin" / "python")
    kinds = ("fluorescence", "phase")
    plan = Plan(tmp_path, tmp_path / "cache", n_repeats=2, kinds=kinds, is_quick=True)
    assert len(list(measure_peer(plan))) == 1
    assert compared == [("phase", QUICK_SHAPE, made_at, 2)]
    with pytest.raises(BenchmarkError, match="phase or dic, got fluorescence"):
        next(measure_peer(Plan(tmp_path, tmp_path, kinds=("fluorescence",))))


def test_a_run_is_stored_under_the_names_of_the_suite_and_drawn(run):
    code, table, report = run("--repeats", "2")
    assert code == 0
    assert {row.bench for row in report.rows} == {"slide"}
    assert (
        "| slide | 300 x 400, phase, cellpose_phase: peak memory | 900 | 900 | 900 | MiB" in table
    )
    drawn = draw_report(report, compare_reports(report, report))
    assert "slide: 300 x 400, phase, cellpose_phase: bare network / whole call" in drawn


def test_a_run_is_compared_with_an_earlier_one(run, predict, tmp_path):
    before = str(tmp_path / "before.json")
    run(name="before.json")
    assert run("--compare", before)[0] == 0
    predict.peak_mib = 1800.0
    code, table, _ = run("--compare", before)
    assert code == 1
    assert "| 900 | 2.00 | **worse** |" in table


def test_memory_is_put_beside_that_of_a_slide_of_another_size(run, predict, tmp_path):
    run(name="small.json")
    predict.peak_mib = 990.0
    _, _, report = run("--memory-of", str(tmp_path / "small.json"), size=(600, 800))
    name = (
        "600 x 800, phase, cellpose_phase: peak memory / that of 300 x 400, phase, cellpose_phase"
    )
    (row,) = (row for row in report.rows if row.name == name)
    assert row.values == pytest.approx((1.1,))
    assert not row.more_is_better
    assert row.note == "900 MiB then"
    with pytest.raises(ReportError, match="peak memory"):
        relate_memory([Row("else", "s", (1.0,))], report)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--peer", "--kind", "cdnet"],
        ["--peer", "--memory-of", "x.json"],
        ["--tissue", "0"],
        ["--repeats", "0"],
        ["--size", "0", "9"],
    ],
)
def test_wrong_usage_ends_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_the_command_line_reaches_the_peer(predict, monkeypatch, tmp_path, capsys):
    def compare(made, python, n_repeats, options, device):
        assert device == "cpu"
        assert (made.shape, made.kind) == ((90, 120), KINDS["cellpose"])
        assert python == tmp_path / "cache" / "peer"
        yield Row(f"{n_repeats} {' '.join(options)}", "ratio", (0.2,))

    monkeypatch.setattr(slide, "compare_on_slide", compare)
    monkeypatch.setattr(slide, "prepare_peer", lambda folder, *_: folder)
    options = ["--size", "90", "120", "--cache", str(tmp_path / "cache"), "--repeats", "2"]
    assert main(["--peer", *options, "--", "--max-memory", "3"]) == 0
    assert "| slide_peer | 2 --max-memory 3 | 0.200 |" in capsys.readouterr().out


def test_an_earlier_run_that_is_not_there_is_said_before_the_work(predict, tmp_path, capsys):
    assert main(["--compare", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
    assert predict.commands == []


def test_a_slide_that_another_expert_labels_is_said(run, predict, capsys, tmp_path):
    predict.expert = "cellpose_general"
    arguments = ["--size", "300", "400", "--folder", str(tmp_path)]
    assert main(arguments) == 1
    assert "wanted cellpose_phase, it took cellpose_general" in capsys.readouterr().err


def test_a_slide_that_is_not_labelled_is_said(predict, monkeypatch, capsys, tmp_path):
    def fail(name, command, device):
        raise BenchmarkError("predict.py failed")

    monkeypatch.setattr(slide, "execute_well", fail)
    arguments = ["--size", "300", "400", "--folder", str(tmp_path)]
    assert main([*arguments, "--json", str(tmp_path / "x.json")]) == 1
    assert "predict.py failed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
