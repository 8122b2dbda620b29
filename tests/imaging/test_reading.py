"""Every format, dtype and channel count gives the pixels that were stored, whole and by region."""

import logging
from contextlib import suppress
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from imaging.image import MAX_DECODED_BYTES, ImageError, check_decoded_size
from imaging.reading import measure_image, open_image

RNG = np.random.default_rng(0)
SHAPE = (37, 53)


def random_pixels(dtype, n_channels, shape=SHAPE):
    dtype = np.dtype(dtype)
    size = (*shape, n_channels)
    if dtype.kind == "b":
        return RNG.random(size) < 0.5
    if dtype.kind == "f":
        return RNG.normal(100, 50, size).astype(dtype)
    return RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, size, dtype, endpoint=True)


def uniform(pixels):
    """Oracle: the channels and values the reader promises for stored (Y, X, K) pixels."""
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.shape[2] == 2:
        return np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=2)
    return pixels[..., : 1 if pixels.shape[2] == 1 else 3]


def assert_reads(path, expected):
    """Assert that a file gives the expected (Y, X, C) pixels, whole and by region."""
    with open_image(path) as image:
        height, width, _ = expected.shape
        assert image.path == path
        assert image.shape == expected.shape
        assert image.dtype == expected.dtype
        whole = image.read((0, 0, height, width))
        assert whole.dtype == expected.dtype
        np.testing.assert_array_equal(whole, expected)
        for _ in range(8):
            y0, y1 = sorted(RNG.choice(height + 1, 2, replace=False))
            x0, x1 = sorted(RNG.choice(width + 1, 2, replace=False))
            region = image.read((y0, x0, y1, x1))
            np.testing.assert_array_equal(region, expected[y0:y1, x0:x1])


def squeezed(pixels):
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_png(tmp_path, dtype, n_channels):
    pixels = random_pixels(dtype, n_channels)
    path = tmp_path / "image.PNG"
    path.write_bytes(imagecodecs.png_encode(squeezed(pixels)))
    assert_reads(path, pixels[..., : 3 if n_channels > 2 else 1])  # 2 and 4: alpha is dropped


def test_palette_png_becomes_rgb(tmp_path):
    pixels = RNG.choice(np.array([10, 80, 200], np.uint8), (*SHAPE, 3))
    path = tmp_path / "image.png"
    PillowImage.fromarray(pixels).quantize(27).save(path)
    with PillowImage.open(path) as opened:
        assert opened.mode == "P"
        expected = np.asarray(opened.convert("RGB"))
    assert_reads(path, expected)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_one_bit_images(tmp_path, suffix):
    pixels = random_pixels(bool, 1)
    path = tmp_path / f"image{suffix}"
    PillowImage.fromarray(pixels[..., 0]).save(path)
    assert_reads(path, uniform(pixels))


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_bmp(tmp_path, n_channels):
    pixels = random_pixels(np.uint8, n_channels)
    path = tmp_path / "image.bmp"
    PillowImage.fromarray(squeezed(pixels)).save(path)
    assert_reads(path, uniform(pixels))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(tmp_path, mode):
    path = tmp_path / "image.jpeg"
    PillowImage.fromarray(random_pixels(np.uint8, 3)).convert(mode).save(path, quality=95)
    with PillowImage.open(path) as opened:
        expected = np.asarray(opened if mode != "CMYK" else opened.convert("RGB"))
    assert_reads(path, expected.reshape(*SHAPE, -1))


def test_exif_orientation_is_ignored(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    path = tmp_path / "image.jpg"
    PillowImage.fromarray(random_pixels(np.uint8, 3)).save(path, exif=exif)
    with open_image(path) as image:
        assert image.shape == (*SHAPE, 3)


def test_content_decides_not_the_name(tmp_path):
    pixels = random_pixels(np.uint8, 3)
    path = tmp_path / "image.png"
    tifffile.imwrite(path, pixels, photometric="rgb")
    assert_reads(path, pixels)


LAYOUTS: dict[str, dict[str, Any]] = {
    "mapped": {},
    "strips": {"rowsperstrip": 5, "compression": "lzw", "predictor": True},
    "one_strip": {"rowsperstrip": SHAPE[0], "compression": "zlib"},
    "tiles": {"tile": (16, 32), "compression": "zlib"},
    "plain_tiles": {"tile": (16, 16)},
}
DTYPES = [
    np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32,
    np.float16, np.float32, np.float64,
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiff_dtypes(tmp_path, dtype, layout):
    pixels = random_pixels(dtype, 1)
    options = dict(LAYOUTS[layout])
    if options.get("predictor") and np.dtype(dtype).kind == "f":
        options["predictor"] = 3
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels[..., 0], **options)
    assert_reads(path, pixels)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("n_channels", [2, 3, 4, 6])
def test_tiff_channels(tmp_path, n_channels, planar, layout):
    pixels = random_pixels(np.uint16, n_channels)
    stored = pixels if planar == "contig" else np.moveaxis(pixels, 2, 0)
    path = tmp_path / "image.TIFF"
    colours = "minisblack" if n_channels in (2, 6) else "rgb"
    extra: dict[str, Any] = (
        {"extrasamples": ["unspecified"] * (n_channels - 1)} if colours != "rgb" else {}
    )
    tifffile.imwrite(
        path, stored, photometric=colours, planarconfig=planar, **extra, **LAYOUTS[layout]
    )
    assert_reads(path, uniform(pixels))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("n_channels", [2, 3, 4])
@pytest.mark.parametrize("kind", ["plain", "imagej", "ome"])
def test_channel_first_tiff(tmp_path, kind, n_channels, compression):
    pixels = random_pixels(np.uint16, n_channels)
    options: dict[str, Any] = {"metadata": {"axes": "CYX"}} if kind != "plain" else {}
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path,
        np.moveaxis(pixels, 2, 0),
        photometric="minisblack",
        compression=compression,
        imagej=kind == "imagej",
        ome=kind == "ome",
        **options,
    )
    assert_reads(path, uniform(pixels))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("n_channels", [2, 4])
def test_channel_last_tiff_without_a_name_for_the_axis(tmp_path, n_channels, compression):
    pixels = random_pixels(np.uint16, n_channels)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", compression=compression)
    assert_reads(path, uniform(pixels))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_first_plane_of_a_stack_is_read_with_a_warning(tmp_path, caplog, compression):
    stack = np.stack([random_pixels(np.uint16, 2) for _ in range(5)])
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path,
        np.moveaxis(stack, 3, 1),
        imagej=True,
        metadata={"axes": "ZCYX"},
        compression=compression,
    )
    with caplog.at_level(logging.WARNING):
        assert_reads(path, uniform(stack[0]))
    assert "image.tif" in caplog.text


def test_first_page_of_unrelated_pages_is_read_with_a_warning(tmp_path, caplog):
    pages = [random_pixels(np.uint8, 1), random_pixels(np.uint8, 1, (20, 30))]
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page[..., 0], metadata=None)
    assert_reads(path, pages[0])
    assert "image.tif" in caplog.text


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_big_endian_tiff(tmp_path, compression):
    pixels = random_pixels(np.uint16, 3)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", byteorder=">", compression=compression)
    assert_reads(path, pixels)


def test_bool_tiff(tmp_path):
    pixels = random_pixels(bool, 1)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels[..., 0])
    assert_reads(path, uniform(pixels))


def test_grey_tiff_with_alpha_stays_grey(tmp_path):
    pixels = random_pixels(np.uint8, 2)
    path = tmp_path / "image.tif"
    PillowImage.fromarray(pixels).save(path)
    assert_reads(path, pixels[..., :1])


@pytest.mark.parametrize("white", [255, 65535])
def test_palette_tiff_becomes_rgb(tmp_path, white):
    indices = random_pixels(np.uint8, 1)
    colours = RNG.integers(0, white, (3, 256), np.uint16, endpoint=True)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, indices[..., 0], photometric="palette", colormap=colours)
    shown = (colours >> 8 if white > 255 else colours).astype(np.uint8)
    assert_reads(path, shown.T[indices[..., 0]])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_not_finite_becomes_zero(tmp_path, compression):
    pixels = random_pixels(np.float64, 1)
    pixels[3, 4], pixels[5, 6], pixels[7, 8], pixels[9, 9] = np.nan, np.inf, -np.inf, 1e300
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels[..., 0], compression=compression)
    expected = pixels.copy()
    for y, x in [(3, 4), (5, 6), (7, 8), (9, 9)]:
        expected[y, x] = 0
    assert_reads(path, expected)


def test_jpeg_compressed_tiles(tmp_path):
    pixels = random_pixels(np.uint8, 3)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(16, 16), compression="jpeg")
    assert_reads(path, tifffile.imread(path))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_thin_images(tmp_path, shape, n_channels):
    pixels = random_pixels(np.uint8, n_channels, shape)
    for name, compression in [("plain.tif", None), ("packed.tif", "zlib")]:
        colours = "rgb" if n_channels == 3 else "minisblack"
        tifffile.imwrite(
            tmp_path / name, squeezed(pixels), photometric=colours, compression=compression
        )
        assert_reads(tmp_path / name, pixels)
    PillowImage.fromarray(squeezed(pixels)).save(tmp_path / "image.png")
    assert_reads(tmp_path / "image.png", pixels)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 38, 5), (5, 5, 2, 9)])
def test_boxes_outside_the_image_are_refused(tmp_path, box):
    path = tmp_path / "image.png"
    PillowImage.fromarray(random_pixels(np.uint8, 3)).save(path)
    with open_image(path) as image, pytest.raises(ValueError, match="box inside"):
        image.read(box)


def test_a_region_is_a_writable_copy(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, random_pixels(np.uint8, 1)[..., 0])
    with open_image(path) as image:
        region = image.read((0, 0, 5, 5))
        before = region.copy()
        region += 1
        np.testing.assert_array_equal(image.read((0, 0, 5, 5)), before)


def encode(path):
    """Write a valid file of the kind its name says, and return its bytes."""
    pixels = random_pixels(np.uint8, 3)
    if path.name == "tiles.tif":
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(16, 16), compression="zlib")
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=4)
    else:
        PillowImage.fromarray(pixels).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("kept", [0, 1, 9, 40, 0.3, 0.6, 0.98])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "tiles.tif"])
def test_truncated_files_are_errors_never_half_an_image(tmp_path, name, kept):
    path = tmp_path / name
    data = encode(path)
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ImageError) as caught, open_image(path) as image:
        image.read((0, 0, *image.shape[:2]))
    assert str(caught.value).startswith(name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "tiles.tif"])
def test_damaged_files_raise_nothing_but_image_errors(tmp_path, name):
    path = tmp_path / name
    data = encode(path)
    rng = np.random.default_rng(1)
    for _ in range(25):
        damaged = bytearray(data)
        for at in rng.integers(8, min(len(data), 400), 6):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(ImageError), open_image(path) as image:
            image.read((0, 0, *image.shape[:2]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is text", "not a PNG"),
        (b"GIF89a" + bytes(50), "not a PNG"),
    ],
)
def test_other_content_is_named(tmp_path, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        open_image(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"no\.png: cannot be opened"):
        open_image(tmp_path / "no.png")
    with pytest.raises(ImageError, match="cannot be opened"):
        open_image(tmp_path)


def test_unsupported_tiffs_are_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros(SHAPE, np.complex64))
    with pytest.raises(ImageError, match="complex64"):
        open_image(path)
    tifffile.imwrite(path, np.zeros((*SHAPE, 4), np.uint8), photometric="separated")
    with pytest.raises(ImageError, match="SEPARATED"):
        open_image(path)


def test_a_header_that_asks_for_too_much_memory_is_refused(tmp_path):
    path = tmp_path / "a.png"
    data = bytearray(encode(path))
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    path.write_bytes(data)
    with pytest.raises(ImageError, match="GiB"):
        open_image(path)
    check_decoded_size(path, MAX_DECODED_BYTES)


def test_slides_are_not_decompression_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.png", "a.jpg", "a.bmp"):
        pixels = random_pixels(np.uint8, 3)
        PillowImage.fromarray(pixels).save(tmp_path / name)
        with open_image(tmp_path / name) as image:
            assert image.shape == (*SHAPE, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "wrong.tif"])
def test_an_image_is_measured_by_its_header(tmp_path, monkeypatch, name):
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 255, (37, 53), np.uint8)
    PillowImage.fromarray(pixels).save(path, format="PNG" if name == "wrong.tif" else None)
    monkeypatch.setattr(imagecodecs, "png_decode", None)
    assert measure_image(path) == (37, 53)


def test_a_pyramid_is_measured_at_the_level_asked_for(tmp_path):
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as writer:
        full = np.zeros((128, 256), np.uint8)
        writer.write(full, subifds=1, tile=(64, 64))
        writer.write(full[::2, ::2], subfiletype=1, tile=(64, 64))
    assert measure_image(path) == (128, 256)
    assert measure_image(path, level=1) == (64, 128)


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"hello", b""])
def test_a_damaged_header_cannot_be_measured(tmp_path, head):
    path = tmp_path / "broken.png"
    path.write_bytes(head)
    with pytest.raises(ImageError, match=r"broken\.png"):
        measure_image(path)
