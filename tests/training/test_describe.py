import pytest
from torch import nn

import training.describe
from models.registry import EXPERTS
from training.describe import describe, format_table, main
from training.recipes import RECIPES


@pytest.mark.parametrize(
    ("expert", "millions"),
    [
        ("unet_brightfield", "20.27"),
        ("cdnet_fluorescence", "20.47"),
        ("cellpose_phase", "6.60"),
    ],
)
def test_parameters_are_those_of_the_paper(expert, millions):
    assert f"{describe(expert, RECIPES[expert], 64).n_parameters / 1e6:.2f}" == millions


def test_a_convolution_is_counted_by_hand(monkeypatch):
    """Nine products and sums an input channel, output channel and pixel."""
    monkeypatch.setitem(training.describe.BUILDERS, "unet", lambda: nn.Conv2d(3, 8, 3, padding=1))
    row = describe("unet_brightfield", RECIPES["unet_brightfield"], 32)
    assert row.n_flops == 2 * 9 * 3 * 8 * 32 * 32
    assert row.n_parameters == 9 * 3 * 8 + 8


@pytest.mark.parametrize("expert", ["unet_brightfield", "cdnet_fluorescence", "cellpose_dic"])
def test_flops_grow_with_the_window(expert):
    small, large = (describe(expert, RECIPES[expert], side).n_flops for side in (64, 128))
    assert large / small == pytest.approx(4, rel=0.01)


def test_the_encoder_of_the_unet_is_vgg16():
    """VGG16 is known for 15.35 G multiplications at 224 px; the decoder comes on top."""
    row = describe("unet_brightfield", RECIPES["unet_brightfield"], 224)
    assert 2 * 15.35e9 < row.n_flops < 2 * 20e9


def test_every_expert_has_its_row(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(EXPERTS)
    assert "3 x 256 x 256 | 20.47M | 75062.58M | 20.47M, 148073.35M" in lines[-1]


def test_a_table_is_rows_of_cells():
    rows = [describe("cellpose_dic", RECIPES["cellpose_dic"], 64)]
    lines = format_table(rows).splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize("window", ["0", "-32", "100"])
def test_a_window_that_the_networks_do_not_take_is_refused(window, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--window", window])
    assert caught.value.code == 2
    assert "multiple of 32" in capsys.readouterr().err
