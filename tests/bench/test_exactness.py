import json

import numpy as np
import pytest

from bench import exactness
from bench.exactness import WHOLE_PX, Lines, RecallingNetwork, format_cuts, main, make_scene
from tests.fakes import DiscNetwork

SIZE = ("300", "420")


class ForgetfulNetwork(DiscNetwork):
    """Find nothing where it has less than the whole slide before it."""

    def decode(self, maps):
        return super().decode(maps) * (maps.shape[1] >= int(SIZE[0]))


@pytest.fixture
def network(monkeypatch):
    """Stand in for every expert."""
    fake = DiscNetwork(style=0.1, object_px=40)
    monkeypatch.setattr(exactness, "load_segmenter", lambda *_: fake)
    monkeypatch.setattr("synthetic.slides.N_TILES", 1)
    return fake


@pytest.fixture
def run(network, tmp_path, capsys):
    """Run the command on a small slide; gives exit code, table and the cuts of the file."""

    def run(*arguments):
        path = tmp_path / "out.json"
        wanted = ["--kind", "cdnet", "--size", *SIZE, "--tissue", "1", "--blocks", "60", "150"]
        code = main([*wanted, "--json", str(path), *arguments])
        return code, capsys.readouterr().out, json.loads(path.read_text())["cuts"]

    return run


def test_blocks_are_compared_with_the_one_piece_and_other_windows_too(run):
    code, table, cuts = run("--tile", "32", "96")
    assert code == 0
    ways = [(cut["tile_px"], cut["block_px"], cut["n_blocks"]) for cut in cuts]
    whole = WHOLE_PX
    assert ways == [(64, whole, 1), (64, 60, 35), (64, 150, 6), (32, whole, 1), (96, whole, 1)]
    assert all(cut["n_cells"] > 10 and cut["f1"] > 0.3 for cut in cuts)
    for cut in cuts[:3]:
        assert (cut["more"], cut["same"]) == (0, 1)
        assert cut["on_blocks"] == cut["on_blocks_whole"]
        assert cut["f1"] == cuts[0]["f1"]
    lines = table.splitlines()
    assert len(lines) == 2 + len(cuts)
    assert lines[2].startswith("| cdnet | 64 | one piece | 1 | ")
    assert lines[3].startswith("| cdnet | 64 | 60 | 35 | ")


def test_half_windows_are_tried_unless_others_are_named(run):
    assert [cut["tile_px"] for cut in run()[2]] == [64, 64, 64, 32]
    assert [cut["tile_px"] for cut in run("--tile")[2]] == [64, 64, 64]


def test_a_decoder_that_depends_on_the_block_is_told(run, monkeypatch):
    monkeypatch.setattr(exactness, "load_segmenter", lambda *_: ForgetfulNetwork(object_px=40))
    code, table, cuts = run()
    assert code == 1
    assert cuts[0]["same"] == 1
    assert cuts[1]["same"] == 0
    assert cuts[1]["more"] == -1
    assert "-100.00%" in table


def test_an_empty_slide_is_no_error(network):
    scene = make_scene("cdnet", (120, 120), 0.0, network)
    cuts = list(exactness.compare_cuts(scene, [32], [60]))
    assert [(cut.n_cells, cut.more, cut.f1) for cut in cuts] == [(0, 0, 0)] * 3
    assert format_cuts(cuts)


def test_batches_are_computed_once():
    network = DiscNetwork()
    recalling, batch = RecallingNetwork(network), np.ones((2, 32, 32, 3), np.float32)
    first, again = (recalling.forward(batch) for _ in range(2))
    assert first is again
    assert network.calls == 1
    np.testing.assert_array_equal(recalling.forward(batch[:1]), first[:1])
    assert network.calls == 2


def test_lines_cut_the_cells_that_end_there():
    labels = np.zeros((60, 80), np.int32)
    labels[10:30, 20:40] = 1
    labels[40:55, 60:75] = 3
    lines = Lines((30,), (60,))
    assert lines.share_cut(labels) == 1
    assert Lines((), (40,)).share_cut(labels) == 0.5
    assert lines.between() == Lines((15,), (30,))
    assert lines.share_cut(np.zeros_like(labels)) == 0


@pytest.mark.parametrize("wrong", [["--tile", "33"], ["--blocks", "0"], ["--size", "0", "9"]])
def test_wrong_usage_ends_with_2(network, wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--kind", "cdnet", "--size", *SIZE, *wrong])
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err
