"""Bad slides: every one ends in a named error of one line, with memory bounded."""

import io
import os
import struct
import tracemalloc
from contextlib import suppress

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

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
    """Encode 4000 x 4000 px of nothing: some kilobytes each."""
    nothing = np.zeros((4000, 4000, 3), np.uint8)
    jpeg = io.BytesIO()
    PillowImage.fromarray(nothing).save(jpeg, "JPEG")
    return {
        7: jpeg.getvalue(),
        8: imagecodecs.zlib_encode(nothing.tobytes()),
        34712: imagecodecs.jpeg2k_encode(nothing[:2000, :2000]),
        50000: imagecodecs.zstd_encode(nothing.tobytes()),
        50001: imagecodecs.webp_encode(nothing, lossless=True),
        34927: imagecodecs.webp_encode(nothing, lossless=False),
    }


def test_tiles_that_unpack_to_far_more_than_a_tile_take_no_memory(tmp_path):
    for code, bomb in encoded_bombs().items():
        path = tmp_path / f"bomb{code}.tif"
        tifffile.imwrite(
            path,
            iter([bomb]),
            shape=(32, 32, 3),
            dtype=np.uint8,
            tile=(32, 32),
            photometric="rgb",
            compression=50001 if code == 34927 else code,
            metadata=None,
        )
        tracemalloc.start()
        with suppress(ImageError), open_image(path) as image:
            image.read((0, 0, 32, 32))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * MIB, code
        if code not in (8, 50000):  # these decoders stop by themselves when the tile is full
            with pytest.raises(ValueError, match="claims to be"):
                check_segment_header(bytes(bomb), 50001 if code == 34927 else code, 32, 32)


def test_segments_of_their_own_size_pass():
    pixels = smooth_pixels((64, 48))
    jpeg = io.BytesIO()
    PillowImage.fromarray(pixels).save(jpeg, "JPEG", progressive=True, comment="a comment")
    encoded = {
        7: jpeg.getvalue(),
        33005: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
        50001: imagecodecs.webp_encode(pixels, lossless=True),
        34927: imagecodecs.webp_encode(pixels, lossless=False),
        8: b"anything",
    }
    for code, data in encoded.items():
        check_segment_header(bytes(data), code, 64, 48)
        if code != 8:
            with pytest.raises(ValueError, match="64 x 48 px"):
                check_segment_header(bytes(data), code, 31, 48)
            with pytest.raises(ValueError, match="64 x 48 px"):
                check_segment_header(bytes(data), code, 64, 23)


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
