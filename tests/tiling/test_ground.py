import numpy as np
import pytest

from tiling.ground import Ground, find_ground

GLASS = Ground((0.95, 0.94, 0.96))


def window(tone=GLASS.tone, noise=0.0, seed=0, side=256):
    rng = np.random.default_rng(seed)
    pixels = np.broadcast_to(np.array(tone, np.float32), (side, side, 3)).copy()
    return pixels + rng.normal(0, noise, pixels.shape).astype(np.float32)


@pytest.mark.parametrize("noise", [0, 0.005, 0.012])
def test_even_ground_with_noise_or_another_light_is_ground(noise):
    assert GLASS.fills(window(noise=noise))
    assert GLASS.fills(window(np.add(GLASS.tone, 0.03), noise))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("contrast", [-0.06, 0.06])
def test_a_small_faint_cell_anywhere_is_not(seed, contrast):
    rng = np.random.default_rng(seed)
    pixels = window(noise=0.005, seed=seed)
    y, x = rng.integers(0, 249, 2)
    pixels[y : y + 7, x : x + 7, rng.integers(3)] += contrast  # of one channel only
    assert not GLASS.fills(pixels)


@pytest.mark.parametrize(
    "pixels",
    [
        window((0.8, 0.8, 0.8)),  # even, but another tone: inside a giant cell
        window(noise=0.05),  # noise that could hide cells
        window() + np.linspace(0, 0.05, 256, dtype=np.float32)[:, None, None],
    ],
)
def test_other_tones_noise_and_slopes_are_not(pixels):
    assert not GLASS.fills(pixels)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (33, 47)])
def test_windows_of_any_size_are_judged(shape):
    pixels = np.broadcast_to(np.array(GLASS.tone, np.float32), (*shape, 3)).copy()
    assert GLASS.fills(pixels)
    pixels[-1, -1] = 0
    assert not GLASS.fills(pixels)


@pytest.mark.parametrize(
    ("where", "tone", "found"),
    [
        ("dark", 0.02, True),
        ("dark", 0.97, False),  # more saturated pixels than ground
        ("bright", 0.97, True),
        ("bright", 0.5, False),
        ("any", 0.5, True),
    ],
)
def test_the_ground_is_the_commonest_tone_where_the_modality_has_it(where, tone, found):
    overview = np.random.default_rng(2).random((100, 100, 3), np.float32)
    overview[:40] = tone
    ground = find_ground(overview, where)
    assert (ground is not None) == found
    if ground is not None:
        np.testing.assert_allclose(ground.tone, tone, atol=0.02)
