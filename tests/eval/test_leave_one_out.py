import json
import subprocess
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

import eval.leave_one_out
from eval.leave_one_out import (
    GivenScale,
    ImageResult,
    SourceResult,
    choose_images,
    format_table,
    list_chain,
    main,
    read_option,
    score_source,
)
from tests.fakes import DiscNetwork, scatter_discs
from tests.training.folders import write_index
from training.data import Record


@pytest.fixture
def data(tmp_path):
    """Two phase sets of discs, with their labels, one also in the test split."""
    folder, rows = tmp_path / "data", []
    folder.mkdir()
    for i, (dataset, split) in enumerate([("old", "train"), ("new", "train"), ("new", "test")]):
        discs = scatter_discs((140, 160), 32, 9, seed=i)
        labels = DiscNetwork().decode(discs[None] - 0.5)
        iio.imwrite(folder / f"{i}.png", (200 * discs).astype(np.uint8))
        tifffile.imwrite(folder / f"{i}_label.tiff", labels.astype(np.uint16))
        facts = {"modality": "phase", "dataset": dataset, "split": split, "annotated": "all"}
        rows.append({"image": f"{i}.png", "label": f"{i}_label.tiff", **facts})
    write_index(folder, rows)
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Stand in for training and for the weights; collects the commands."""
    commands: list[list[str]] = []
    codes: list[int] = []

    class Done:
        def __init__(self, command, check):
            assert not check
            commands.append(command)
            Path(command[command.index("--runs") + 1]).mkdir(parents=True, exist_ok=True)
            self.returncode = codes.pop(0) if codes else 0

    class Loader:
        def __call__(self, expert, device, weights_dir):
            return DiscNetwork()

        def cache_clear(self):
            """Nothing is kept."""

    monkeypatch.setattr(subprocess, "run", Done)
    monkeypatch.setattr(eval.leave_one_out, "load_segmenter", Loader())
    return commands, codes


def run(data, tmp_path, *options, source=("new",)):
    folders = ["--data", data, "-o", tmp_path / "out"]
    return main([str(o) for o in (*folders, "--source", *source, *options)])


def test_all_that_an_expert_starts_from_is_trained_without_the_source(
    data, tmp_path, trained, capsys
):
    commands, _ = trained
    assert run(data, tmp_path, "--", "--steps", "5", "--device=cpu") == 0
    assert [command[2] for command in commands] == ["cellpose_base", "cellpose_phase"]
    for command in commands:
        assert command[command.index("--leave-out") + 1] == "new"
        assert command[-3:] == ["--steps", "5", "--device=cpu"]
    row = capsys.readouterr().out.splitlines()[2]
    assert row.startswith("| new | phase | cellpose_phase | 2 | 1.000 | 1.000 |")
    result = json.loads((tmp_path / "out/new/cellpose_phase.json").read_text())
    assert [image["name"] for image in result["images"]] == ["1.png", "2.png"]  # both splits


def test_what_is_done_is_not_done_again(data, tmp_path, trained, capsys):
    commands, _ = trained
    assert run(data, tmp_path) == 0
    first = capsys.readouterr().out
    n_commands = len(commands)
    assert run(data, tmp_path) == 0
    assert capsys.readouterr().out == first
    assert len(commands) == n_commands
    assert run(data, tmp_path, "--images", "1") == 0  # other images, other options: again
    assert run(data, tmp_path, "--", "--steps", "9") == 0
    assert len(commands) == 3 * n_commands


def test_sources_left_out_together_share_their_training(data, tmp_path, trained, capsys):
    commands, _ = trained
    assert run(data, tmp_path, "--together", "--", "--steps", "5", source=("new", "old")) == 0
    for command in commands:
        first = command.index("--leave-out") + 1
        assert command[first : first + 3] == ["new", "old", "--steps"]
    folders = {command[command.index("--runs") + 1] for command in commands}
    assert folders == {str(tmp_path / "out/new+old/runs")}  # train.py skips what is trained there
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| new", "| old"]
    n_commands = len(commands)
    assert run(data, tmp_path, "--together", "--", "--steps", "5", source=("new", "old")) == 0
    assert len(commands) == n_commands


@pytest.mark.parametrize(("code", "expected"), [(3, 3), (1, 2)])
def test_a_training_that_does_not_finish_ends_it(data, tmp_path, trained, code, expected):
    commands, codes = trained
    codes += [0, code]
    assert run(data, tmp_path) == expected
    assert len(commands) == 2
    assert not (tmp_path / "out/new/cellpose_phase.json").exists()
    assert run(data, tmp_path) == 0


@pytest.mark.parametrize("source", ["livecell", "nowhere"])
def test_an_unknown_source_is_one_line(data, tmp_path, trained, source, caplog):
    assert run(data, tmp_path, source=(source,)) == 2
    assert f"no labelled images of {source}" in caplog.text


def test_a_run_that_starts_from_a_file_needs_no_other():
    assert list_chain("unet_brightfield", ()) == ["cdnet_fluorescence", "unet_brightfield"]
    assert list_chain("unet_brightfield", ("--init", "a.pth")) == ["unet_brightfield"]
    assert list_chain("cdnet_fluorescence", ()) == ["cdnet_fluorescence"]


@pytest.mark.parametrize(
    ("options", "value"),
    [((), "cpu"), (("--device", "cuda"), "cuda"), (("--steps", "3", "--device=cuda:1"), "cuda:1"),
     (("--device",), "cpu")],
)  # fmt: skip
def test_an_option_is_found(options, value):
    assert read_option(options, "--device", "cpu") == value


def test_images_are_spread_over_the_names():
    records = [Record(Path(f"{c}.png"), None, "", "", "", "") for c in "gfedcba"]
    chosen = choose_images(records, 3)
    assert [record.image.name for record in chosen] == ["a.png", "d.png", "g.png"]
    assert len(choose_images(records, 30)) == 7


def test_the_true_size_is_told_to_the_network(data):
    """Discs of 19 px become 30 px wide, whatever the network would have chosen."""
    scales = []

    class Watched(DiscNetwork):
        def choose_scale(self, views):
            return 1.0

        def forward(self, batch):
            row = batch[0].mean(axis=2) > 0.5
            scales.append(int(row.any(0).sum()))
            return super().forward(batch)

    records = [Record(data / "0.png", data / "0_label.tiff", "phase", "", "old", "train")]
    (result,) = score_source(Watched(tile_px=512), records, with_size=True)
    assert result.f1 == 1
    assert result.f1_true_size is not None
    assert result.f1_true_size > 0.9
    told, own = scales[0], scales[-1]
    assert told / own == pytest.approx(30 / 19, rel=0.15)
    (bare,) = score_source(DiscNetwork(), records, with_size=False)
    assert bare.f1_true_size is None
    assert GivenScale(DiscNetwork(), 2.5).choose_scale([]) == 2.5


def test_the_table_has_means_and_medians():
    images = tuple(ImageResult(str(i), f1, t) for i, (f1, t) in enumerate([(0.2, 0.4), (0.8, 0.6)]))
    with_size = SourceResult("a", "dic", "cellpose_dic", (), (*images, ImageResult("x", 0.8, None)))
    without = SourceResult(
        "b", "fluorescence", "cdnet_fluorescence", (), (ImageResult("y", 0.5, None),)
    )
    lines = format_table([with_size, without]).splitlines()
    assert lines[2] == "| a | dic | cellpose_dic | 3 | 0.600 | 0.800 | 0.500 |"
    assert lines[3] == "| b | fluorescence | cdnet_fluorescence | 1 | 0.500 | 0.500 |  |"
