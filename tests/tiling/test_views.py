import numpy as np
import pytest

from tests.fakes import UNCHANGED, array_image
from tiling.views import VIEW_PX, representative_views


@pytest.mark.parametrize("shape", [(1, 1), (700, 1300)])
def test_a_small_image_is_its_own_view(shape):
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    image = array_image(pixels)
    (view,) = representative_views(image, image.overview(), UNCHANGED)
    np.testing.assert_array_equal(view, np.repeat(pixels[..., None], 3, axis=2))


def test_a_large_image_is_seen_where_it_has_texture():
    pixels = np.zeros((3 * VIEW_PX, 3 * VIEW_PX), np.uint8)
    noise = np.random.default_rng(0).integers(0, 2, (VIEW_PX // 8, VIEW_PX // 8), np.uint8)
    pixels[VIEW_PX : 2 * VIEW_PX, :VIEW_PX] = np.kron(noise, np.ones((8, 8), np.uint8))
    image = array_image(pixels)
    views = representative_views(image, image.overview(), UNCHANGED)
    assert [view.shape for view in views] == [(VIEW_PX, VIEW_PX, 3)] * 4
    assert sum(bool(view.any()) for view in views) == 1
