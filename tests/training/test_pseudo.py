import csv
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from imaging.image import ArraySource, SourceImage
from tests.cells import draw_discs
from tests.fakes import DiscNetwork, scatter_discs
from training.data import Record
from training.fields import FieldSettings
from training.pseudo import (
    PseudoSettings,
    choose_regions,
    compare_answers,
    predict_pseudo,
    prepare_pseudo,
    prepare_unlabelled,
)

SETTINGS = (FieldSettings(with_flow=True), PseudoSettings())


class Forgetful(DiscNetwork):
    """Finds nothing in every second image it sees."""

    n_seen = 0

    def choose_scale(self, views):
        self.n_seen += 1
        return self.scale

    def decode(self, maps):
        labels = super().decode(maps)
        return labels if self.n_seen % 2 else np.zeros_like(labels)


@pytest.fixture
def records(tmp_path):
    """Three unlabelled images: twelve discs, one disc, nothing."""
    images = {
        "many": scatter_discs((96, 128), 32, 9),
        "few": draw_discs((64, 64), [(30, 30, 9)]),
        "none": np.zeros((50, 70)),
    }
    records = []
    for name, image in images.items():
        path = tmp_path / f"{name}.png"
        iio.imwrite(path, (200 * image).astype(np.uint8))
        records.append(Record(path, None, "dic", "", "slides", "unlabelled"))
    return records


def test_cells_that_both_answers_have_are_kept():
    first = draw_discs((60, 80), [(15, 15, 9), (40, 20, 9), (30, 60, 10)])
    second = draw_discs((60, 80), [(31, 61, 9), (16, 15, 9), (50, 45, 6)])
    mask = compare_answers(first, second)
    assert mask.n_cells == 2
    np.testing.assert_array_equal(mask.labels > 0, np.isin(first, (1, 3)))
    assert mask.agreement == pytest.approx(2 * 2 / (3 + 3))
    # neither the cell that only one of the answers has is known, nor the one of the other
    doubtful = (first == 2) | (second == 3)
    np.testing.assert_array_equal(mask.trusted, ~doubtful)


def test_answers_without_cells_do_not_agree_on_anything():
    empty, one = np.zeros((20, 20), np.int32), draw_discs((20, 20), [(10, 10, 5)])
    assert compare_answers(empty, empty).agreement == 0
    assert compare_answers(empty, empty).trusted.all()
    lonely = compare_answers(one, empty)
    assert (lonely.n_cells, lonely.agreement) == (0, 0)
    np.testing.assert_array_equal(lonely.trusted, one == 0)


def test_half_a_cell_is_no_agreement():
    first, second = np.zeros((2, 10, 40), np.int32)
    first[:, :20], second[:, 10:30] = 1, 1
    assert compare_answers(first, second).n_cells == 0
    second[:] = 0
    second[:, 3:20] = 1
    assert compare_answers(first, second).agreement == 1


def test_an_expert_that_is_sure_agrees_with_itself(tmp_path):
    pixels = (200 * scatter_discs((96, 128), 32, 9))[..., None].astype(np.uint8)
    mask = predict_pseudo(DiscNetwork(), pixels, tmp_path)
    assert mask.agreement == 1
    assert mask.n_cells == 12
    assert mask.trusted.all()
    doubtful = predict_pseudo(Forgetful(), pixels, tmp_path)
    assert doubtful.agreement == 0
    assert not doubtful.is_sure(PseudoSettings(min_agreement=0.1, min_cells=0))


def test_sure_images_become_fields_and_the_others_go(records, tmp_path):
    fields = prepare_pseudo(records, DiscNetwork(), SETTINGS, tmp_path / "masks")
    assert fields is not None
    (field,) = fields
    assert (field.name, field.dataset, field.modality) == ("many", "slides", "dic")
    assert field.labels.max() == 12
    assert field.flow.shape == (2, 96, 128)
    with (tmp_path / "masks/masks.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert [rows[r.image.name]["cells"] for r in records] == ["12", "1", "0"]
    assert [rows[r.image.name]["learnt"] for r in records] == ["1", "0", "0"]
    lenient = (SETTINGS[0], PseudoSettings(min_cells=1))
    more = prepare_pseudo(records, DiscNetwork(), lenient, tmp_path / "masks")
    assert more is not None
    assert len(more) == 2


def test_masks_that_were_made_are_not_made_again(records, tmp_path):
    first, again = DiscNetwork(), DiscNetwork()
    asked = iter([False, True])
    stopped = prepare_pseudo(records, first, SETTINGS, tmp_path / "masks", lambda: next(asked))
    assert stopped is None
    fields = prepare_pseudo(records, again, SETTINGS, tmp_path / "masks")
    network = DiscNetwork()
    whole = prepare_pseudo(records, network, SETTINGS, tmp_path / "others")
    assert 0 < again.calls < first.calls < network.calls == first.calls + again.calls
    assert fields is not None
    assert whole is not None
    for one, other in zip(fields, whole, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.trusted, other.trusted)


def test_of_a_slide_the_squares_with_contrast_are_seen():
    pixels = np.zeros((500, 700, 1), np.uint8)
    pixels[420:460, 610:690] = np.random.default_rng(0).integers(0, 255, (40, 80, 1))
    pixels[10:50, 220:260] = 40
    image = SourceImage(Path("slide.tif"), ArraySource(pixels))
    settings = PseudoSettings(region_px=200, n_regions=2)
    assert choose_regions(image, settings) == [(0, 200, 200, 400), (300, 500, 500, 700)]
    assert choose_regions(image, PseudoSettings(region_px=700)) == [(0, 0, 500, 700)]


def test_nothing_of_an_unlabelled_image_is_trusted(records):
    regions = PseudoSettings(region_px=64, n_regions=9)
    fields = prepare_unlabelled(records, FieldSettings(mode="per_channel"), regions)
    assert [field.name for field in fields] == ["many"] * 4 + ["few"] + ["none"] * 2
    assert not any(field.trusted.any() or field.labels.any() for field in fields)
    assert all(max(field.image.shape[:2]) <= 64 for field in fields)
