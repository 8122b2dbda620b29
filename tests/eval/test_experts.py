import csv
import math
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

import eval.experts
from eval.experts import Score, check_sizes, choose_records, format_table, main, tell_size
from models.registry import EXPERTS
from tests.fakes import DiscNetwork, scatter_discs
from tests.training.folders import write_index
from training.data import DataError, list_records


@pytest.fixture
def data(tmp_path):
    """Ten phase images of discs in two sets; the last set is annotated in part."""
    folder, rows = tmp_path / "data", []
    folder.mkdir()
    for i in range(10):
        discs = scatter_discs((90, 90), 30, 9, seed=i)
        labels = DiscNetwork().decode(discs[None] - 0.5)
        iio.imwrite(folder / f"{i}.png", (200 * discs).astype(np.uint8))
        tifffile.imwrite(folder / f"{i}_label.tiff", labels.astype(np.uint16))
        dataset, annotated = ("a", "all") if i < 7 else ("b", "partial: discs")
        facts = {
            "modality": "phase",
            "dataset": dataset,
            "split": "test" if i in (5, 6, 9) else "train",
            "annotated": annotated,
        }
        rows.append({"image": f"{i}.png", "label": f"{i}_label.tiff", **facts})
    write_index(folder, rows)
    return folder


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """Stand in for weights and experts; collects what was loaded."""
    weights, names = tmp_path / "weights", []
    weights.mkdir()
    for expert in EXPERTS:
        (weights / f"{expert}.safetensors").write_bytes(expert.encode())

    def load(expert, device, folder):
        names.append(expert)
        return DiscNetwork()

    monkeypatch.setattr(eval.experts, "load_segmenter", load)
    monkeypatch.setattr(eval.experts, "verified_path", lambda name, folder: folder / name)
    return names


def run(data, tmp_path, *options):
    folders = ["--data", str(data), "-o", str(tmp_path / "out")]
    return main([*folders, "--weights", str(tmp_path / "weights"), *options])


def test_every_expert_scores_every_image(data, tmp_path, loaded, capsys):
    names = ["cellpose_phase", "unet_brightfield"]
    assert run(data, tmp_path, "--split", "test", "--experts", *names) == 0
    table = capsys.readouterr().out
    assert (tmp_path / "out/table.md").read_text() == table
    head, _, modality, dataset = table.splitlines()
    assert head.startswith("| images of | number | cellpose_phase (estimated size) | unet_bright")
    assert modality == "| **phase** (mean / median) | 2 | 1.000 / 1.000 | 1.000 / 1.000 |"
    assert dataset == "| a | 2 | 1.000 | 1.000 |"
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["expert"], row["image"]) for row in rows] == [
        (name, image) for name in names for image in ("5.png", "6.png")
    ]


def test_what_was_scored_is_not_scored_again(data, tmp_path, loaded, monkeypatch):
    options = ("--split", "test", "--experts", "cellpose_phase")
    assert run(data, tmp_path, *options) == 0
    before = (tmp_path / "out/scores.csv").read_text()
    monkeypatch.setattr(eval.experts, "score_image", None)  # would fail
    assert run(data, tmp_path, *options) == 0
    assert (tmp_path / "out/scores.csv").read_text() == before


def test_other_weights_are_scored_anew(data, tmp_path, loaded):
    options = ("--split", "test", "--experts", "cellpose_phase")
    assert run(data, tmp_path, *options) == 0
    (tmp_path / "weights/cellpose_phase.safetensors").write_bytes(b"trained on")
    assert run(data, tmp_path, *options) == 0
    assert len((tmp_path / "out/scores.csv").read_text().splitlines()) == 1 + 2 + 2


def test_sizes_are_told_to_cellpose_experts_alone(data, tmp_path, loaded, capsys):
    names = ["cellpose_phase", "cdnet_fluorescence"]
    sizes = ["estimated", "true", "45"]
    assert run(data, tmp_path, "--split", "test", "--experts", *names, "--size", *sizes) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head.count("cellpose_phase") == 3
    assert head.count("cdnet_fluorescence") == 1


@pytest.mark.parametrize(("size", "scale"), [("true", 3.0), ("15", 2.0)])
def test_a_told_size_gives_the_scale(size, scale):
    assert tell_size(DiscNetwork(), size, 10.0).choose_scale([]) == pytest.approx(scale)


@pytest.mark.parametrize(("size", "diameter"), [("estimated", 10.0), ("true", math.nan)])
def test_without_a_size_the_expert_estimates(size, diameter):
    network = DiscNetwork()
    assert tell_size(network, size, diameter) is network


def test_validation_images_come_from_the_training_split(data):
    chosen = choose_records(list_records(data), "validation", ["phase"], 9)
    assert [r.dataset for r in chosen] == ["a"]
    assert all(r.split == "train" for r in chosen)


def test_no_image_is_an_error(data):
    with pytest.raises(DataError, match="no labelled test images of dic"):
        choose_records(list_records(data), "test", ["dic"], 9)


@pytest.mark.parametrize("size", ["0", "-3", "inf", "nan", "small"])
def test_a_size_that_is_none_is_refused(data, tmp_path, loaded, caplog, size):
    with pytest.raises(ValueError, match="--size"):
        check_sizes([size])
    assert run(data, tmp_path, "--experts", "cellpose_phase", f"--size={size}") == 2
    assert "--size takes estimated, true or pixels" in caplog.text


def test_a_foreign_score_file_is_named(data, tmp_path, loaded, caplog):
    out = tmp_path / "out"
    out.mkdir()
    (out / "scores.csv").write_text("a,b\n1,2\n")
    assert run(data, tmp_path, "--experts", "cellpose_phase") == 2
    assert "scores.csv" in caplog.text
    assert (out / "scores.csv").read_text() == "a,b\n1,2\n"


def test_a_column_without_scores_stays_empty():
    scores = [
        Score("x", "0", "true", "phase", "a", "1.png", 0.5),
        Score("y", "0", "true", "dic", "b", "2.png", 1.0),
    ]
    lines = format_table(scores).splitlines()[2:]
    assert lines == [
        "| **phase** (mean / median) | 1 | 0.500 / 0.500 |  |",
        "| a | 1 | 0.500 |  |",
        "| **dic** (mean / median) | 1 |  | 1.000 / 1.000 |",
        "| b | 1 |  | 1.000 |",
    ]


def test_no_image_a_set_is_a_usage_error(data, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        run(data, Path(tmp_path), "--experts", "cellpose_phase", "--images", "0")
