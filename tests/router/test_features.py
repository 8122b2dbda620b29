import colorsys

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from imaging.reading import open_image
from router.features import FEATURE_SIDE_PX, hsv_features, rgb_features, unit_rgb
from tests.router.fields import draw_field

KINDS = ["fluorescence", "phase", "dic", "large", "small"]
ENCODINGS = {
    "16-bit x257": lambda image: image.astype(np.uint16) * 257,
    "12-bit in 16": lambda image: image.astype(np.uint16) * 16,
    "float 0..1": lambda image: image.astype(np.float32) / 255,
    "float64": lambda image: image.astype(np.float64) * 1e-3 + 7,
    "int32": lambda image: image.astype(np.int32) * 1000 - 500,
    "camera offset": lambda image: image.astype(np.uint16) + 100,
    "RGB": lambda image: np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image,
}


@pytest.mark.parametrize("features", [hsv_features, rgb_features])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_encoding_does_not_change_features(kind, encoding, features):
    image = draw_field(kind)
    # float32 keeps 24 bits: an offset of 7 on a range of 0.25 costs five of them
    np.testing.assert_allclose(features(ENCODINGS[encoding](image)), features(image), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_any_kind_give_one_answer(kind, tmp_path):
    image = draw_field(kind)
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
    PillowImage.fromarray(image.squeeze()).save(tmp_path / "a.png")
    PillowImage.fromarray(rgb).save(tmp_path / "b.bmp")
    PillowImage.fromarray(np.concatenate([rgb, opaque], axis=2)).save(tmp_path / "c.png")
    tifffile.imwrite(tmp_path / "d.tif", rgb.astype(np.uint16) * 257, photometric="rgb")
    tifffile.imwrite(tmp_path / "e.tif", rgb.astype(np.float32) / 255, photometric="rgb")
    expected = hsv_features(image)
    for path in sorted(tmp_path.iterdir()):
        with open_image(path) as opened:
            np.testing.assert_allclose(hsv_features(opened.overview()), expected, atol=1e-6)


def test_hsv_agrees_with_the_standard_library():
    rgb = np.random.default_rng(0).random((8, 8, 3))
    rgb[0] = rgb[0, :, :1]  # grey
    unit = unit_rgb(rgb)
    hsv = np.array([[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in unit])
    expected = np.concatenate([hsv.mean((0, 1)), hsv.var((0, 1))])
    np.testing.assert_allclose(hsv_features(rgb), expected, atol=1e-12)


def test_rgb_features_are_means_and_variances():
    image = np.zeros((10, 10, 3))
    image[:5] = 1, 0.5, 0
    np.testing.assert_allclose(rgb_features(image), [0.5, 0.25, 0, 0.25, 0.0625, 0])


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_copy_has_the_same_features(kind, times):
    image = draw_field(kind, shape=(200, 240))
    larger = image.repeat(times, axis=0).repeat(times, axis=1)
    # Blocks that do not fit the copies exactly mix neighbours: less noise, slightly less variance.
    np.testing.assert_allclose(hsv_features(larger), hsv_features(image), atol=0.03)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5000, 3), (3000, 2, 1), (257, 256, 3)])
def test_any_shape_has_features(shape):
    image = np.random.default_rng(0).integers(0, 255, shape)
    unit = unit_rgb(image)
    assert max(unit.shape[:2]) <= FEATURE_SIDE_PX
    assert np.isfinite(hsv_features(image)).all()


@pytest.mark.parametrize("value", [0, 7, 65535, 0.1, -3])
def test_a_flat_image_is_black(value):
    assert not hsv_features(np.full((20, 30, 3), value)).any()


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 2), (0, 5, 1), (2, 5, 5, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="wanted"):
        hsv_features(np.zeros(shape))


RNG = np.random.default_rng(7)
CELLS, NUCLEI = RNG.random((2, 40, 50))
