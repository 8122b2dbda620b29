import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cold_start import (
    BenchmarkError,
    Execution,
    Setting,
    build_parser,
    describe_machine,
    execute,
    format_report,
    median_of,
    read_choice,
    write_default_image,
)

LOG = """DEBUG a.png: 0.5 network pixels a pixel
DEBUG a.png: 1.25 network pixels a pixel
INFO a.png: 512 x 512 x 3, phase, cellpose_general, 95 cells, network 1.00 s
"""


def python(code, name="test"):
    return execute(name, [sys.executable, "-c", code], n_threads=1)


def test_a_command_is_measured_from_start_to_exit():
    code = "import time; time.sleep(0.2); b = bytes([1]) * (80 << 20); sum(range(10**6))"
    run, said = python(code)
    quick, _ = python("pass", "quick")
    assert (run.command, run.exit_code, said, run.stages) == ("test", 0, "", None)
    assert 0.2 < run.real_s < 20
    assert 0 < run.cpu_s < run.real_s + 1
    assert run.peak_mib > quick.peak_mib + 60
    assert quick.peak_mib < 60  # this process holds more


def test_the_profile_of_a_command_is_read():
    line = 'PROFILE {"total_s": 1.5, "stages": {"start": 0.5, "network": 1.0}}'
    run, said = python(f"import sys; sys.stderr.write('INFO x\\n' + {line!r} + '\\n'); sys.exit(3)")
    assert run.stages == {"start": 0.5, "network": 1.0}
    assert run.exit_code == 3
    assert said.startswith("INFO x")


def test_both_systems_may_use_as_many_threads():
    _, said = python("import os, sys; sys.stderr.write(os.environ['OMP_NUM_THREADS'])")
    assert said == "1"


def test_the_median_of_each_figure_is_its_own():
    runs = [
        Execution("a", 1.0, 5.0, 30.0, 0, {"network": 1.0}),
        Execution("a", 3.0, 4.0, 10.0, 0, {"network": 7.0}),
        Execution("a", 2.0, 9.0, 20.0, 0, {"network": 4.0}),
    ]
    assert median_of(runs) == Execution("a", 2.0, 5.0, 20.0, 0, {"network": 4.0})
    assert median_of([Execution("b", 1.0, 1.0, 1.0, 0)]).stages is None


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
    machine = describe_machine()
    assert machine["versions"]["numpy"] == np.__version__
    json.dumps(machine)


def test_options_of_predict_follow_two_dashes():
    args = build_parser().parse_args(["--repeats", "5", "--json", "a", "--", "--modality", "dic"])
    assert (args.repeats, args.json) == (5, Path("a"))
    assert args.options == ["--modality", "dic"]
