import numpy as np
import pytest

from training.intensity import (
    STAINS,
    ColourSettings,
    add_shot_noise,
    compress_jpeg,
    drop_channels,
    is_grey,
    reduce_bits,
    tint_light,
    vary_intensity,
    vary_stains,
)

WILD = ColourSettings(
    invert=0.5, permute=0.5, jitter=0.3, grey=0.3, gain=0.5,
    dropout=0.5, stain=0.3, tint=0.5, shot=0.5, jpeg=0.5, bits=0.5,
)  # fmt: skip


@pytest.fixture
def image():
    """A smooth image with a colour of its own in each channel."""
    y, x = np.indices((48, 40), dtype=np.float32)
    red, green = 0.5 + 0.4 * np.sin(y / 6), 0.5 + 0.3 * np.cos(x / 5)
    return np.stack([red, green, 0.3 + 0.1 * np.sin((x + y) / 7)], axis=2).astype(np.float32)


def as_grey(image):
    return np.repeat(image[:, :, :1], 3, axis=2)


@pytest.mark.parametrize("seed", range(12))
def test_intensities_stay_in_the_range_of_images(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(0.5, 0.6, (20, 30, 3)).astype(np.float32).clip(-0.5, 2)
    before = image.copy()
    varied = vary_intensity(image, WILD, rng)
    np.testing.assert_array_equal(image, before)
    assert varied.shape == image.shape
    assert varied.dtype == np.float32
    assert varied.min() >= -0.5
    assert varied.max() <= 2
    assert np.isfinite(varied).all()
    assert varied.std() > 0


@pytest.mark.parametrize("seed", range(8))
def test_light_of_another_colour_only_scales_and_shifts_each_channel(image, seed):
    tinted = tint_light(image, np.random.default_rng(seed))
    low, high = np.percentile(tinted, (0.5, 99.8))
    assert (low, high) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    for channel, before in zip(tinted.transpose(2, 0, 1), image.transpose(2, 0, 1), strict=True):
        assert np.corrcoef(channel.ravel(), before.ravel())[0, 1] > 0.999


def test_in_coloured_light_the_channels_of_a_grey_image_lie_apart(image):
    grey = as_grey(image)
    apart = [
        np.ptp(tint_light(grey, np.random.default_rng(seed)).mean((0, 1))) for seed in range(9)
    ]
    assert np.median(apart) > 0.2
    settings = ColourSettings(tint=1.0, grey=1.0)  # the tint comes after colour is dropped
    assert not is_grey(vary_intensity(image, settings, np.random.default_rng(0)))


@pytest.mark.parametrize("seed", range(5))
def test_contrast_is_inverted_only_where_asked(seed):
    image = np.zeros((32, 32, 3), np.float32)
    image[8:24, 8:24] = 0.9
    for invert, sign in ((0.0, 1), (1.0, -1)):
        settings = ColourSettings(invert=invert, gain=0.1)
        varied = vary_intensity(image, settings, np.random.default_rng(seed))
        assert sign * np.corrcoef(image.ravel(), varied.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_colour_is_dropped_or_mixed_only_where_asked(seed):
    image = np.random.default_rng(0).random((16, 16, 3), np.float32) * [0.2, 0.5, 1.0]
    image = image.astype(np.float32)

    def vary(**settings):
        return vary_intensity(image, ColourSettings(**settings), np.random.default_rng(seed))

    assert np.ptp(vary(grey=1.0), axis=2).max() < 1e-5
    assert np.argmax(vary().mean((0, 1))) == 2
    means = vary(permute=1.0).mean((0, 1))
    assert np.ptp(means) > 0.1


def test_intensities_depend_on_the_seed_alone():
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    first, again, other = (
        vary_intensity(image, WILD, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_effects_that_are_off_draw_nothing(image):
    """A recipe's crops stay the same when an effect is added here."""

    class Counting(np.random.Generator):
        def __getattribute__(self, name):
            if not name.startswith("_"):
                calls.append(name)
            return super().__getattribute__(name)

    calls: list[str] = []
    vary_intensity(image, ColourSettings(), Counting(np.random.PCG64(0)))
    n_random, n_normal = calls.count("random"), calls.count("normal")
    assert n_random == 6  # permute, grey, invert, gamma, blur, noise
    assert 2 <= n_normal <= 4  # gain and offset; gamma and noise if drawn


@pytest.mark.parametrize("seed", range(4))
def test_stains_vary_on_their_own(image, seed):
    depth = (0.2 + 0.6 * image[:, :, :1]).astype(np.float32)
    varied = vary_stains(np.exp(-depth * STAINS[0]), 0.3, np.random.default_rng(seed))
    # more or less of the one stain, on a ground of all three
    change = np.log(varied[:1]) - np.log(varied[20:21])
    expected = (depth[20:21] - depth[:1]) * STAINS[0]
    gains = change / expected
    assert np.ptp(gains) < 0.01
    assert 0.01 < abs(gains.mean() - 1) < 1
    assert vary_stains(image, 0.0, np.random.default_rng(seed)) == pytest.approx(image, abs=1e-4)
    grey = as_grey(image)
    assert vary_stains(grey, 0.3, np.random.default_rng(seed)) is grey


def test_the_channel_with_most_contrast_never_goes_dark(image):
    dark = [drop_channels(image, np.random.default_rng(seed)) for seed in range(30)]
    assert all(np.array_equal(one[:, :, 0], image[:, :, 0]) for one in dark)
    n_dark = [int((one == 0).all((0, 1)).sum()) for one in dark]
    assert set(n_dark) == {1, 2}
    assert image.all()  # the original is left alone
    assert drop_channels(as_grey(image), np.random.default_rng(0)).all()


def test_shot_noise_grows_with_the_light():
    steps = np.repeat(np.array([0.0, 0.2, 0.8], np.float32), 4000).reshape(3, 80, 50)
    image = np.repeat(np.concatenate(list(steps))[:, :, None], 3, axis=2)
    noisy = add_shot_noise(image, np.random.default_rng(3))
    assert is_grey(noisy)
    deviations = [noisy[80 * i : 80 * i + 80].std() for i in range(3)]
    means = [noisy[80 * i : 80 * i + 80].mean() for i in range(3)]
    assert deviations[0] == 0
    assert deviations[2] / deviations[1] == pytest.approx(2.0, rel=0.1)  # the root of 0.8 / 0.2
    np.testing.assert_allclose(means, [0, 0.2, 0.8], atol=0.02)


def test_fewer_bits_leave_few_levels(image):
    for seed in range(5):
        coarse = reduce_bits(image, np.random.default_rng(seed))
        n_levels = len(np.unique(coarse.round(5)))
        assert 4 <= n_levels <= 128
        assert np.abs(coarse - image).max() <= np.ptp(image) / 14 + 1e-4
        assert (coarse.min(), coarse.max()) == pytest.approx((image.min(), image.max()), abs=1e-5)


def test_jpeg_changes_a_little_and_keeps_grey_grey(image):
    for seed in range(5):
        read = compress_jpeg(image, np.random.default_rng(seed))
        assert 0 < np.abs(read - image).mean() < 0.05
        assert is_grey(compress_jpeg(as_grey(image), np.random.default_rng(seed)))


@pytest.mark.parametrize("effect", [add_shot_noise, reduce_bits, compress_jpeg])
def test_an_even_image_stays_an_image(effect):
    even = np.full((20, 24, 3), 0.4, np.float32)
    changed = effect(even, np.random.default_rng(0))
    assert changed.shape == even.shape
    assert changed.dtype == np.float32
    assert changed.mean() == pytest.approx(0.4, abs=0.05)
