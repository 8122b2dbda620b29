import logging

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from tests.cells import draw_discs
from tests.training.folders import names_of, write_record
from training.check import check_record, check_records, check_unlabelled
from training.data import DataError, Record, find_orphans

CELLS = draw_discs((60, 60), [(y, x, 4) for y in (10, 30, 50) for x in (10, 30, 50)])


@pytest.fixture
def good(tmp_path):
    return write_record(tmp_path, CELLS, "good")


def test_good_images_pass(tmp_path, good, caplog):
    one_cell = write_record(tmp_path, draw_discs((30, 30), [(15, 15, 8)]), "one")
    whole = write_record(tmp_path, np.full((20, 20), 7), "whole", np.zeros((20, 20), np.uint8))
    check_records([good, one_cell, whole])
    assert not caplog.records


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (CELLS[:50], r"\(60, 60\) px, its labels .*\(50, 60\) px"),
        (np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8), "colour picture"),
        ((CELLS / 2).astype(np.float32), "fractions"),
        (CELLS.astype(np.int16) - 1, "ids from -1 to 8"),
        (CELLS.astype(np.uint32) * 2**25, "number the cells from 1"),
        ((CELLS > 0).astype(np.uint8) * 255, "one value for 9 regions, a mask"),
    ],
)
def test_one_wrong_label_file_is_named(tmp_path, good, labels, reason):
    wrong = write_record(tmp_path, CELLS, "wrong")
    tifffile.imwrite(wrong.label, labels)
    with pytest.raises(DataError, match=reason) as caught:
        check_records([good, wrong, good])
    assert "wrong" in str(caught.value)
    assert "good" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_in_a_lossy_file_are_refused(tmp_path):
    record = write_record(tmp_path, CELLS, "a")
    iio.imwrite(tmp_path / "a_label.jpg", (CELLS * 20).astype(np.uint8))
    lossy = Record(record.image, tmp_path / "a_label.jpg", "phase", "", "discs", "train")
    assert "JPEG" in check_record(lossy).problem


@pytest.mark.parametrize("which", ["image", "label"])
@pytest.mark.parametrize("content", [None, b"", b"no image", "cut"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, good, which, content):
    bad = write_record(tmp_path, CELLS, "bad")
    path = getattr(bad, which)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:300] if content == "cut" else content)
    with pytest.raises(DataError, match=path.name):
        check_records([good, bad])


def test_the_others_are_in_the_log(tmp_path, good, caplog):
    bad = [write_record(tmp_path, CELLS, name) for name in ("x", "y", "z")]
    for record in bad:
        record.label.unlink()
    with pytest.raises(DataError, match=r"x_label.*2 more"):
        check_records([bad[0], good, *bad[1:]])
    text = " ".join(record.getMessage() for record in caplog.records)
    assert "y_label" in text
    assert "z_label" in text


def test_an_image_without_labels_is_named(tmp_path, good):
    bare = Record(good.image, None, "phase", "", "discs", "train")
    with pytest.raises(DataError, match=r"good\.tif: no label image"):
        check_records([bare])


def test_labels_without_cells_are_a_warning(tmp_path, good, caplog):
    empty = write_record(tmp_path, np.zeros((20, 20)), "empty")
    with caplog.at_level(logging.WARNING):
        check_records([good, empty])
    assert "empty.tif" in caplog.text
    assert "good.tif" not in caplog.text


def test_unlabelled_images_that_cannot_be_opened_are_left_out(tmp_path, good, caplog):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = Record(tmp_path / "broken.png", None, "phase", "", "discs", "unlabelled")
    assert names_of(check_unlabelled([broken, good])) == ["good.tif"]
    assert "broken.png" in caplog.text


def test_labels_without_an_image_are_found(tmp_path):
    folder = tmp_path / "Training-labeled"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for name in ("images/a.png", "labels/a_label.tiff", "labels/b_label.tiff", "labels/notes.txt"):
        (folder / name).touch()
    assert names_of([Record(p, None, "", "", "", "") for p in find_orphans(tmp_path)]) == [
        "b_label.tiff"
    ]
    (tmp_path / "index.csv").touch()
    assert find_orphans(tmp_path) == []
    assert find_orphans(tmp_path / "nowhere") == []
