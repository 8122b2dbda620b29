"""An overview is the image's local means, whatever the file's layout, in bounded memory."""

import math
import tracemalloc
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from imaging import image as image_module
from imaging.reading import open_image

RNG = np.random.default_rng(0)


def block_means(pixels, k):
    """Oracle: mean of every k x k block, pixel by pixel."""
    height, width, n_channels = pixels.shape
    means = np.empty((math.ceil(height / k), math.ceil(width / k), n_channels))
    for y in range(means.shape[0]):
        for x in range(means.shape[1]):
            block = pixels[y * k : (y + 1) * k, x * k : (x + 1) * k]
            means[y, x] = block.astype(np.float64).mean(axis=(0, 1))
    return means


@pytest.mark.parametrize("side_px", [1, 7, 40, 99, 100, 1000])
@pytest.mark.parametrize("shape", [(100, 60, 1), (61, 99, 3), (1, 100, 1)])
def test_overview_is_the_block_mean(tmp_path, shape, side_px, monkeypatch):
    monkeypatch.setattr(image_module, "OVERVIEW_BAND_BYTES", 3000)  # several bands
    pixels = RNG.integers(0, 65536, shape, np.uint16)
    path = tmp_path / "image.tif"
    colours = "rgb" if shape[2] == 3 else "minisblack"
    stored = pixels if shape[2] == 3 else pixels[..., 0]
    tifffile.imwrite(path, stored, photometric=colours, rowsperstrip=7, compression="zlib")
    with open_image(path) as image:
        overview = image.overview(side_px)
    assert overview.dtype == np.float32
    assert max(overview.shape[:2]) <= side_px
    k = math.ceil(max(shape) / side_px)
    np.testing.assert_allclose(overview, block_means(pixels, k), rtol=1e-6)


def test_small_images_are_their_own_overview(tmp_path):
    pixels = RNG.integers(0, 256, (30, 40, 3), np.uint8)
    path = tmp_path / "image.png"
    path.write_bytes(imagecodecs.png_encode(pixels))
    with open_image(path) as image:
        np.testing.assert_array_equal(image.overview(), pixels)
        with pytest.raises(ValueError, match="side_px"):
            image.overview(0)


@pytest.mark.parametrize("in_subifds", [True, False])
def test_a_pyramid_level_stands_in_for_the_full_image(tmp_path, caplog, in_subifds):
    full = RNG.integers(0, 256, (256, 320, 3), np.uint8)
    options: dict[str, Any] = {
        "photometric": "rgb",
        "tile": (32, 32),
        "compression": "zlib",
        "metadata": None,
    }
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(full, subifds=2 if in_subifds else None, **options)
        for factor in (2, 4):
            level = np.full((256 // factor, 320 // factor, 3), factor, np.uint8)
            writer.write(level, subfiletype=1, **options)
    with open_image(path) as image:
        assert image.shape == full.shape
        np.testing.assert_array_equal(image.read((5, 6, 70, 80)), full[5:70, 6:80])
        assert (image.overview(320) > 4).any()  # the largest level has half of that: too small
        assert (image.overview(319) == 2).all()
        assert (image.overview(200) == 2).all()  # as long as a full image reduced by 2
        assert (image.overview(160) == 2).all()
        assert (image.overview(81) == 2).all()
        assert (image.overview(80) == 4).all()
        assert (image.overview(20) == 4).all()
    assert not caplog.records


def test_memory_does_not_grow_with_the_slide(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "OVERVIEW_BAND_BYTES", 2**20)
    monkeypatch.setattr("imaging.chunks.CACHE_BYTES", 2**20)
    path = tmp_path / "slide.tif"
    tile = np.arange(256 * 256, dtype=np.uint8).reshape(256, 256)
    rows, columns = 6000, 4000  # 24 MB
    n_tiles = math.ceil(rows / 256) * math.ceil(columns / 256)
    tifffile.imwrite(
        path,
        (tile for _ in range(n_tiles)),
        shape=(rows, columns),
        dtype=np.uint8,
        tile=(256, 256),
        compression="zlib",
    )
    tracemalloc.start()
    with open_image(path) as image:
        image.overview()
        image.read((3000, 2000, 3256, 2256))
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak_mib < 8
