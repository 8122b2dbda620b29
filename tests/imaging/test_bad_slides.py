"""Bad slides: every one ends in a named error of one line, with memory bounded."""

import io
import os
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from imaging.encoded_sizes import read_encoded_size
from imaging.image import ImageError
from imaging.reading import open_image
from imaging.tiff_checks import check_segment_header
from synthetic.slide_formats import WRITERS, SlideSettings
from tests.imaging.slide_files import random_mosaic, smooth_pixels, write_ndpi

SMALL = SlideSettings(tile_px=32)
MIB = 2**20


@pytest.fixture(params=["ome-tiff", "svs", "strips"])
def slide(request, tmp_path, monkeypatch):
    """Write a small slide with two further levels; gives its path and its mosaic."""
    monkeypatch.setattr("synthetic.mosaic.Mosaic.factors", lambda *_: [2, 4])
    mosaic = random_mosaic()
    path = tmp_path / "slide.tif"
    WRITERS[request.param](path, mosaic, SMALL)
    return path, mosaic


def read_whole(path, **choice):
    with open_image(path, **choice) as image:
        image.overview(20)
        return image.read((0, 0, *image.shape[:2]))


def assert_named_error(path, match=None, **choice):
    with pytest.raises(ImageError, match=match) as caught:
        read_whole(path, **choice)
    assert str(caught.value).startswith(path.name)
    assert len(str(caught.value).splitlines()) == 1


def patch_tag(path, code, value, page=0, level=None):
    """Overwrite a tag that holds one number."""
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0].levels[level].keyframe if level is not None else tif.pages[page]
        tag = series.tags[code]
        at, size = tag.valueoffset, struct.calcsize(tag.dataformat.lstrip("0123456789"))
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(int(value).to_bytes(size, "little"))


@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.8, 0.95, 0.99])
def test_truncated_pyramids(slide, kept):
    path, _ = slide
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert_named_error(path)


def test_truncated_ndpi(tmp_path):
    path = tmp_path / "slide.ndpi"
    full = smooth_pixels((128, 192))
    write_ndpi(path, [full, full[::2, ::2]], mpp=0.5)
    data = path.read_bytes()
    for kept in (0.3, 0.7, 0.9, 0.99):
        path.write_bytes(data[: int(kept * len(data))])
        assert_named_error(path)


@pytest.mark.parametrize("codec", ["zlib", "lzw", "zstd", "jpeg", "webp", "jpeg2000"])
def test_a_tile_that_fails_to_decode_is_named_and_the_others_are_read(tmp_path, codec):
    pixels = smooth_pixels((96, 128))
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(32, 32), compression=codec)
    expected = read_whole(path)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        offset, n_bytes = page.dataoffsets[5], page.databytecounts[5]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(n_bytes))
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read((0, 0, 32, 128)), expected[:32])
        np.testing.assert_array_equal(image.read((64, 0, 96, 128)), expected[64:])
        with pytest.raises(ImageError, match=r"^slide\.tif: cannot be decoded"):
            image.read((32, 0, 64, 128))


@pytest.mark.parametrize("code", [256, 257])
def test_a_level_that_lies_about_its_size(tmp_path, monkeypatch, code, caplog):
    monkeypatch.setattr("synthetic.mosaic.Mosaic.factors", lambda *_: [2, 4])
    mosaic = random_mosaic()
    path = tmp_path / "slide.tif"
    WRITERS["ome-tiff"](path, mosaic, SMALL)
    with tifffile.TiffFile(path) as tif:
        before = tif.series[0].levels[1].keyframe.tags[code].value
    patch_tag(path, code, before - 20, level=1)
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read((0, 0, 150, 210)), mosaic.read((0, 0, 150, 210)))
        image.overview(100)
    assert "level 1 claims" in caplog.text
    assert_named_error(path, "level 1 claims", level=1)
    np.testing.assert_array_equal(read_whole(path, level=2), mosaic.read((0, 0, 37, 52), 4))
    patch_tag(path, code, before * 100, level=1)  # now it lacks most of its tiles
    with open_image(path) as image:
        assert image.shape == mosaic.shape
    assert_named_error(path, "level 1", level=1)


@pytest.mark.parametrize("code", [256, 257])
def test_headers_of_no_pixels(slide, code):
    path, _ = slide
    patch_tag(path, code, 0)
    assert_named_error(path)


@pytest.mark.parametrize("codes", [(256, 257), (256,), (257,)])
def test_headers_of_a_billion_pixels_are_refused_when_opened(slide, codes):
    path, _ = slide
    for code in codes:
        patch_tag(path, code, 10**9)
    tracemalloc.start()
    with pytest.raises(ImageError):
        open_image(path)
    assert tracemalloc.get_traced_memory()[1] < 40 * MIB
    tracemalloc.stop()


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", None])
def test_tiles_too_short_for_what_they_claim_are_refused_when_opened(tmp_path, compression):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, np.zeros((96, 96), np.uint8), tile=(32, 32), compression=compression)
    for code, value in ((322, 2**14), (323, 2**14), (256, 3 * 2**14), (257, 3 * 2**14)):
        patch_tag(path, code, value)
    with pytest.raises(ImageError, match=r"more pixels than|cannot be read"):
        open_image(path)


def encoded_bombs():
    """Encode 1500 x 1500 px of nothing: some kilobytes each."""
    nothing = np.zeros((1500, 1500, 3), np.uint8)
    jpeg = io.BytesIO()
    PillowImage.fromarray(nothing).save(jpeg, "JPEG")
    return {
        5: imagecodecs.lzw_encode(nothing.tobytes()),
        7: jpeg.getvalue(),
        8: imagecodecs.zlib_encode(nothing.tobytes()),
        22610: imagecodecs.jpegxr_encode(nothing, level=90),
        32773: b"\x81\0" * (nothing.size // 128),  # PackBits: 128 zeros each
        34712: imagecodecs.jpeg2k_encode(nothing),
        34887: imagecodecs.lerc_encode(nothing),
        34925: imagecodecs.lzma_encode(nothing.tobytes()),
        34927: imagecodecs.webp_encode(nothing, lossless=False),
        34933: imagecodecs.png_encode(nothing),
        34934: imagecodecs.jpegxr_encode(nothing, level=90),
        50000: imagecodecs.zstd_encode(nothing.tobytes()),
        50001: imagecodecs.webp_encode(nothing, lossless=True),
        50002: imagecodecs.jpegxl_encode(nothing, effort=1),
        52546: imagecodecs.jpegxl_encode(nothing, effort=1, usecontainer=True),
    }


STOP_WHEN_FULL = (5, 8, 32773, 34925, 50000)
"""Codecs without a size of their own, whose decoders are told where to stop."""


def test_tiles_that_unpack_to_far_more_than_a_tile_take_no_memory(tmp_path):
    for code, bomb in encoded_bombs().items():
        path = tmp_path / f"bomb{code}.tif"
        write_one_tile(path, bomb, code)
        tracemalloc.start()
        with suppress(ImageError), open_image(path) as image:
            image.read((0, 0, 32, 32))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * MIB, code
        if code not in STOP_WHEN_FULL:
            with pytest.raises(ValueError, match="claims to be"):
                check_segment_header(bytes(bomb), code, 32, 32, 3)
            assert_named_error(path, "32 x 32 px claims to be")


def write_one_tile(path, data, code):
    """Write a TIFF of 32 x 32 px whose only tile holds some bytes."""
    layout: dict[str, Any] = {"shape": (32, 32, 3), "tile": (32, 32), "photometric": "rgb"}
    tifffile.imwrite(path, iter([data]), dtype=np.uint8, compression=8, metadata=None, **layout)
    patch_tag(path, 259, code)


def test_tiles_that_hold_several_pictures_or_many_samples_are_refused(tmp_path):
    tile = np.zeros((32, 32), np.uint8)
    many = np.zeros((32, 32, 99), np.uint8)
    crowded = {
        34712: imagecodecs.jpeg2k_encode(many),
        34887: imagecodecs.lerc_encode(many),
        50002: imagecodecs.jpegxl_encode(
            np.moveaxis(many, 2, 0).copy(), photometric="gray", planar=True
        ),
    }
    for code, data in crowded.items():
        check_segment_header(bytes(data), code, 32, 32, 99)
        write_one_tile(tmp_path / "many.tif", data, code)
        assert_named_error(tmp_path / "many.tif", "claims to have 99")
    write_one_tile(tmp_path / "parts.tif", bytes(imagecodecs.lerc_encode(tile)) * 9, 34887)
    assert_named_error(tmp_path / "parts.tif", "claims to have 9")
    film = imagecodecs.jpegxl_encode(np.stack([tile] * 9), photometric="gray")
    write_one_tile(tmp_path / "film.tif", film, 50002)
    assert_named_error(tmp_path / "film.tif", "animation")


@pytest.mark.parametrize("code", [22610, 34887, 34933, 34934, 50002])
@pytest.mark.parametrize(
    "data", [b"", b"II*\0", bytes(99), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99)]
)
def test_segments_without_the_header_that_their_codec_has_are_refused(code, data):
    with pytest.raises(ValueError, match="a segment"):
        check_segment_header(data, code, 32, 32, 3)


def test_lerc_that_is_compressed_once_more_is_refused(tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        smooth_pixels((32, 32)),
        photometric="rgb",
        tile=(32, 32),
        compression="lerc",
        compressionargs={"compression": "deflate"},
    )
    assert_named_error(path, "compressed once more")


def test_segments_of_their_own_size_pass():
    pixels = smooth_pixels((64, 48))
    jpeg = io.BytesIO()
    PillowImage.fromarray(pixels).save(jpeg, "JPEG", progressive=True, comment="a comment")
    encoded = {
        7: jpeg.getvalue(),
        33005: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
        34887: imagecodecs.lerc_encode(pixels),
        34927: imagecodecs.webp_encode(pixels, lossless=False),
        34933: imagecodecs.png_encode(pixels),
        34934: imagecodecs.jpegxr_encode(pixels),
        50001: imagecodecs.webp_encode(pixels, lossless=True),
        50002: imagecodecs.jpegxl_encode(pixels),
        52546: imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=True),
        8: b"anything",
    }
    for code, data in encoded.items():
        check_segment_header(bytes(data), code, 64, 48, 3)
        if code != 8:
            with pytest.raises(ValueError, match="64 x 48 px"):
                check_segment_header(bytes(data), code, 31, 48, 3)
            with pytest.raises(ValueError, match="64 x 48 px"):
                check_segment_header(bytes(data), code, 64, 23, 3)


@pytest.mark.parametrize(
    "shape", [(1, 1), (8, 256), (240, 320), (511, 300), (600, 600, 3), (9000, 9), (7, 70000, 3)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_sizes_of_all_magnitudes_are_read(shape, dtype):
    pixels = np.zeros(shape, dtype)
    encoded = {
        34887: imagecodecs.lerc_encode(pixels),
        34933: imagecodecs.png_encode(pixels),
        50002: imagecodecs.jpegxl_encode(pixels, effort=1),
    }
    if min(shape[:2]) > 1:
        encoded[34934] = imagecodecs.jpegxr_encode(pixels)
    for code, data in encoded.items():
        size = read_encoded_size(bytes(data), code)
        assert size is not None
        assert (size.height, size.width) == shape[:2], code


def test_headers_damaged_at_random_raise_nothing_but_image_errors(slide):
    path, _ = slide
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        places = [page.offset for page in tif.pages] + list(tif.pages.first.subifds or ())
    rng = np.random.default_rng(2)
    for _ in range(25):
        damaged = bytearray(data)
        for place in places:
            for at in place + rng.integers(0, 300, 2):
                if at < len(damaged):
                    damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(ImageError), open_image(path) as image:
            if image.shape[0] * image.shape[1] < 10**7:
                image.read((0, 0, *image.shape[:2]))


def grow(path):
    with path.open("ab") as stream:
        stream.write(b"more")


def shrink(path):
    os.truncate(path, path.stat().st_size // 2)


def rewrite(path):
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(status.st_size // 2)
        stream.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**6))


def replace(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [grow, shrink, rewrite, replace, os.remove])
def test_a_slide_that_changes_during_reading(slide, change):
    path, mosaic = slide
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read((0, 0, 9, 9)), mosaic.read((0, 0, 9, 9)))
        change(path)
        with pytest.raises(ImageError, match=r"^slide\.tif: changed while it was being read"):
            image.read((60, 60, 90, 90))
        with pytest.raises(ImageError, match="changed while"):
            image.overview(20)


def test_a_closed_slide_is_not_read(slide):
    path, _ = slide
    with open_image(path) as image:
        pass
    with pytest.raises(ValueError, match="closed"):
        image.read((0, 0, 5, 5))
    image.close()


def test_open_files_do_not_pile_up(slide, tmp_path):
    path, _ = slide
    bad = tmp_path / "bad.tif"
    bad.write_bytes(path.read_bytes()[:-50])
    descriptors = "/proc/self/fd"
    before = len(os.listdir(descriptors))  # noqa: PTH208 - what a Path would list, it opens too
    for _ in range(5):
        read_whole(path)
        with suppress(ImageError):
            read_whole(bad)
        with suppress(ImageError):
            open_image(path, level=77)
    assert len(os.listdir(descriptors)) == before  # noqa: PTH208


def test_uncompressed_strips_are_never_loaded_whole(tmp_path):
    path = tmp_path / "slide.btf"
    rows, columns = 6000, 8000  # 48 MB
    row = np.arange(columns, dtype=np.uint8).tobytes() * 100
    tifffile.imwrite(
        path,
        (row for _ in range(rows // 100)),
        shape=(rows, columns),
        dtype=np.uint8,
        rowsperstrip=100,
        bigtiff=True,
        photometric="minisblack",
        metadata=None,
    )
    tracemalloc.start()
    with open_image(path) as image:
        region = image.read((3000, 4000, 3256, 4256))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(region[..., 0], [np.arange(4000, 4256).astype(np.uint8)] * 256)
    assert peak < MIB
