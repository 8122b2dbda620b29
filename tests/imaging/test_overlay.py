"""Overlays: outlines are the instances' outermost pixels; everything else is the image."""

from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from imaging.overlay import draw_overlay, find_outlines, write_overlay
from imaging.reading import open_image

LABELS = np.zeros((40, 60), np.int32)
LABELS[5:20, 5:20] = 1
LABELS[5:20, 20:40] = 2  # touches 1
LABELS[30:40, 50:60] = 300  # in the corner


def test_outlines_are_the_outermost_pixels_of_each_instance():
    expected = np.zeros(LABELS.shape, bool)
    for y, x in zip(*np.nonzero(LABELS), strict=True):
        for dy, dx in [(-1, 0), (1, 0), (0, -1), (0, 1)]:
            inside = 0 <= y + dy < LABELS.shape[0] and 0 <= x + dx < LABELS.shape[1]
            if inside and LABELS[y + dy, x + dx] != LABELS[y, x]:
                expected[y, x] = True
    np.testing.assert_array_equal(find_outlines(LABELS), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_only_outlines_are_coloured(dtype, n_channels):
    image = np.random.default_rng(0).integers(0, 200, (40, 60, n_channels)).astype(dtype)
    drawn = draw_overlay(image, LABELS)
    plain = draw_overlay(image, np.zeros_like(LABELS))
    assert drawn.shape == (40, 60, 3)
    assert drawn.dtype == np.uint8
    changed = (drawn != plain).any(axis=2)
    assert not changed[~find_outlines(LABELS)].any()
    assert changed[find_outlines(LABELS)].all()
    assert (drawn[10, 19] != drawn[10, 20]).any()  # touching instances differ


def test_flat_images_and_wrong_shapes():
    assert draw_overlay(np.full((40, 60, 1), 7, np.uint8), LABELS).shape == (40, 60, 3)
    with pytest.raises(ValueError, match="one size"):
        draw_overlay(np.zeros((40, 61, 3)), LABELS)
    with pytest.raises(ValueError, match="one size"):
        draw_overlay(np.zeros((40, 60)), LABELS)


@pytest.mark.parametrize("side_px", [60, 20, 7])
def test_written_overlays_are_reduced(tmp_path, side_px):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    PillowImage.fromarray(pixels).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as image:
        write_overlay(tmp_path / "overlay.png", image, LABELS, side_px)
        overview_yx = image.overview(side_px).shape[:2]
        with pytest.raises(ValueError, match="labels"):
            write_overlay(tmp_path / "overlay.png", image, LABELS[:20])
    with PillowImage.open(tmp_path / "overlay.png") as written:
        assert (written.height, written.width) == overview_yx
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "overlay.png"]


def test_outlines_lie_right_on_a_pyramid_of_odd_sizes(tmp_path):
    full = np.zeros((203, 301), np.uint8)
    full[100:150, 200:250] = 200
    options: dict[str, Any] = {"tile": (16, 16), "photometric": "minisblack"}
    with tifffile.TiffWriter(tmp_path / "slide.tif") as writer:
        writer.write(full, subifds=1, metadata=None, **options)
        writer.write(full[:202:2, :300:2], subfiletype=1, metadata=None, **options)
    labels = (full > 0).astype(np.int32)
    with open_image(tmp_path / "slide.tif") as image:
        write_overlay(tmp_path / "overlay.png", image, labels, side_px=150)
    with PillowImage.open(tmp_path / "overlay.png") as opened:
        drawn = np.asarray(opened).astype(int)
    assert drawn.shape == (101, 150, 3)
    coloured = np.argwhere(drawn.max(axis=2) != drawn.min(axis=2))
    np.testing.assert_allclose(coloured.min(axis=0), (50, 100), atol=1)
    np.testing.assert_allclose(coloured.max(axis=0), (74, 124), atol=1)
