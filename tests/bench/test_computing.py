from types import SimpleNamespace

import pytest
import torch

from bench import computing
from bench.computing import (
    list_trained,
    make_windows,
    measure_decoding,
    measure_f1,
    measure_networks,
    name_kind,
)
from bench.decoding import CONTESTS
from bench.suite import Plan
from manifest import write_entry
from models.registry import EXPERTS
from synthetic import KINDS
from tiling.settings import DEFAULT_BATCH_SIZE


class Network:
    """Stands in for an expert: counts what it sees."""

    tile_px, normalisation = 128, "joint"

    def __init__(self, device="cpu"):
        self.shapes, self.runtime = [], SimpleNamespace(device=device)

    def forward(self, windows):
        self.shapes.append(windows.shape)


@pytest.fixture
def networks(monkeypatch):
    made = {"cellpose_phase": Network(), "unet_brightfield": Network()}
    monkeypatch.setattr(computing, "load_network", lambda expert, _: made[expert])
    monkeypatch.setattr(computing, "list_trained", lambda: list(made))
    return made


def plan(folder, **settings):
    return Plan(folder, folder, **settings)


def test_every_expert_sees_images_of_its_kind():
    assert {name_kind(expert) for expert in EXPERTS} <= set(KINDS)
    experts = ("cellpose_dic", "unet_brightfield", "cdnet_fluorescence", "cellpose_general")
    kinds = ["dic", "brightfield_small", "fluorescence", "phase"]
    assert [name_kind(expert) for expert in experts] == kinds


def test_an_expert_without_weights_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "cellpose_dic.safetensors").touch()
    write_entry(tmp_path, "cellpose_dic.safetensors", {})
    monkeypatch.setattr(computing, "WEIGHTS_DIR", tmp_path)
    assert list_trained() == ["cellpose_dic"]


def test_windows_are_normalised_and_differ(networks):
    windows = make_windows("unet_brightfield", 64, n_windows=2)
    assert windows.shape == (2, 64, 64, 3)
    assert windows.dtype == "float32"
    assert 0.2 < windows.mean() < 1.2
    assert (windows[0] != windows[1]).any()


def test_every_network_runs_over_as_many_pixels_as_it_sees_at_once(networks, tmp_path):
    rows = list(measure_networks(plan(tmp_path, n_repeats=2)))
    n_windows = 512 * 512 // 128**2
    for network in networks.values():
        assert network.shapes == [(n_windows, 128, 128, 3)] * 3
    assert [row.name for row in rows][:2] == [
        "cellpose_phase, 16 x 128 x 128",
        "cellpose_phase, 16 x 128 x 128: CPU",
    ]
    assert all(len(row.values) == 2 and row.low >= 0 for row in rows)
    assert len(rows) == 2 * len(networks)


def test_a_gpu_sees_a_batch_and_is_idle_before_and_after(networks, tmp_path, monkeypatch):
    done = []
    for network in networks.values():
        network.runtime.device = "cuda"
        monkeypatch.setattr(network, "forward", lambda windows: done.append(len(windows)))
    monkeypatch.setattr(torch.cuda, "synchronize", done.append)
    list(measure_networks(plan(tmp_path, n_repeats=1, device="cuda")))
    assert done == ["cuda", DEFAULT_BATCH_SIZE, "cuda"] * 2 * len(networks)


def test_scoring_is_measured_both_ways(tmp_path):
    pair, dense, ratio, slide, memory = measure_f1(plan(tmp_path, n_repeats=1, is_quick=True))
    assert ratio.values[0] == pytest.approx(dense.values[0] / pair.values[0])
    assert "1013 cells" in slide.name
    assert 1 < memory.median < 1000  # its own, not that of the process that started it


@pytest.mark.slow
def test_every_decoder_is_measured_against_its_reference(tmp_path):
    rows = list(measure_decoding(plan(tmp_path, n_repeats=1, is_quick=True)))
    ratios = [row for row in rows if row.unit == "ratio"]
    assert [row.name.partition(",")[0] for row in ratios] == list(CONTESTS)
    assert all(row.note.startswith("F1 at IoU 0.9") for row in ratios)
