from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cold_start
from bench.cold_start import (
    Setting,
    build_parser,
    format_report,
    main,
    read_choice,
    run_starts,
    write_default_image,
)
from bench.execution import BenchmarkError

LOG = """DEBUG a.png: 0.5 network pixels a pixel
DEBUG a.png: 1.25 network pixels a pixel
INFO a.png: 512 x 512 x 3, phase, cellpose_general, 95 cells, network 1.00 s
"""


def test_stock_cellpose_gets_the_expert_and_the_scale_that_counted():
    assert read_choice(LOG) == ("cellpose_general", 1.25)
    with pytest.raises(BenchmarkError, match="no Cellpose expert"):
        read_choice("INFO a.png: 9 x 9 x 3, fluorescence, cdnet_fluorescence, 5 cells, network 1 s")


def test_both_systems_see_one_image_and_the_same_percentiles(tmp_path):
    setting = Setting(tmp_path / "a.png", tmp_path, ("--modality", "phase"), "other-python")
    own, stock = setting.own_command(), setting.stock_command(tmp_path / "w.pth", 27.5)
    assert str(setting.image) in own
    assert str(setting.image) in stock
    assert own[-2:] == ["--modality", "phase"]
    assert stock[0] == "other-python"
    assert stock[stock.index("--diameter") + 1] == "27.5"
    at = stock.index("--norm_percentile")
    assert stock[at + 1 : at + 3] == ["0.5", "99.8"]


def test_both_systems_compute_on_the_same_device(tmp_path):
    for device, tells_stock in (("cpu", False), ("cuda", True)):
        setting = Setting(tmp_path / "a.png", tmp_path, (), "other-python", device)
        own, stock = setting.own_command(), setting.stock_command(tmp_path / "w.pth", 27.5)
        assert own[own.index("--device") + 1] == device
        assert ("--use_gpu" in stock) == tells_stock


def test_without_the_gpu_nothing_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("models.registry.count_gpus", lambda: 0)
    assert main(["--device", "cuda"]) == 1
    assert "no CUDA device found" in capsys.readouterr().err


def test_the_image_is_rgb_of_512_pixels(tmp_path):
    pixels = np.asarray(Image.open(write_default_image(tmp_path / "a.png")))
    assert pixels.shape == (512, 512, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 5
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_a_report_names_every_command_and_the_ratios():
    run = {"command": "own", "real_s": 1.0, "cpu_s": 2.0, "peak_mib": 300.0}
    record = {
        "comparison": {
            "medians": {"own": run, "stock": run | {"command": "stock", "real_s": 5.0}},
            "ratios": {"real_s": 0.2, "cpu_s": 0.25, "peak_mib": 0.5},
            "expert": "cellpose_phase",
            "diameter_px": 27.5,
            "cells": {"stock": 97, "own": 95},
            "f1_between": 0.99,
        },
        "starts": [run | {"command": "--help"}],
    }
    text = format_report(record)
    for part in ("own / stock", "0.200", "0.250", "--help", "97 by stock, 95 by own", "0.990"):
        assert part in text


def test_options_of_predict_follow_two_dashes():
    args = build_parser().parse_args(["--repeats", "5", "--json", "a", "--", "--modality", "dic"])
    assert (args.repeats, args.json) == (5, Path("a"))
    assert args.options == ["--modality", "dic"]


def test_what_answers_at_once_must_end_with_its_own_code(tmp_path, monkeypatch):
    other = tmp_path / "other.py"
    other.write_text("import sys; sys.exit('--no-such-option' not in sys.argv)")
    monkeypatch.setattr(cold_start, "PREDICT", other)
    with pytest.raises(BenchmarkError, match=r"--help: exit code 1, not 0"):
        run_starts(tmp_path, repeats=1)
