from pathlib import Path

import numpy as np
import pytest
import tifffile

from bench import cold_start, slide_peer
from bench.execution import BenchmarkError, Execution
from bench.slide_files import KINDS, Slide
from bench.slide_peer import compare_on_slide

STOCK = Path("/stock/bin/python")
LOG = """\
DEBUG slide.tiff: 0.6 network pixels a pixel
INFO slide.tiff: 500 x 1000 x 3, phase, {expert}, 3 cells, network 1.00 s
"""


class FakeSystems:
    """Stands in for both programs: stock Cellpose takes 4 times as long and finds one cell less."""

    def __init__(self, expert="cellpose_phase", stock_fails=False):
        self.commands, self.expert, self.stock_fails = [], expert, stock_fails

    def __call__(self, name, command, n_threads=None, device="cpu"):
        self.commands.append((name, command))
        n_cells, times = (3, 1.0) if name == "own" else (2, 4.0)
        labels = np.zeros((20, 40), np.uint16)
        for cell in range(n_cells):
            labels[2:10, 10 * cell : 10 * cell + 8] = cell + 1
        option = "-o" if name == "own" else "--savedir"
        folder = Path(command[command.index(option) + 1])
        if name == "own":
            folder.mkdir(exist_ok=True)
        tifffile.imwrite(folder / "labels.tif", labels)
        failed = int(self.stock_fails and name == "stock")
        gpu = None if device == "cpu" else 1000.0 * times
        figures = (10.0 * times, 16.0 * times, 500.0 * times)
        run = Execution(name, *figures, failed, peak_gpu_mib=gpu)
        return run, LOG.format(expert=self.expert)


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Compare fake systems on a slide of half a megapixel."""

    def compare(systems, n_repeats=2, options=(), device="cpu"):
        monkeypatch.setattr(cold_start, "execute", systems)
        monkeypatch.setattr(cold_start, "write_checkpoint", lambda expert, folder: folder / expert)
        monkeypatch.setattr(slide_peer, "execute_well", lambda *_: None)
        monkeypatch.setattr(slide_peer, "read_versions", lambda _: {"cellpose": "3.1.1.3"})
        slide = Slide(tmp_path / "slide.tiff", KINDS["cellpose"], (500, 1000))
        return list(compare_on_slide(slide, STOCK, n_repeats, options, device))

    return compare


def test_both_systems_are_measured_a_megapixel_and_by_their_ratio(compare):
    rows = {row.name: row for row in compare(FakeSystems())}
    what = "500 x 1000, phase, cellpose_phase"
    assert rows[f"predict.py, {what}: elapsed"].values == (20.0, 20.0)
    assert rows[f"stock Cellpose, {what}: elapsed"].values == (80.0, 80.0)
    assert rows[f"stock Cellpose, {what}: elapsed"].unit == "s / Mpx"
    assert rows[f"stock Cellpose, {what}: peak memory"].values == (2000.0, 2000.0)
    assert rows[f"stock Cellpose, {what}: peak memory"].unit == "MiB"
    for figure in ("elapsed", "CPU", "peak memory"):
        ratio = rows[f"predict.py / stock, {what}: {figure}"]
        assert ratio.values == (0.25, 0.25)
        assert not ratio.more_is_better
    agreement = rows[f"F1 at IoU 0.5 between them, {what}"]
    assert agreement.values == (0.8,)
    assert agreement.more_is_better


def test_a_reader_learns_what_was_compared(compare):
    notes = " ".join(row.note for row in compare(FakeSystems()))
    for part in ("3 cells", "2 cells", "diameter 50 px", "cellpose 3.1.1.3", "at most 0.16"):
        assert part in notes


def test_the_systems_take_turns_on_one_file_and_stock_gets_scale_and_weights(compare, tmp_path):
    systems = FakeSystems()
    compare(systems, options=("--max-memory", "3"))
    assert [name for name, _ in systems.commands] == ["own", *["own", "stock"] * 2]
    own, stock = (command for _, command in systems.commands[1:3])
    for command in (own, stock):
        assert str(tmp_path / "slide.tiff") in command
    assert own[-4:] == ["--modality", "phase", "--max-memory", "3"]
    assert stock[0] == str(STOCK)
    assert stock[stock.index("--diameter") + 1] == "50.0"  # 30 px at 0.6 network pixels a pixel
    assert stock[stock.index("--pretrained_model") + 1] == str(tmp_path / "cellpose_phase")


def test_both_systems_compute_on_the_gpu_and_their_memory_on_it_is_told(compare):
    systems = FakeSystems()
    rows = {row.name: row for row in compare(systems, device="cuda")}
    what = "500 x 1000, phase, cellpose_phase"
    assert rows[f"predict.py, {what}: peak GPU memory"].values == (1000.0, 1000.0)
    assert rows[f"stock Cellpose, {what}: peak GPU memory"].unit == "MiB"
    assert rows[f"predict.py / stock, {what}: peak GPU memory"].values == (0.25, 0.25)
    for name, command in systems.commands:
        told = "--use_gpu" in command if name == "stock" else "cuda" in command
        assert told


def test_runs_that_warm_up_do_not_count(compare, tmp_path):
    systems = FakeSystems()
    compare(systems, n_repeats=1)  # takes the programs' place
    (tmp_path / "other").mkdir()
    systems.commands.clear()
    setting = cold_start.Setting(tmp_path / "slide.tiff", tmp_path / "other", (), str(STOCK))
    record = cold_start.compare_systems(setting, 1, None, n_warm_up=2)
    assert [name for name, _ in systems.commands] == ["own", *["own", "stock"] * 3]
    assert [run["command"] for run in record["runs"]] == ["own", "stock"]


def test_a_system_that_fails_or_has_no_peer_is_said(compare, tmp_path):
    with pytest.raises(BenchmarkError, match="cellpose"):
        compare(FakeSystems(stock_fails=True))
    with pytest.raises(BenchmarkError, match="no Cellpose expert"):
        compare(FakeSystems(expert="cdnet_fluorescence"))
