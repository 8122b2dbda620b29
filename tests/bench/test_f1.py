import json

import numpy as np
import pytest
import tifffile

from bench.f1 import draw_discs, main, score_dense, score_sparse


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_count_the_same(tmp_path, seed):
    rng = np.random.default_rng(seed)
    paths = tmp_path / "a.tif", tmp_path / "a_label.tiff"
    for path in paths:
        labels = draw_discs(90, 40, rng)
        labels[:, : 30 * seed] = 0
        tifffile.imwrite(path, labels)
    counts = score_dense(*paths)
    assert counts == score_sparse(*paths)
    assert 0 < counts.tp < counts.n_true


def test_discs_are_as_many_as_asked_for():
    labels = draw_discs(200, 60, np.random.default_rng(0))
    assert 60 <= np.unique(labels[labels > 0]).size <= 64


@pytest.mark.slow
def test_the_benchmark_writes_what_it_measured(tmp_path, capsys):
    out = tmp_path / "f1.json"
    options = ["--side", "120", "--cells", "50", "--slide-side", "300", "--slide-cells", "200"]
    assert main([*options, "--images", "2", "--repeats", "2", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["against_dense"]["ratio_of_medians"] > 0
    assert len(result["many"]["threads_s"]) == len(result["slide"]["seconds"]) == 2
    assert result["slide"]["peak_mib"] > 1
