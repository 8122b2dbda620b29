import threading
from dataclasses import asdict, replace

import numpy as np
import pytest

import training.fields
from models.flows import encode_flows
from models.size_view import median_diameter
from tests.cells import draw_discs
from tests.training.folders import write_record
from training.fields import FieldSettings, prepare_field, prepare_fields
from training.optics import simulate_dic, simulate_phase

DISCS = draw_discs((80, 120), [(20, 20, 9), (20, 60, 9), (60, 60, 9), (50, 100, 14)])
WITH_FLOW = FieldSettings(diameter_px=36, with_flow=True)


@pytest.fixture
def record(tmp_path):
    return write_record(tmp_path, 7 * DISCS)  # with gaps between the ids


def assert_same_field(first, second):
    for name, value in asdict(first).items():
        np.testing.assert_array_equal(value, getattr(second, name), err_msg=name)
        assert np.asarray(value).dtype == np.asarray(getattr(second, name)).dtype


@pytest.mark.parametrize("diameter_px", [10, 18, 36])
def test_the_median_cell_gets_the_wanted_diameter(record, diameter_px):
    field = prepare_field(record, FieldSettings(diameter_px=diameter_px))
    # a disc of 10 px has steps of 1 % to 2 % between one number of pixels and the next
    assert median_diameter(field.labels) == pytest.approx(diameter_px, rel=0.04)
    assert field.scale == pytest.approx(diameter_px / 18, rel=0.02)
    assert field.labels.shape == tuple(round(side * field.scale) for side in DISCS.shape)
    np.testing.assert_array_equal(np.unique(field.labels), range(5))


def test_a_field_holds_what_its_docstring_says(record):
    field = prepare_field(record, WITH_FLOW)
    shape = field.labels.shape
    assert field.image.shape == (*shape, 3)
    assert field.flow.shape == (2, *shape)
    assert field.trusted.shape == shape
    assert field.image.dtype == field.flow.dtype == np.float16
    assert field.trusted.dtype == bool
    assert field.labels.dtype == np.int32
    assert (field.dataset, field.modality, field.name) == ("discs", "phase", "a")
    np.testing.assert_array_equal(field.flow, encode_flows(field.labels).astype(np.float16))
    # image and labels were resampled alike, normalised to 0 outside of cells and 1 inside
    bright = field.image[:, :, 0] > 0.5
    assert np.mean(bright == (field.labels > 0)) > 0.99
    assert prepare_field(record, FieldSettings()).flow.shape == (2, 0, 0)


def test_only_larger_cells_are_reduced(record):
    kept = prepare_field(record, FieldSettings(max_diameter_px=25))
    np.testing.assert_array_equal(kept.labels, DISCS)
    reduced = prepare_field(record, FieldSettings(max_diameter_px=12))
    assert median_diameter(reduced.labels) == pytest.approx(12, rel=0.04)


def test_only_larger_images_are_reduced(record):
    assert prepare_field(record, FieldSettings(max_side_px=120)).labels.shape == (80, 120)
    assert prepare_field(record, FieldSettings(max_side_px=60)).labels.shape == (40, 60)


def test_an_image_without_cells_keeps_its_pixels(tmp_path):
    empty = write_record(tmp_path, np.zeros((40, 50), int))
    field = prepare_field(empty, WITH_FLOW)
    assert not field.labels.any()
    assert not field.flow.any()
    assert field.labels.shape == (40, 50)
    assert np.isnan(median_diameter(field.labels))


def test_all_of_a_complete_annotation_is_trusted(record):
    assert prepare_field(record, FieldSettings()).trusted.all()


def test_a_partial_annotation_is_trusted_near_its_cells(tmp_path):
    labels = draw_discs((80, 120), [(40, 40, 10)])
    record = write_record(tmp_path, labels, annotated="partial: large cells only")
    trusted = prepare_field(record, FieldSettings()).trusted
    y, x = np.indices(labels.shape)
    distance = np.hypot(y - 40, x - 40)
    assert trusted[distance <= 18].all()
    assert not trusted[distance > 21].any()


@pytest.mark.parametrize("shape", [(80, 119), (120, 80)])
def test_labels_of_another_size_are_refused(tmp_path, shape):
    record = write_record(tmp_path, DISCS, image=np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"a\.tif: .*\(80, 120\)"):
        prepare_field(record, FieldSettings())


def test_a_record_without_labels_is_refused(record, tmp_path):
    unlabelled = replace(record, label=None)
    with pytest.raises(ValueError, match=r"a\.tif: has no labels"):
        prepare_fields([unlabelled], FieldSettings(), tmp_path / "cache")


def test_fields_come_in_the_order_of_the_records(tmp_path):
    records = [write_record(tmp_path, DISCS, name) for name in "edcba"]
    assert [field.name for field in prepare_fields(records, FieldSettings())] == [*"edcba"]
    assert prepare_fields([], FieldSettings()) == []


def test_the_cache_gives_the_same_field_without_preparing_it(record, tmp_path, monkeypatch):
    cache = tmp_path / "deep" / "cache"
    (fresh,) = prepare_fields([record], WITH_FLOW, cache)
    assert_same_field(fresh, prepare_field(record, WITH_FLOW))
    monkeypatch.setattr(training.fields, "prepare_field", None)
    (kept,) = prepare_fields([record], WITH_FLOW, cache)
    assert_same_field(fresh, kept)
    # of the same content elsewhere only the names are others
    for path in (record.image, record.label):
        path.rename(path.with_name("b" + path.name))
    moved = replace(
        record,
        image=record.image.with_name("ba.tif"),
        label=record.label.with_name("ba_label.tiff"),
        dataset="other",
    )
    (kept,) = prepare_fields([moved], WITH_FLOW, cache)
    assert_same_field(kept, replace(fresh, dataset="other", name="ba"))


def test_the_cache_is_keyed_by_all_that_makes_a_field(record, tmp_path):
    cache = tmp_path / "cache"

    def n_files_after(record, settings=WITH_FLOW, renders=None):
        prepare_fields([record], settings, cache, renders)
        return len(list(cache.iterdir()))

    assert n_files_after(record) == n_files_after(record) == 1
    assert n_files_after(record, replace(WITH_FLOW, diameter_px=30)) == 2
    assert n_files_after(replace(record, annotated="partial")) == 3
    assert n_files_after(record, renders=lambda _: ("dic",)) == 4
    write_record(tmp_path, DISCS)  # the same cells with other ids in the file
    assert n_files_after(record) == 5
    write_record(tmp_path, 7 * DISCS, image=DISCS.astype(np.uint16))
    assert n_files_after(record) == 6
    assert not list(cache.glob("*partial*"))


def test_copies_of_an_image_may_be_prepared_at_once(record, tmp_path, monkeypatch):
    both, write = threading.Barrier(2, timeout=10), np.savez

    def write_together(*args, **arrays):
        write(*args, **arrays)
        both.wait()  # neither moves its file before the other has written

    monkeypatch.setattr(np, "savez", write_together)
    fields = prepare_fields([record, record], FieldSettings(), tmp_path / "cache")
    assert_same_field(*fields)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_quantitative_phase_is_rendered_as_the_contrasts_asked_for(tmp_path):
    height = np.maximum(0, 81 - ((np.indices((96, 96)) - 48) ** 2).sum(0) / 8).astype(np.float32)
    record = write_record(tmp_path, (height > 0).astype(int), image=height, modality="qpi")
    cache = tmp_path / "cache"
    fields = prepare_fields([record], FieldSettings(), cache, lambda _: ("phase", "dic"))
    assert [(f.modality, f.dataset) for f in fields] == [
        ("phase", "discs_as_phase"),
        ("dic", "discs_as_dic"),
    ]
    phase, dic = (f.image[:, :, 0].astype(np.float32) for f in fields)
    inside = height > 0
    # phase contrast sets the cell off from its surroundings, DIC one flank from the other
    assert abs(phase[inside].mean() - phase[~inside].mean()) > 0.1
    assert abs(dic[inside].mean() - dic[~inside].mean()) < 0.05
    assert dic[inside].std() > 2 * dic[~inside].std()
    again = prepare_fields([record], FieldSettings(), cache, lambda _: ("phase", "dic"))
    for first, second in zip(fields, again, strict=True):
        assert_same_field(first, second)
    for first, render in zip(fields, ("phase", "dic"), strict=True):
        assert_same_field(first, prepare_field(record, FieldSettings(), render))


@pytest.mark.parametrize("simulate", [simulate_dic, simulate_phase])
def test_simulated_contrast_is_grey_even_of_nothing(simulate):
    for phase in (np.zeros((20, 30), np.float32), 1e4 * np.eye(25, dtype=np.float32)):
        grey = simulate(phase, np.random.default_rng(0))
        assert grey.shape == phase.shape
        assert grey.dtype == np.float32
        assert grey.min() >= 0
        assert grey.max() <= 1
        assert np.median(grey) == pytest.approx(0.5, abs=0.1)
