"""The written folder: every kind in several encodings, read back by the project's own reader."""

import numpy as np
import pytest
import tifffile

from imaging.reading import list_images, open_image
from synthetic import KINDS, make_image
from synthetic.__main__ import main
from synthetic.folder import ENCODINGS, write_folder, write_image

SHAPE = (70, 90)


def test_images_and_labels_come_back(tmp_path):
    n_per_kind = max(len(encodings) for encodings in ENCODINGS.values())
    written = write_folder(tmp_path, n_per_kind, seed=4, shape=SHAPE)
    assert len(written) == n_per_kind * len(KINDS)
    assert {one.image.suffix for one in written} == {".png", ".tif", ".jpg", ".bmp"}
    assert sorted(one.image for one in written) == list(list_images(tmp_path / "images").images)
    for one in written:
        kind, _, number = one.image.stem.rpartition("_")
        with open_image(one.image) as image:
            made = make_image(kind, SHAPE, seed=4 + int(number), dtype=image.dtype)
            pixels = image.read((0, 0, *SHAPE))
        assert one.modality == made.modality
        np.testing.assert_array_equal(tifffile.imread(one.labels), made.labels)
        if one.image.suffix == ".jpg":
            assert np.abs(pixels.astype(int) - made.image).mean() < 6
        else:
            np.testing.assert_array_equal(pixels, made.image)


def test_one_of_each_kind_covers_all_formats_and_both_depths():
    first = [encodings[0] for encodings in ENCODINGS.values()]
    assert {encoding.suffix for encoding in first} == {".png", ".tif", ".jpg", ".bmp"}
    assert {encoding.bits for encoding in first} == {8, 16}
    assert ENCODINGS.keys() == KINDS.keys()


def test_formats_that_cannot_hold_the_image_are_refused(tmp_path):
    made = make_image("dic", SHAPE, dtype=np.uint16)
    for name in ("a.jpg", "a.bmp", "a.gif"):
        with pytest.raises(ValueError, match=r"8 bits|wanted"):
            write_image(tmp_path / name, made)


def test_command_line(tmp_path, capsys):
    assert main(["-o", str(tmp_path / "out"), "--n", "1", "--shape", "40", "50"]) == 0
    assert len(list((tmp_path / "out" / "images").iterdir())) == len(KINDS)
    assert len(list((tmp_path / "out" / "labels").iterdir())) == len(KINDS)
    (tmp_path / "file").touch()
    assert main(["-o", str(tmp_path / "file")]) == 1
    for wrong in ([], ["-o", "x", "--n", "-1"], ["-o", "x", "--shape", "0", "5"]):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
    capsys.readouterr()
