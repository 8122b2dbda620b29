"""OME-Zarr as others write it: axes, units, shards, Bio-Formats' layout; and as it gets damaged."""

import json
import sys

import numpy as np
import pytest
import zarr

from imaging.image import ImageError
from imaging.reading import open_image
from synthetic.slide_formats import WRITERS, SlideSettings
from tests.imaging.slide_files import assert_reads_region_by_region, random_mosaic

SHAPES = {"t": 2, "z": 3, "c": 5, "y": 70, "x": 90}
SMALL = SlideSettings(tile_px=32)


def write_image(path, axes, dtype="uint16", version="0.5", scale=1.0, unit="micrometer", **options):
    """Write one level with the given axes; returns its stored array."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 200, [SHAPES[axis] for axis in axes]).astype(dtype)
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    options.setdefault("chunks", [32 if axis in "yx" else 1 for axis in axes])
    array = group.create_array("0", shape=stored.shape, dtype=stored.dtype, **options)
    array[:] = stored
    kinds = {"t": "time", "c": "channel"}
    multiscale = {
        "axes": [
            {"name": axis, "type": kinds.get(axis, "space")}
            | ({"unit": unit} if axis in "zyx" and unit else {})
            for axis in axes
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [scale if a in "yx" else 1.0 for a in axes]},
                    {"type": "translation", "translation": [0.0 for _ in axes]},
                ],
            }
        ],
    }
    put_attributes(group, {"multiscales": [multiscale]}, version)
    return stored


def put_attributes(group, attributes, version="0.5"):
    if version == "0.4":
        group.attrs.update(attributes)
    else:
        group.attrs["ome"] = {"version": version, **attributes}


def plane_of(stored, axes):
    """Oracle: the first plane as (Y, X, C)."""
    kept = [axis for axis in "yxc" if axis in axes]
    for axis in range(len(axes) - 1, -1, -1):
        if axes[axis] not in kept:
            stored = np.take(stored, 0, axis)
    plane = stored.transpose([[a for a in axes if a in kept].index(axis) for axis in kept])
    plane = plane[:, :, None] if plane.ndim == 2 else plane[:, :, :3]
    return plane.astype(plane.dtype.newbyteorder("="))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "czyx", "tczyx", "yxc"])
def test_any_axes(tmp_path, axes, version, caplog):
    path = tmp_path / "image.ome.zarr"
    plane = plane_of(write_image(path, axes, version=version), axes)
    assert_reads_region_by_region(
        path, lambda box: plane[box[0] : box[2], box[1] : box[3]], plane.shape
    )
    assert ("first plane" in caplog.text) == ("z" in axes)


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32", "int16"])
def test_any_dtype(tmp_path, dtype):
    path = tmp_path / "image.zarr"
    plane = plane_of(write_image(path, "cyx", dtype, version="0.4"), "cyx")
    assert_reads_region_by_region(
        path, lambda box: plane[box[0] : box[2], box[1] : box[3]], plane.shape
    )


def test_shards_are_read_chunk_by_chunk(tmp_path):
    path = tmp_path / "image.zarr"
    stored = write_image(path, "cyx", chunks=[1, 16, 16], shards=[5, 64, 96])
    plane = plane_of(stored, "cyx")
    assert_reads_region_by_region(
        path, lambda box: plane[box[0] : box[2], box[1] : box[3]], plane.shape
    )


def test_old_versions_name_no_axes(tmp_path):
    path = tmp_path / "image.zarr"
    plane = plane_of(write_image(path, "tczyx", version="0.4"), "tczyx")
    group = zarr.open_group(path, mode="r+")
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}]}]
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read((3, 5, 60, 70)), plane[3:60, 5:70])
        assert image.mpp is None


@pytest.mark.parametrize(
    ("unit", "scale", "mpp"),
    [("micrometer", 0.5, 0.5), ("nanometer", 325, 0.325), (None, 0.5, None), ("parsec", 1, None)],
)
def test_pixel_size(tmp_path, unit, scale, mpp):
    write_image(tmp_path / "image.zarr", "zyx", unit=unit, scale=scale)
    with open_image(tmp_path / "image.zarr") as image:
        assert image.mpp == (None if mpp is None else pytest.approx(mpp))


def test_missing_chunks_are_empty_as_zarr_has_it(tmp_path):
    path = tmp_path / "image.zarr"
    write_image(path, "yx", fill_value=7)
    (path / "0" / "c" / "1" / "1").unlink()
    with open_image(path) as image:
        assert (image.read((32, 32, 64, 64)) == 7).all()


def test_the_layout_of_bio_formats_and_plates(tmp_path, caplog):
    path = tmp_path / "image.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    plane = plane_of(write_image(path / "0", "cyx", version="0.4"), "cyx")
    write_image(path / "1", "cyx", version="0.4")
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read((0, 0, 70, 90)), plane)
    assert "first of several images" in caplog.text
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    put_attributes(plate, {"plate": {"wells": []}})
    with pytest.raises(ImageError, match="plate of many images"):
        open_image(tmp_path / "plate.zarr")


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    write_image(tmp_path / "image.zarr", "yx")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImageError, match="pip install") as caught:
        open_image(tmp_path / "image.zarr")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_damaged_chunk_is_named_and_the_others_are_read(tmp_path, version):
    path = tmp_path / "image.zarr"
    stored = write_image(path, "yx", version=version)
    chunk = path / "0" / ("1.1" if version == "0.4" else "c/1/1")
    chunk.write_bytes(chunk.read_bytes()[:20])
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read((0, 0, 32, 90))[..., 0], stored[:32])
        with pytest.raises(ImageError, match=r"^image\.zarr: cannot be decoded"):
            image.read((32, 32, 40, 40))


def edit_metadata(path, **changes):
    """Change the metadata of a Zarr 3 array."""
    file = path / "0" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata.update(changes)
    file.write_text(json.dumps(metadata))


def huge_grid(side):
    return {"name": "regular", "configuration": {"chunk_shape": [side, side]}}


def test_bombs_and_empty_headers_are_refused(tmp_path):
    path = tmp_path / "image.zarr"
    write_image(path, "yx")
    edit_metadata(path, shape=[10**9, 10**9])
    with pytest.raises(ImageError, match="claims 1000000000 x 1000000000 pixels"):
        open_image(path)
    edit_metadata(path, shape=[10**6, 10**6], chunk_grid=huge_grid(10**6))
    with pytest.raises(ImageError, match="GiB to decode"):
        open_image(path)
    edit_metadata(path, shape=[0, 70], chunk_grid=huge_grid(32))
    with pytest.raises(ImageError, match="no pixels"):
        open_image(path)


def test_folders_that_are_no_images_are_named(tmp_path):
    empty = tmp_path / "empty.zarr"
    empty.mkdir()
    with pytest.raises(ImageError, match=r"^empty\.zarr: "):
        open_image(empty)
    zarr.open_group(tmp_path / "plain.zarr", mode="w")
    with pytest.raises(ImageError, match="no multiscale"):
        open_image(tmp_path / "plain.zarr")
    write_image(tmp_path / "header.zarr", "yx")
    for chunk in sorted((tmp_path / "header.zarr" / "0").rglob("*"), reverse=True):
        if chunk.name != "zarr.json":
            chunk.rmdir() if chunk.is_dir() else chunk.unlink()
    with pytest.raises(ImageError, match="no image data"):
        open_image(tmp_path / "header.zarr")
    write_image(tmp_path / "outside.zarr", "yx")
    group = zarr.open_group(tmp_path / "outside.zarr", mode="r+")
    put_attributes(group, {"multiscales": [{"datasets": [{"path": "../plain.zarr"}]}]})
    with pytest.raises(ImageError, match="outside"):
        open_image(tmp_path / "outside.zarr")


def test_a_missing_or_lying_level_is_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("synthetic.mosaic.Mosaic.factors", lambda *_: [2, 4, 8])
    mosaic = random_mosaic(shape=(256, 384))
    path = tmp_path / "slide.zarr"
    WRITERS["ome-zarr-0.5"](path, mosaic, SMALL)
    (path / "1" / "zarr.json").unlink()
    metadata = json.loads((path / "2" / "zarr.json").read_text())
    metadata["shape"] = [3, 64, 300]
    (path / "2" / "zarr.json").write_text(json.dumps(metadata))
    with open_image(path) as image:
        assert image.shape == mosaic.shape
        assert image.overview(48).shape == (32, 48, 3)
    assert "level 1 cannot be read" in caplog.text
    assert "level 2 claims 64 x 300 px" in caplog.text
    for level in (1, 2):
        with pytest.raises(ImageError, match=f"level {level} "):
            open_image(path, level=level)
    with open_image(path, level=3) as image:
        assert image.shape == (32, 48, 3)


def test_metadata_that_change_meanwhile_are_noticed(tmp_path):
    path = tmp_path / "image.zarr"
    write_image(path, "yx")
    with open_image(path) as image:
        image.read((0, 0, 5, 5))
        edit_metadata(path, shape=[60, 80])
        with pytest.raises(ImageError, match="changed while"):
            image.read((0, 0, 5, 5))
