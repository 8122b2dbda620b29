from pathlib import Path

import numpy as np
import pytest

from eval.router_features import FEATURES, compare, main, measure
from tests.router.fields import write_data
from training.data import DataError, Record
from training.router import FitSettings, Sample

FEW = FitSettings(4, 2, n_starts=2)
GROUND = {"fluorescence": 0.1, "phase": 0.5, "dic": 0.5, "brightfield": 0.9}  # mean value


def make_sample(modality, dataset, i, expert=""):
    """Make a sample that shows its modality by the mean of its value alone."""
    path = Path(dataset) / f"{'abcdefghij'[i]}.png"
    record = Record(path, path, modality, expert, dataset, "train")
    hsv = np.array([0, 0, GROUND[modality] + i / 1000, 0, 0, 0.02])
    return Sample(record, hsv, hsv)


def make_samples(datasets):
    """Make ten samples of each (modality, data set)."""
    experts = {"brightfield": "unet_brightfield"}
    return [
        make_sample(modality, dataset, i, experts.get(modality, ""))
        for modality, dataset in datasets
        for i in range(10)
    ]


SOURCES = (
    ("fluorescence", "a"),
    ("fluorescence", "b"),
    ("brightfield", "c"),
    ("brightfield", "d"),
    ("phase", "e"),
    ("dic", "f"),
)


def test_what_tells_modalities_apart_is_right_everywhere():
    right = measure(make_samples(SOURCES), FEW)
    assert (right.known, right.unseen) == (1.0, 1.0)


def test_phase_and_dic_count_as_one():
    # without `f`, the fit knows no DIC; its images are taken for phase, which is right
    assert measure(make_samples(SOURCES), FEW).unseen == 1.0


def test_features_that_tell_nothing_are_often_wrong():
    found = {name: right for name, _, right in compare(make_samples(SOURCES), [4], 2)}
    assert list(found) == list(FEATURES)
    assert found["HSV"].known == found["V"].known == 1.0
    assert found["HSV, variances"].known == pytest.approx(1 / 3)


def test_a_source_that_looks_like_another_modality_is_wrong():
    samples = make_samples(SOURCES)
    for i in range(10):
        odd = make_sample("fluorescence", "odd", i, "")
        samples.append(Sample(odd.record, odd.hsv + 0.8 * (np.arange(6) == 2), odd.rgb))
    right = measure(samples, FEW)
    assert right.unseen == pytest.approx(6 / 7)


def test_a_lone_source_of_a_modality_cannot_be_left_out():
    with pytest.raises(DataError, match="too few data sets"):
        measure(make_samples([("brightfield", "c"), ("phase", "e")]), FEW)


def test_the_command_prints_a_row_a_choice(tmp_path, capsys):
    data = write_data(tmp_path / "data", n_each=6)
    assert main(["--data", str(data), "--clusters", "8", "4", "--starts", "1"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + 2 * len(FEATURES)
    assert rows[2].startswith("| HSV | 8 | ")


def test_a_folder_without_images_is_an_error(tmp_path, caplog):
    assert main(["--data", str(tmp_path)]) == 2
    assert caplog.records
