import numpy as np
import pytest

from imaging.normalise import CLIP, as_three, fit_normaliser


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("mode", ["grey", "joint", "per_channel"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_most_pixels_land_between_0_and_1(rng, mode, n_channels):
    image = rng.integers(100, 4000, (64, 50, n_channels), dtype=np.uint16)
    out = fit_normaliser(image, mode).apply(image)
    assert out.shape == (64, 50, 3)
    assert out.dtype == np.float32
    assert np.mean((out >= 0) & (out <= 1)) > 0.98


@pytest.mark.parametrize("mode", ["grey", "joint", "per_channel"])
def test_gain_and_encoding_do_not_matter(rng, mode):
    image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    expected = fit_normaliser(image, mode).apply(image)
    for other in (image.astype(np.uint16) * 257, image / 255, image.astype(np.float32) * 1e6):
        np.testing.assert_allclose(fit_normaliser(other, mode).apply(other), expected, atol=1e-4)


def test_tiles_agree_with_the_whole(rng):
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    normaliser = fit_normaliser(image, "per_channel")
    whole = normaliser.apply(image)
    np.testing.assert_array_equal(normaliser.apply(image[10:20, 5:9]), whole[10:20, 5:9])


def test_grey_equals_rgb_with_equal_channels(rng):
    grey = rng.integers(0, 256, (32, 32, 1), dtype=np.uint8)
    rgb = np.repeat(grey, 3, axis=2)
    for mode in ("grey", "joint", "per_channel"):
        one, three = (fit_normaliser(a, mode).apply(a) for a in (grey, rgb))
        # percentiles lie between two ranks: three times the pixels, another fraction of a level
        np.testing.assert_allclose(one, three, atol=1e-3)


def test_coloured_light_makes_no_difference_to_grey(rng):
    scene = rng.random((40, 50, 1), np.float32)
    tinted = (0.5 + 0.5 * scene) * np.array([200.0, 90.0, 140.0], np.float32)
    out = fit_normaliser(tinted, "grey").apply(tinted)
    np.testing.assert_allclose(out, fit_normaliser(scene, "grey").apply(scene), atol=1e-4)
    part = fit_normaliser(tinted, "grey").apply(tinted[5:9, 20:40])
    np.testing.assert_array_equal(part, out[5:9, 20:40])


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_image_becomes_zero(value):
    image = np.full((16, 16, 1), value, np.uint16)
    assert not fit_normaliser(image, "joint").apply(image).any()


def test_an_unused_channel_stays_dark(rng):
    image = rng.integers(0, 200, (64, 64, 3), dtype=np.uint8)
    image[:, :, 2] = rng.integers(0, 3, (64, 64))  # camera noise
    out = fit_normaliser(image, "per_channel").apply(image)
    assert out[:, :, 2].max() < 0.2


def test_outliers_are_clipped(rng):
    image = rng.normal(100, 1, (64, 64, 1)).astype(np.float32)
    image[0, 0], image[0, 1] = 1e9, -1e9
    out = fit_normaliser(image, "joint").apply(image)
    assert (out.min(), out.max()) == CLIP


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4), (4, 4, 2)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="overview"):
        fit_normaliser(np.zeros(shape), "joint")


@pytest.mark.parametrize("mode", ["grey", "joint", "per_channel"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_equal_channels_are_normalised_once(mode, n_channels, rng):
    image = rng.integers(0, 200, (40, 30, n_channels)).astype(np.uint8)
    normaliser = fit_normaliser(image, mode)
    narrow = normaliser.apply_narrow(image)
    assert narrow.shape[2] == (1 if mode == "grey" or n_channels == 1 else 3)
    np.testing.assert_array_equal(as_three(narrow), normaliser.apply(image))


def test_a_single_channel_gets_the_range_of_each_of_three(rng):
    colours = rng.integers(0, (50, 100, 200), (40, 30, 3)).astype(np.uint8)
    grey = colours[..., :1]
    normaliser = fit_normaliser(colours, "per_channel")
    three = normaliser.apply(np.repeat(grey, 3, axis=2))
    assert not np.array_equal(three[..., 0], three[..., 2])
    np.testing.assert_array_equal(normaliser.apply_narrow(grey), three)
