"""Slides of every kind: each region of each level is what was written, whatever the container."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from imaging.chunks import ChunkedSource
from imaging.image import ImageError
from imaging.listing import list_images
from imaging.reading import open_image
from imaging.writing import output_name
from synthetic.slide_formats import WRITERS, SlideSettings
from tests.imaging.slide_files import (
    assert_reads_region_by_region,
    random_mosaic,
    smooth_pixels,
    write_ndpi,
    write_philips,
)

ROOT = Path(__file__).parents[2]
SMALL = SlideSettings(tile_px=32, compression="zlib", mpp=0.25)


@pytest.fixture
def small_overviews(monkeypatch):
    """Let small slides have pyramids."""
    monkeypatch.setattr("synthetic.mosaic.Mosaic.factors", lambda _, step: [step, step**2])


@pytest.mark.usefixtures("small_overviews")
@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(
    ("n_channels", "dtype"), [(3, np.uint8), (1, np.uint8), (3, np.uint16), (1, np.uint16)]
)
def test_every_level_of_every_form_reads_region_by_region(
    tmp_path, form, n_channels, dtype, caplog
):
    mosaic = random_mosaic(n_channels=n_channels, dtype=dtype)
    path = tmp_path / "slide"
    WRITERS[form](path, mosaic, SMALL)
    assert_reads_region_by_region(path, mosaic.read, mosaic.shape)
    factors = {"strips": [], "svs": [4, 16]}.get(form, [2, 4])
    for level, factor in enumerate(factors, start=1):
        assert_reads_region_by_region(
            path,
            lambda box, factor=factor: mosaic.read(box, factor),
            mosaic.level_shape(factor),
            level=level,
        )
        with open_image(path, level=level) as image:
            assert image.mpp == pytest.approx(0.25 * factor, rel=0.02)
    assert not caplog.records


@pytest.mark.parametrize("form", WRITERS)
def test_pixel_size_chooses_the_coarsest_level_that_is_fine_enough(
    tmp_path, form, small_overviews, caplog
):
    mosaic = random_mosaic()
    path = tmp_path / "slide"
    WRITERS[form](path, mosaic, SMALL)
    factors = {"strips": [1], "svs": [1, 4, 16]}.get(form, [1, 2, 4])
    for wanted in (0.25, 0.3, 0.5, 0.9, 1.0, 3.8, 100):
        factor = max(f for f in factors if f * 0.25 <= wanted)
        with open_image(path, mpp=wanted) as image:
            assert image.shape == mosaic.level_shape(factor)
    assert not caplog.records
    with open_image(path, mpp=0.1) as image:
        assert image.shape == mosaic.shape
    assert "coarser than" in caplog.text


@pytest.mark.usefixtures("small_overviews")
@pytest.mark.parametrize("form", [form for form in WRITERS if form != "strips"])
def test_an_overview_never_touches_the_full_level(tmp_path, form, monkeypatch):
    mosaic = random_mosaic(shape=(300, 420))
    path = tmp_path / "slide"
    WRITERS[form](path, mosaic, SMALL)
    seen = set()
    read = ChunkedSource.read

    def spy(self, box):
        seen.add(self.shape)
        return read(self, box)

    monkeypatch.setattr(ChunkedSource, "read", spy)
    with open_image(path) as image:
        overview = image.overview(100)
    assert 50 < max(overview.shape) <= 105
    assert mosaic.shape not in seen
    assert seen <= {mosaic.level_shape(factor) for factor in (2, 4)}


LOSSLESS: dict[str, dict[str, Any]] = {
    "none": {"compression": None},
    "deflate": {"compression": "zlib"},
    "old_deflate": {"compression": "deflate"},
    "lzw": {"compression": "lzw", "predictor": True},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "lzma": {"compression": "lzma"},
    "jpeg2000": {"compression": "jpeg2000", "compressionargs": {"reversible": True}},
    "webp": {"compression": "webp", "compressionargs": {"lossless": True}},
    "png": {"compression": "png"},
    "jpegxl": {"compression": "jpegxl", "compressionargs": {"lossless": True}},
    "jpegxr": {"compression": "jpegxr"},
    "lerc": {"compression": "lerc"},
}


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    "layout", [{"tile": (32, 48)}, {"rowsperstrip": 24}], ids=["tile", "strip"]
)
def test_lossless_codecs(tmp_path, codec, layout, bigtiff):
    mosaic = random_mosaic()
    pixels = mosaic.read((0, 0, *mosaic.shape[:2]))
    path = tmp_path / "slide.btf"
    tifffile.imwrite(path, pixels, photometric="rgb", bigtiff=bigtiff, **layout, **LOSSLESS[codec])
    assert_reads_region_by_region(
        path, lambda box: pixels[box[0] : box[2], box[1] : box[3]], pixels.shape
    )


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
@pytest.mark.parametrize(
    ("layout", "rows"), [({"tile": (32, 32)}, 96), ({"rowsperstrip": 16}, 104)]
)
def test_lossy_jpeg_in_ycbcr(tmp_path, subsampling, layout, rows):
    pixels = smooth_pixels((rows, 128))
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        subsampling=subsampling,
        compression="jpeg",
        compressionargs={"level": 95},
        **layout,
    )
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.YCBCR
    assert_reads_region_by_region(
        path, lambda box: pixels[box[0] : box[2], box[1] : box[3]], pixels.shape, tolerance=20
    )


@pytest.mark.parametrize("axes", ["CYX", "ZCYX", "TZCYX"])
@pytest.mark.parametrize("n_channels", [2, 3, 5])
def test_planar_ome_pyramids_and_the_first_plane_of_stacks(tmp_path, axes, n_channels, caplog):
    rng = np.random.default_rng(0)
    shape = {"T": 2, "Z": 3, "C": n_channels, "Y": 70, "X": 90}
    full = rng.integers(0, 60000, [shape[axis] for axis in axes], np.uint16)
    path = tmp_path / "slide.ome.tif"
    options: dict[str, Any] = {"tile": (32, 32), "compression": "zlib", "photometric": "minisblack"}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        writer.write(full, subifds=1, metadata={"axes": axes}, **options)
        writer.write(full[..., ::2, ::2], subfiletype=1, metadata=None, **options)
    for level, stored in enumerate((full, full[..., ::2, ::2])):
        plane = np.moveaxis(stored[(0,) * (len(axes) - 3)], 0, 2)[:, :, :3]
        if n_channels == 2:
            plane = np.concatenate((plane, np.zeros_like(plane[:, :, :1])), axis=2)
        assert_reads_region_by_region(
            path,
            lambda box, plane=plane: plane[box[0] : box[2], box[1] : box[3]],
            plane.shape,
            level=level,
        )
    assert ("first plane" in caplog.text) == (axes != "CYX")


@pytest.mark.parametrize("code", [33003, 33005])
def test_aperio_jpeg_2000(tmp_path, code):
    pixels = smooth_pixels((96, 128))
    luminance = pixels @ np.array([0.299, 0.587, 0.114])
    ycbcr = np.stack(
        (
            luminance,
            (pixels[..., 2] - luminance) / 1.772 + 128,
            (pixels[..., 0] - luminance) / 1.402 + 128,
        ),
        axis=2,
    )
    stored = np.rint(ycbcr).astype(np.uint8) if code == 33003 else pixels
    tiles = [
        bytes(
            imagecodecs.jpeg2k_encode(
                np.ascontiguousarray(stored[y : y + 32, x : x + 32]),
                codecformat="j2k",
                reversible=True,
                mct=False,
            )
        )
        for y in range(0, 96, 32)
        for x in range(0, 128, 32)
    ]
    path = tmp_path / "slide.svs"
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=pixels.shape,
        dtype=np.uint8,
        photometric="rgb",
        tile=(32, 32),
        compression=code,
        description="Aperio Image Library v11\r\n128x96 (32x32) J2K/YUV16|MPP = 0.4990|",
        metadata=None,
    )
    with open_image(path) as image:
        assert image.mpp == 0.499
    assert_reads_region_by_region(
        path,
        lambda box: pixels[box[0] : box[2], box[1] : box[3]],
        pixels.shape,
        tolerance=2 if code == 33003 else 0,
    )


def test_hamamatsu_ndpi(tmp_path, caplog):
    path = tmp_path / "slide.ndpi"
    full = smooth_pixels((128, 192))
    levels = write_ndpi(path, [full, full[::2, ::2], full[::4, ::4]], mpp=0.5)
    for number, pixels in enumerate(levels):
        assert_reads_region_by_region(
            path,
            lambda box, pixels=pixels: pixels[box[0] : box[2], box[1] : box[3]],
            pixels.shape,
            level=number,
        )
    with open_image(path, mpp=1.1) as image:
        assert image.shape == (64, 96, 3)
        assert image.mpp == pytest.approx(1.0)
    assert not caplog.records


def test_philips_tiff(tmp_path, caplog):
    path = tmp_path / "slide.tiff"
    full = smooth_pixels((200, 300))
    write_philips(path, full, mpp=0.25)
    for number, step in enumerate((1, 2, 4)):
        pixels = full[::step, ::step]
        assert_reads_region_by_region(
            path,
            lambda box, pixels=pixels: pixels[box[0] : box[2], box[1] : box[3]],
            pixels.shape,
            level=number,
        )
        with open_image(path, level=number) as image:
            assert image.mpp == pytest.approx(0.25 * step)
    assert not caplog.records


PIXEL_SIZES: dict[str, tuple[dict[str, Any], float | None]] = {
    "nothing": ({}, None),
    "cm": ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
    "inch": ({"resolution": (25400, 25400), "resolutionunit": "INCH"}, 1.0),
    "screen": ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    "print": ({"resolution": (1200, 1200), "resolutionunit": "INCH"}, None),
    "uneven": ({"resolution": (40000, 10000), "resolutionunit": "CENTIMETER"}, 0.5),
    "no unit": ({"resolution": (4, 4), "resolutionunit": "NONE"}, None),
    "imagej": ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
    "imagej mu": ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "\\u00B5m"}}, 0.25),
    "imagej px": ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
    "ome": ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.65}}, 0.65),
    "ome nm": (
        {
            "ome": True,
            "metadata": {
                "axes": "YX",
                "PhysicalSizeX": 650,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 650,
                "PhysicalSizeYUnit": "nm",
            },
        },
        0.65,
    ),
    "ome none": ({"ome": True, "metadata": {"axes": "YX"}}, None),
}


@pytest.mark.parametrize("case", PIXEL_SIZES)
def test_pixel_sizes(tmp_path, case):
    options, expected = PIXEL_SIZES[case]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8), photometric="minisblack", **options)
    with open_image(path) as image:
        assert image.mpp == (None if expected is None else pytest.approx(expected, rel=1e-3))
    if expected is None:
        with pytest.raises(ImageError, match="size of its pixels"):
            open_image(path, mpp=1.0)


def test_resolutions_that_are_not_there(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(imagecodecs.png_encode(np.zeros((20, 30), np.uint8)))
    with open_image(path, level=0) as image:
        assert image.mpp is None
    with pytest.raises(ImageError, match=r"no level 1 \(only 0: 20 x 30\)"):
        open_image(path, level=1)
    with pytest.raises(ImageError, match="size of its pixels"):
        open_image(path, mpp=0.5)
    for wrong in ({"level": -1}, {"mpp": 0.0}, {"mpp": float("nan")}, {"level": 0, "mpp": 1.0}):
        with pytest.raises(ValueError, match=r"level|mpp"):
            open_image(path, **wrong)


@pytest.mark.parametrize("form", WRITERS)
def test_regions_may_be_read_from_many_threads(tmp_path, form, monkeypatch):
    monkeypatch.setattr("imaging.chunks.CACHE_BYTES", 20_000)  # pieces come and go
    mosaic = random_mosaic(shape=(300, 420))
    path = tmp_path / "slide"
    WRITERS[form](path, mosaic, SMALL)
    boxes = [(y, x, y + 50, x + 50) for y in range(0, 250, 25) for x in range(0, 370, 25)]
    with open_image(path) as image, ThreadPoolExecutor(8) as pool:
        for box, region in zip(boxes, pool.map(image.read, boxes), strict=True):
            np.testing.assert_array_equal(region, mosaic.read(box))


def test_scanners_files_and_zarr_folders_are_listed_and_named(tmp_path):
    for name in ("a.svs", "b.NDPI", "c.scn", "d.bif", "e.qptiff", "f.btf"):
        (tmp_path / name).touch()
    for name in ("g.ome.zarr", "h.zarr", ".hidden.zarr", "plain"):
        (tmp_path / name).mkdir()
    for name, metadata in (("i", ".zattrs"), ("j", "zarr.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / metadata).touch()
    listed = list_images(tmp_path)
    assert "".join(path.name[0] for path in listed.images) == "abcdefghij"
    assert listed.unsupported == ()
    assert list_images(tmp_path / "g.ome.zarr").images == (tmp_path / "g.ome.zarr",)
    assert output_name(tmp_path / "g.ome.zarr") == "g_label.tiff"


def test_companion_pictures_are_no_news_but_further_images_are(tmp_path, caplog):
    mosaic = random_mosaic()
    WRITERS["svs"](tmp_path / "slide.svs", mosaic, SMALL)
    with caplog.at_level(logging.WARNING), open_image(tmp_path / "slide.svs"):
        assert not caplog.records
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for _ in range(2):
            writer.write(np.zeros((40, 50), np.uint8), metadata={"axes": "YX"})
    with caplog.at_level(logging.WARNING), open_image(path):
        assert "1 more images" in caplog.text


def test_an_ome_tiff_of_several_files(tmp_path):
    channels = [np.full((40, 50), 9, np.uint8), np.arange(2000, dtype=np.uint8).reshape(40, 50)]
    data = "".join(
        f'<TiffData FirstC="{c}" FirstZ="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="c{c}.ome.tif">urn:uuid:{c}</UUID></TiffData>'
        for c in range(2)
    )
    for c, pixels in enumerate(channels):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{c}"><Image ID="Image:0"><Pixels ID="Pixels:0" SizeX="50" SizeY="40" '
            'SizeC="2" SizeZ="1" SizeT="1" DimensionOrder="XYCZT" Type="uint8">'
            f"{data}</Pixels></Image></OME>"
        )
        path = tmp_path / f"c{c}.ome.tif"
        tifffile.imwrite(
            path, pixels, description=xml, metadata=None, tile=(16, 16), compression="zlib"
        )
    expected = np.stack([*channels, np.zeros_like(channels[0])], axis=2)
    for c in range(2):
        assert_reads_region_by_region(
            tmp_path / f"c{c}.ome.tif",
            lambda box: expected[box[0] : box[2], box[1] : box[3]],
            expected.shape,
        )
    with open_image(tmp_path / "c0.ome.tif") as image:
        (tmp_path / "c1.ome.tif").write_bytes(b"another")
        with pytest.raises(ImageError, match=r"^c1\.ome\.tif: changed"):
            image.read((0, 0, 5, 5))


def test_plain_images_need_no_heavy_package(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    code = (
        "import sys; from pathlib import Path; from imaging.reading import open_image;"
        "open_image(Path(sys.argv[1])).overview();"
        "sys.exit(bool({'zarr', 'numcodecs', 'fsspec', 'torch', 'cv2'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.tif"], check=True, cwd=ROOT)
