"""From a data folder to weights that predict, with thin networks and one or two steps."""

import signal
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

import models.cpnet
import models.vgg16
import training.cli
import training.export
import training.size
from manifest import read_manifest, verified_path
from models.registry import load_segmenter
from tests.cells import draw_discs
from tests.training.folders import make_field, write_record, write_synthetic_data
from training.augment import GeometrySettings
from training.cli import few_each, main, read_best, usable
from training.data import DataError
from training.recipes import RECIPES

CELLPOSE = ["cellpose_phase", "cellpose_dic", "cellpose_general", "cellpose_brightfield"]


@pytest.fixture(autouse=True)
def quick_training(monkeypatch):
    """Make networks thin, crops small, and leave the process's signals alone."""
    monkeypatch.setattr(models.cpnet, "WIDTHS", (4, 8, 8, 16))
    monkeypatch.setattr(models.vgg16, "ENCODER", ((4,), (4,), (8,), (8,), (8,)))
    monkeypatch.setattr(training.size, "N_DRAWS", 10)
    small = GeometrySettings(64)
    recipes = {name: replace(recipe, geometry=small) for name, recipe in RECIPES.items()}
    monkeypatch.setattr(training.cli, "RECIPES", recipes)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    yield
    load_segmenter.cache_clear()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    kinds = ["phase", "dic", "brightfield", "fluorescence"]
    return write_synthetic_data(tmp_path_factory.mktemp("data"), kinds)


@pytest.fixture
def train(data_dir, tmp_path):
    """Run ``train.py`` on the processor with two crops a step."""

    def run(expert, *options, data=data_dir, steps=1):
        folders = ["--data", data, "--runs", tmp_path / "runs", "--weights", tmp_path / "weights"]
        numbers = ["--device", "cpu", "--steps", steps, "--batch", 2]
        return main([str(argument) for argument in (expert, *folders, *numbers, *options)])

    return run


def error_line(caplog):
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "\n" not in record.getMessage()
    return record.getMessage()


def test_all_experts_are_trained_and_can_be_loaded(train, tmp_path):
    assert train("all") == 0
    weights = tmp_path / "weights"
    entries = read_manifest(weights)
    assert set(entries) == {f"{name}.safetensors" for name in RECIPES if name != "cellpose_base"}
    batch = np.random.default_rng(0).random((1, 64, 96, 3), np.float32)
    for name in RECIPES.keys() - {"cellpose_base"}:
        segmenter = load_segmenter(name, "cpu", weights)
        maps = segmenter.forward(batch)
        assert maps.shape == (1, segmenter.n_maps, 64, 96)
        assert np.isfinite(maps).all()
        assert segmenter.decode(maps[0]).shape == (64, 96)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == sorted([*RECIPES, "cache"])


def test_the_manifest_says_how_an_expert_was_trained(train, tmp_path):
    assert train("cellpose_base") == 0
    assert not (tmp_path / "weights").exists()  # a start for others is not shipped
    assert train("cellpose_phase", steps=2) == 0
    path = verified_path("cellpose_phase.safetensors", tmp_path / "weights")
    entry = read_manifest(tmp_path / "weights")[path.name]
    state = torch.load(tmp_path / "runs/cellpose_phase/checkpoint.pt", weights_only=True)
    assert entry["bytes"] == path.stat().st_size
    assert entry["network"] == "cpnet"
    assert entry["started_from"] == "cellpose_base"
    assert entry["trained_on"] == {"phase_set": 3}
    assert entry["validated_on"] == {"phase_set": 1}
    assert (entry["steps"], entry["best_step"]) == (2, 2)
    assert entry["validation_f1"] == pytest.approx(state["progress"]["best_f1"], abs=1e-4)
    assert entry["parameters"] == sum(p.numel() for p in models.cpnet.build_cpnet().parameters())
    assert entry["size_ratio_error"] >= 1
    assert entry["settings"] | {"steps": 2, "batch": 2, "crop_px": 64} == entry["settings"]
    assert (entry["device"], entry["torch"]) == ("cpu", torch.__version__)
    assert entry["commit"]
    # the file holds the best weights of the run, halved, and the size model
    saved = load_segmenter("cellpose_phase", "cpu", path.parent).network.state_dict()
    assert saved["size_weight"].any()
    for name, value in state["best"].items():
        if not name.startswith("size_"):
            halved = value.half().float() if value.is_floating_point() else value
            assert torch.equal(saved[name], halved), name


def test_a_run_starts_from_the_best_weights_of_another(train, tmp_path):
    assert train("cellpose_base") == 0
    base = read_best(tmp_path / "runs/cellpose_base")
    assert train("cellpose_dic") == 0
    tuned = read_best(tmp_path / "runs/cellpose_dic")
    # one step of the warm-up moves a weight by 2e-5
    for name, value in base.items():
        if name.endswith("weight"):
            torch.testing.assert_close(tuned[name], value, atol=1e-3, rtol=0)
    with pytest.raises(DataError, match="train cellpose_phase first"):
        read_best(tmp_path / "runs/cellpose_phase")


def test_a_stopped_run_exits_with_three_and_goes_on(train, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(training.cli, "StopRequest", lambda: type("Stop", (), {"is_set": True}))
        assert train("unet_brightfield", steps=2) == 1  # CDNet, its start, is not there
        assert "train cdnet_fluorescence first" in error_line(caplog)
        assert train("cdnet_fluorescence", steps=2) == 3
    assert not (tmp_path / "weights").exists()
    assert train("cdnet_fluorescence", steps=2) == 0
    entry = read_manifest(tmp_path / "weights")["cdnet_fluorescence.safetensors"]
    assert entry["steps"] == 2
    assert entry["started_from"] == "random weights"
    assert "size_ratio_error" not in entry


def test_a_folder_without_data_is_one_line(train, tmp_path, caplog):
    assert train("cellpose_base", data=tmp_path / "nothing") == 1
    assert "point --data at" in error_line(caplog)


def test_an_expert_without_images_is_one_line(train, tmp_path, caplog):
    data = write_synthetic_data(tmp_path / "data", ["phase"], n_each=2)
    assert train("cdnet_fluorescence", data=data) == 1
    assert "no labelled training images" in error_line(caplog)


def test_a_broken_image_is_one_line_that_names_it(train, tmp_path, caplog):
    data = write_synthetic_data(tmp_path / "data", ["fluorescence"], n_each=2)
    (data / "fluorescence/a.png").write_bytes(b"no image")
    assert train("cdnet_fluorescence", data=data) == 1
    assert "a.png" in error_line(caplog)


@pytest.mark.parametrize(
    "arguments",
    [[], ["cellpose_phase"], ["resnet", "--data", "."], ["all", "--data", ".", "--steps", "ten"]],
)
def test_wrong_usage_exits_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: train.py" in capsys.readouterr().err


def test_the_help_tells_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "exit code 0" in shown
    assert all(name in shown for name in (*RECIPES, "all"))


def test_validation_takes_few_complete_images_a_data_set(tmp_path):
    labels = draw_discs((20, 20), [(10, 10, 5)])
    records = [
        write_record(tmp_path, labels, f"{dataset}{i}", dataset=dataset, annotated=annotated)
        for dataset, annotated in (("a", "all"), ("b", "partial"), ("c", "all"))
        for i in range(4)
    ]
    assert [r.image.stem for r in few_each(records)] == ["a0", "a1", "a2", "c0", "c1", "c2"]


def test_fields_without_cells_are_left_out():
    empty, full = (make_field(draw_discs((20, 20), discs)) for discs in ([], [(10, 10, 5)]))
    assert usable([empty, full, empty]) == [full]


def test_outside_of_git_the_commit_is_unknown(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert training.export.current_commit() == "unknown"
