import numpy as np
import pytest

from bench import real_maps
from bench.decoding import CONTESTS, Contest, make_maps
from bench.real_maps import Agreement, compare_decoders, format_table, main
from training.data import Record


@pytest.fixture(scope="module")
def field():
    return make_maps(256, 60)


@pytest.mark.parametrize("name", ["cdnet", "unet"])
def test_a_decoder_agrees_with_its_reference(name, field):
    _, maps = field
    agreement = Agreement(name).add(maps[CONTESTS[name].maps])
    assert agreement.n_images == 1
    assert agreement.n_ours == agreement.n_reference > 10
    assert (agreement.f1, agreement.count_error) == (1.0, 0.0)


def test_what_a_decoder_loses_counts(field, monkeypatch):
    labels, maps = field

    def find_all(maps):
        del maps
        return labels

    def lose_one(maps):
        return np.where(find_all(maps) == 1, 0, labels)

    monkeypatch.setitem(CONTESTS, "cellpose", Contest("flows", lose_one, find_all))
    n = int(labels.max())
    twice = Agreement("cellpose").add(maps["flows"]).add(maps["flows"])
    assert (twice.n_images, twice.n_ours, twice.n_reference) == (2, 2 * (n - 1), 2 * n)
    assert twice.count_error == pytest.approx(1 / n)
    assert twice.f1 == pytest.approx((n - 1) / (n - 0.5))
    assert f"| {twice.n_ours} | {twice.n_reference} |" in format_table([twice])


def test_an_image_goes_to_the_expert_of_its_modality(tmp_path, field, monkeypatch):
    _, maps = field
    asked = []

    def load(expert, device, weights_dir):
        asked.append(expert)

    def compute(network, record):
        del network, record
        return maps["classes"]

    monkeypatch.setattr(real_maps, "load_segmenter", load)
    monkeypatch.setattr(real_maps, "compute_maps", compute)
    records = [
        Record(tmp_path / f"{name}.png", None, name, "", "set", "train")
        for name in ("phase", "fluorescence", "brightfield")
    ]
    agreements = list(compare_decoders(records, ["cdnet", "unet"], tmp_path))
    assert asked == ["cdnet_fluorescence", "unet_brightfield"]
    assert [a.n_images for a in agreements] == [1, 1]


def test_data_that_is_not_there_is_named(tmp_path, caplog):
    assert main(["--data", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in caplog.text
