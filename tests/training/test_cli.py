"""From a data folder to weights that predict, with thin networks and one or two steps."""

import shutil
import signal
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

import models.cdnet
import models.cpnet
import models.vgg16
import training.cli
import training.export
import training.refit
import training.router_run
import training.size
from manifest import WeightsError, read_manifest, verified_path, write_entry
from models.registry import load_segmenter
from models.weights import read_weights, write_weights
from router.router import Route
from tests.cells import draw_discs
from tests.training.folders import (
    add_unlabelled,
    make_field,
    write_record,
    write_synthetic_data,
)
from training.augment import GeometrySettings
from training.cli import main
from training.data import list_records
from training.experts import few_each, usable
from training.loop import Trainer
from training.recipes import RECIPES
from training.start import read_best

CELLPOSE = ["cellpose_phase", "cellpose_dic", "cellpose_general", "cellpose_brightfield"]


@pytest.fixture(autouse=True)
def quick_training(monkeypatch):
    """Make networks thin, crops small, and leave the process's signals alone."""
    monkeypatch.setattr(models.cpnet, "WIDTHS", (4, 8, 8, 16))
    monkeypatch.setattr(models.vgg16, "ENCODER", ((4,), (4,), (8,), (8,), (8,)))
    monkeypatch.setattr(models.vgg16, "DECODER", (8, 8, 8, 8, 16))
    monkeypatch.setattr(models.cdnet, "WIDTH", 16)
    monkeypatch.setattr(training.size, "N_CENTRES", 10)
    monkeypatch.setattr("training.size.SPREAD_PX", 96)
    small = GeometrySettings(64)
    recipes = {name: replace(recipe, geometry=small) for name, recipe in RECIPES.items()}
    monkeypatch.setattr(training.cli, "RECIPES", recipes)
    monkeypatch.setattr(training.refit, "RECIPES", recipes)
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


def test_everything_is_trained_once_and_can_be_loaded(train, tmp_path, monkeypatch, caplog):
    assert train("all") == 0
    weights = tmp_path / "weights"
    experts = set(RECIPES) - {"cellpose_base"}
    entries = read_manifest(weights)
    assert set(entries) == {f"{name}.safetensors" for name in experts} | {"router.joblib"}
    batch = np.random.default_rng(0).random((1, 64, 96, 3), np.float32)
    for name in experts:
        segmenter = load_segmenter(name, "cpu", weights)
        maps = segmenter.forward(batch)
        assert maps.shape == (1, segmenter.n_maps, 64, 96)
        assert np.isfinite(maps).all()
        assert segmenter.decode(maps[0]).shape == (64, 96)
    folders = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert folders == sorted([*RECIPES, "cache", "router"])

    # a second call finds all of it done
    def refuse(*_, **__):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr(Trainer, "__init__", refuse)
        patch.setattr("training.router_run.fit_router", refuse)
        assert train("all") == 0
    assert read_manifest(weights) == entries
    assert caplog.text.count("already") == len(RECIPES) + 1
    # what changed since is done again, and so is what starts from it
    (weights / "cellpose_dic.safetensors").write_bytes(b"damaged")
    assert train("cellpose_dic") == 0
    verified_path("cellpose_dic.safetensors", weights)  # raises no error


def test_another_seed_draws_other_crops_from_the_same_start(train, tmp_path):
    def entry(seed):
        shutil.rmtree(tmp_path / "runs" / "cellpose_dic", ignore_errors=True)
        assert train("cellpose_dic", "--seed", seed) == 0
        return read_manifest(tmp_path / "weights")["cellpose_dic.safetensors"]

    assert train("cellpose_base") == 0
    first, again, other = entry(1), entry(1), entry(2)
    assert first["settings"]["seed"] == 1
    assert first["sha256"] == again["sha256"]
    assert first["sha256"] != other["sha256"]


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
    sets = ("brightfield_set", "dic_set", "fluorescence_set", "phase_set")  # guests too
    assert entry["trained_on"] == dict.fromkeys(sets, 3)
    assert entry["validated_on"] == {"phase_set": 1}
    assert (entry["steps"], entry["best_step"]) == (2, 2)
    assert entry["validation_f1"] == pytest.approx(state["progress"]["best_f1"], abs=1e-4)
    assert entry["parameters"] == sum(p.numel() for p in models.cpnet.build_cpnet().parameters())
    assert entry["size_ratio_error"] >= 1
    assert entry["settings"] | {"steps": 2, "batch": 2, "crop_px": 64} == entry["settings"]
    assert (entry["device"], entry["torch"]) == ("cpu", torch.__version__)
    assert entry["commit"]
    # the file holds the best weights of the run, halved, and the size model
    saved = read_weights(path.name, path.parent)
    assert saved["size_weight"].any()
    for name, value in state["best"].items():
        if not name.startswith("size_"):
            halved = value.half() if value.is_floating_point() else value
            assert np.array_equal(saved[name], halved.numpy()), name


def test_the_size_model_of_trained_weights_is_fitted_anew(train, data_dir, tmp_path):
    assert train("cellpose_base") == 0
    assert train("cellpose_dic") == 0
    weights, name = tmp_path / "weights", "cellpose_dic.safetensors"
    before, entry = read_weights(name, weights), read_manifest(weights)[name]
    network = {k: v for k, v in before.items() if not k.startswith("size_")}
    one = np.ones(1, np.float32)
    of_styles = {"size_centres": np.ones((2000, 256)), "size_weight": np.ones(2000)}
    for earlier in (of_styles | {"size_bias": one}, {"size_weight": np.ones(16, np.float32)}):
        state = {k: torch.from_numpy(v) for k, v in (network | earlier).items()}
        write_weights(weights / name, state)
        write_entry(weights, name, entry | {"size_of": "another"})
        with pytest.raises(WeightsError, match=r"training\.refit"):
            load_segmenter("cellpose_dic", "cpu", weights)
    folders = ["--data", data_dir, "--weights", weights, "--runs", tmp_path / "runs"]
    assert training.refit.main(["cellpose_dic", *map(str, folders)]) == 0
    after = read_weights(name, weights)
    assert after.keys() == before.keys()
    assert after["size_weight"].any()
    for key, value in before.items():
        if not key.startswith("size_"):
            assert np.array_equal(after[key], value), key
    again = read_manifest(weights)[name]
    assert again["size_commit"]
    of_fit = {"sha256", "size_ratio_error", "size_ratio_error_unseen"}
    assert {k for k in entry if entry[k] != again[k]} <= of_fit
    assert "size_of" not in again
    load_segmenter("cellpose_dic", "cpu", weights)


def test_weights_that_are_not_there_are_named(data_dir, tmp_path, caplog):
    folders = ["--data", data_dir, "--weights", tmp_path / "none", "--runs", tmp_path / "runs"]
    assert training.refit.main(["cellpose_dic", *map(str, folders)]) == 1
    assert "none" in error_line(caplog)


def test_a_run_starts_from_the_best_weights_of_another(train, tmp_path):
    assert train("cellpose_base") == 0
    base = read_best(tmp_path / "runs/cellpose_base").state
    assert train("cellpose_dic") == 0
    tuned = read_best(tmp_path / "runs/cellpose_dic").state
    # one step of the warm-up moves a weight by 2e-5
    for name, value in base.items():
        if name.endswith("weight"):
            torch.testing.assert_close(tuned[name], value, atol=1e-3, rtol=0)


def test_no_steps_ship_the_start_as_it_is(train, tmp_path):
    assert train("cellpose_base") == 0
    assert train("cellpose_phase", steps=0) == 0
    base = read_best(tmp_path / "runs/cellpose_base").state
    saved = read_weights("cellpose_phase.safetensors", tmp_path / "weights")
    for name, value in base.items():
        if value.is_floating_point() and not name.startswith("size_"):
            assert np.array_equal(saved[name], value.half().numpy()), name
    entry = read_manifest(tmp_path / "weights")["cellpose_phase.safetensors"]
    assert (entry["steps"], entry["stage"]) == (0, "start, not fine-tuned")
    assert 0 <= entry["validation_f1"] <= 1
    start = entry["start"]
    assert start["started_from"] == "random weights"
    assert start["steps"] > 0
    assert set(start["trained_on"]) > {"phase_set"}


def test_no_steps_from_random_weights_are_refused(train, caplog):
    assert train("cdnet_fluorescence", steps=0) == 1
    assert "0 steps" in error_line(caplog)


def test_a_run_starts_from_a_file(train, tmp_path, caplog):
    official = tmp_path / "cyto3.pth"
    torch.save(models.cpnet.build_cpnet(2).net.state_dict(), official)
    assert train("cellpose_phase", "--init", official) == 0  # and needs no cellpose_base
    entry = read_manifest(tmp_path / "weights")["cellpose_phase.safetensors"]
    assert entry["started_from"].startswith("cyto3.pth (sha256 ")
    assert train("cdnet_fluorescence", "--init", official) == 1
    assert "cyto3.pth" in error_line(caplog)


def test_unlabelled_images_teach_two_networks(train, tmp_path, caplog):
    data = write_synthetic_data(tmp_path / "data", ["fluorescence"])
    assert train("cdnet_fluorescence", "--semi", "paper", data=data) == 1
    assert "no unlabelled images of fluorescence" in error_line(caplog)
    add_unlabelled(data, "fluorescence")
    assert train("cdnet_fluorescence", "--semi", "paper", data=data) == 0
    entry = read_manifest(tmp_path / "weights")["cdnet_fluorescence.safetensors"]
    assert entry["semi_supervision"] == "cross"
    assert entry["unlabelled"] == {"fluorescence_more": 2}
    state = read_best(tmp_path / "runs/cdnet_fluorescence").state
    assert entry["parameters"] == sum(
        v.numel() for k, v in state.items() if k.endswith(("weight", "bias"))
    )
    assert load_segmenter("cdnet_fluorescence", "cpu", tmp_path / "weights").n_maps == 13


def test_unlabelled_images_teach_cellpose_in_a_cycle(train, tmp_path):
    data = write_synthetic_data(tmp_path / "data", ["phase"])
    add_unlabelled(data, "phase")
    assert train("cellpose_base", data=data) == 0
    assert train("cellpose_phase", "--semi", "paper", data=data) == 0
    entry = read_manifest(tmp_path / "weights")["cellpose_phase.safetensors"]
    assert entry["semi_supervision"] == "cycle"
    (cycle,) = (tmp_path / "runs/cellpose_phase").glob("cycle1-*")
    masks = (cycle / "masks/masks.csv").read_text().splitlines()
    assert len(masks) == 3  # a header and an image each; a net of one step is sure of none


def test_a_data_set_can_be_left_out(train, tmp_path, data_dir, caplog):
    assert train("cellpose_base", "--leave-out", "dic_set", "brightfield_set") == 0
    losses = torch.load(tmp_path / "runs/cellpose_base/checkpoint.pt", weights_only=True)
    assert losses["progress"]["step"] == 1
    assert train("cellpose_phase", "--leave-out", "phase_set") == 1
    assert "no labelled training images of phase" in error_line(caplog)


def test_an_unknown_data_set_cannot_be_left_out(train, caplog):
    assert train("cellpose_base", "--leave-out", "livecell") == 1
    assert "livecell" in error_line(caplog)


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
    assert "cdnet_fluorescence: no labelled training images of fluorescence" in error_line(caplog)


def test_one_image_is_too_few(train, tmp_path, caplog):
    data = write_synthetic_data(tmp_path / "data", ["fluorescence"], n_each=1)
    assert train("cdnet_fluorescence", data=data) == 1
    assert "none is left to validate on" in error_line(caplog)


def test_with_all_the_last_expert_is_looked_at_first(train, tmp_path, caplog):
    data = write_synthetic_data(tmp_path / "data", ["phase", "dic", "brightfield"], n_each=2)
    assert train("all", data=data) == 1
    assert "no labelled training images of fluorescence" in error_line(caplog)
    assert not (tmp_path / "runs/cellpose_base").exists()


def test_a_training_image_without_labels_is_one_line(train, tmp_path, caplog):
    data = write_synthetic_data(tmp_path / "data", ["phase"], n_each=2)
    index = data / "index.csv"
    index.write_text(index.read_text().replace("phase/b_label.tiff", ""))
    assert train("cellpose_base", data=data) == 1
    assert "b.png: a training image without labels" in error_line(caplog)


def write_challenge(folder, kind, n_images):
    """Lay synthetic images out as the challenge does."""
    source = write_synthetic_data(folder / "source", [kind], n_each=n_images)
    for name in ("images", "labels"):
        (folder / "data/Training-labeled" / name).mkdir(parents=True)
    for record in list_records(source):
        record.image.rename(folder / "data/Training-labeled/images" / record.image.name)
        assert record.label is not None
        record.label.rename(folder / "data/Training-labeled/labels" / record.label.name)
    return folder / "data"


def test_the_layout_of_the_challenge_trains_with_the_modality_that_the_router_sees(
    train, tmp_path, caplog, monkeypatch
):
    data = write_challenge(tmp_path, "fluorescence", 3)
    seen = Route("fluorescence", "cdnet_fluorescence", {})
    router = type("Fake", (), {"route": lambda *_: seen})()
    monkeypatch.setattr(training.cli, "find_router", lambda _: router)
    assert train("cdnet_fluorescence", data=data) == 0
    (data / "Training-labeled/images/a.png").unlink()
    assert train("cdnet_fluorescence", data=data) == 1
    assert "a_label.tiff: labels without an image" in error_line(caplog)


def test_without_modalities_the_shipped_router_is_taken_over(train, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for name in ("router.joblib", "router.json"):
        (shipped / name).write_bytes(name.encode())
    write_entry(shipped, "router.joblib", {"kind": "router"})
    monkeypatch.setattr(training.router_run, "WEIGHTS_DIR", shipped)
    data = write_challenge(tmp_path, "phase", 2)
    for _ in range(2):
        assert train("router", data=data) == 0
    assert verified_path("router.joblib", tmp_path / "weights").read_bytes() == b"router.joblib"
    assert read_manifest(tmp_path / "weights")["router.joblib"]["kind"] == "router"


def test_losses_that_are_no_numbers_are_one_line(train, tmp_path, caplog, monkeypatch):
    def no_number(task, model, batch):
        return model(batch["image"]).sum() * float("nan")

    monkeypatch.setattr("training.mask_task.CDNetTask.loss", no_number)
    assert train("cdnet_fluorescence") == 1
    line = error_line(caplog)
    assert "the loss of step 1 is nan" in line
    assert "fluorescence_set/" in line
    assert not (tmp_path / "weights").exists()


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


def test_a_seed_gives_the_same_weights(train, tmp_path):
    digests = []
    for _ in range(2):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        assert train("cdnet_fluorescence", "--augment", "wide", steps=2) == 0
        digests.append(read_best(tmp_path / "runs/cdnet_fluorescence").digest())
    assert digests[0] == digests[1]


def test_outside_of_git_the_commit_is_unknown(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert training.export.current_commit() == "unknown"
