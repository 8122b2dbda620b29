import json

import numpy as np
import pytest
import torch

from manifest import read_manifest, write_entry
from models.weights import read_weights, write_weights
from training.average import main

EXPERT = "cellpose_phase"
NAME = f"{EXPERT}.safetensors"


def make_weights(folder, values, shape=(3,), with_size=True, **facts):
    state = {"layer": torch.full(shape, float(values)), "n_batches": torch.tensor(int(values))}
    if with_size:
        size = {"size_centres": torch.full((5, 2), float(values)), "size_bias": torch.ones(1)}
        size["size_weight"] = torch.full((5,), float(values))
        state |= size
    write_weights(folder / NAME, state)
    write_entry(folder, NAME, {"network": "cpnet", "size_ratio_error": 1.2, **facts})
    return folder


@pytest.fixture
def two(tmp_path):
    first = make_weights(tmp_path / "a", 1, steps=220, average_of=["of an earlier one"])
    return first, make_weights(tmp_path / "b", 4, steps=500)


def average(out, *shares, further=()):
    options = [text for folder, share in shares for text in ("--of", str(folder), str(share))]
    return main([EXPERT, *options, *further, "--weights", str(out)])


def test_tensors_are_averaged_by_their_shares(two, tmp_path):
    first, second = two
    assert average(tmp_path / "out", (first, 4), (second, 2)) == 0
    state = read_weights(NAME, tmp_path / "out")
    np.testing.assert_allclose(state["layer"], np.full(3, 2.0))
    assert state["layer"].dtype == np.float16
    assert state["n_batches"] == 1


def test_the_manifest_tells_what_was_averaged(two, tmp_path):
    first, second = two
    average(tmp_path / "out", (first, 2), (second, 1))
    entry = read_manifest(tmp_path / "out")[NAME]
    assert entry["steps"] == 220
    assert "size_ratio_error" not in entry
    of_files = [read_manifest(folder)[NAME]["sha256"] for folder in two]
    assert entry["average_of"] == [
        {"sha256": of_files[0], "share": 0.6667},
        {"sha256": of_files[1], "share": 0.3333},
    ]
    assert entry["sha256"] not in of_files


@pytest.mark.parametrize(("further", "own"), [((), 0), (("--size-of", "b"), 1)])
def test_the_size_model_is_that_of_one(two, tmp_path, monkeypatch, further, own):
    monkeypatch.chdir(tmp_path)
    shares = [(folder.relative_to(tmp_path), 1) for folder in two]
    assert average(tmp_path / "out", *shares, further=further) == 0
    state = read_weights(NAME, tmp_path / "out")
    np.testing.assert_allclose(state["layer"], np.full(3, 2.5))
    np.testing.assert_allclose(state["size_centres"], np.full((5, 2), (1.0, 4.0)[own]))
    np.testing.assert_allclose(state["size_weight"], np.full(5, (1.0, 4.0)[own]))
    entry = read_manifest(tmp_path / "out")[NAME]
    assert entry["size_of"] == read_manifest(two[own])[NAME]["sha256"]


def test_a_network_without_a_size_model_has_none_to_take(tmp_path, caplog):
    both = [make_weights(tmp_path / name, 1, with_size=False) for name in "ab"]
    shares = [(folder, 1) for folder in both]
    assert average(tmp_path / "out", *shares, further=("--size-of", str(both[0]))) == 1
    assert "size model" in caplog.text
    assert not (tmp_path / "out").exists()


def test_the_average_may_replace_one_of_the_files(two):
    first, second = two
    assert average(second, (first, 1), (second, 1)) == 0
    np.testing.assert_allclose(read_weights(NAME, second)["layer"], np.full(3, 2.5))
    np.testing.assert_allclose(read_weights(NAME, first)["layer"], np.full(3, 1.0))


def test_other_networks_are_refused_and_nothing_is_written(two, tmp_path, caplog):
    other = make_weights(tmp_path / "c", 1, shape=(4,))
    assert average(tmp_path / "out", (two[0], 1), (other, 1)) == 1
    assert "different networks" in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lacking", ["folder", "entry"])
def test_what_is_missing_is_named(two, tmp_path, caplog, lacking):
    path = tmp_path / "elsewhere"
    if lacking == "entry":
        path.mkdir()
        (path / "manifest.json").write_text(json.dumps({"format": 1, "files": {}}))
    assert average(tmp_path / "out", (two[0], 1), (path, 1)) == 1
    assert "elsewhere" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("shares", [[], [1], [1, 0], [1, -1], [1, "nan"], [1, "much"]])
def test_wrong_usage(two, tmp_path, shares, capsys):
    with pytest.raises(SystemExit) as stopped:
        average(tmp_path / "out", *zip(two, shares, strict=False))
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_size_model_of_a_stranger_is_wrong_usage(two, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        average(tmp_path / "out", *((folder, 1) for folder in two), further=("--size-of", "c"))
    assert stopped.value.code == 2
    assert "--size-of" in capsys.readouterr().err
