"""Listing a folder: images by suffix in any case, everything else reported, nothing opened."""

import os
from pathlib import Path

import pytest

from imaging.image import ImageError
from imaging.reading import list_images, open_image


def test_list_images(tmp_path):
    names = ["b.tif", "a.PNG", "c.jpeg", "d.Bmp", "e.JPG", "f.TIFF", "note.txt", ".hidden.png", "g"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    listed = list_images(tmp_path)
    assert [path.name for path in listed.images] == [
        "a.PNG", "b.tif", "c.jpeg", "d.Bmp", "e.JPG", "f.TIFF",
    ]  # fmt: skip
    assert [path.name for path in listed.unsupported] == ["g", "note.txt", "pipe.png"]


def test_list_images_of_an_empty_missing_or_wrong_folder(tmp_path):
    assert list_images(tmp_path).images == ()
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="not a folder"):
        list_images(tmp_path / "file")


def test_a_dangling_link_is_listed_and_fails_by_name(tmp_path):
    Path(tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (path,) = list_images(tmp_path).images
    with pytest.raises(ImageError, match=r"a\.png"):
        open_image(path)
