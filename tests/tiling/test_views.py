import numpy as np
import pytest

from tests.fakes import UNCHANGED, array_image
from tiling.views import N_VIEWS, VIEW_PX, choose_views, representative_views


@pytest.mark.parametrize("shape", [(1, 1), (700, 1300)])
def test_a_small_image_is_its_own_view(shape):
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    image = array_image(pixels)
    (view,) = representative_views(image, image.overview(), UNCHANGED)
    np.testing.assert_array_equal(view, np.repeat(pixels[..., None], 3, axis=2))


def paint(height, width, *boxes):
    """Paint coarse noise into boxes of a dark image."""
    pixels = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(0)
    for y0, x0, y1, x1 in boxes:
        noise = rng.integers(0, 2, ((y1 - y0) // 8, (x1 - x0) // 8), np.uint8)
        pixels[y0:y1, x0:x1] = np.kron(noise, np.ones((8, 8), np.uint8))
    return array_image(pixels)


def view_boxes(image):
    return choose_views(image.overview(), image.shape[:2])


def test_a_large_image_is_seen_where_it_has_texture():
    image = paint(4 * VIEW_PX, 4 * VIEW_PX, (512, 1024, 512 + VIEW_PX, 1024 + 2 * VIEW_PX))
    boxes = [(512, x, 512 + VIEW_PX, x + VIEW_PX) for x in (1024, 1024 + VIEW_PX)]
    assert view_boxes(image) == boxes
    views = representative_views(image, image.overview(), UNCHANGED)
    assert [view.shape for view in views] == [(VIEW_PX, VIEW_PX, 3)] * 2
    for view, box in zip(views, boxes, strict=True):
        np.testing.assert_array_equal(view[..., :1], image.read(box))


def test_views_do_not_overlap_and_are_few():
    shape = (3 * VIEW_PX + 100, 2 * VIEW_PX + 30)
    boxes = view_boxes(paint(*shape, (0, 0, 3 * VIEW_PX, 2 * VIEW_PX)))
    assert 2 <= len(boxes) <= N_VIEWS
    seen = np.zeros(shape, int)
    for y0, x0, y1, x1 in boxes:
        seen[y0:y1, x0:x1] += 1
    assert seen.max() == 1
    assert seen.sum() == len(boxes) * VIEW_PX**2


def test_dirt_does_not_stand_alone():
    image = paint(4 * VIEW_PX, 4 * VIEW_PX, (0, 0, VIEW_PX, VIEW_PX), (2048, 2048, 2304, 2304))
    assert len(view_boxes(image)) == 2


@pytest.mark.parametrize("shape", [(1537, 3), (40, 5000), (1600, 1600)])
def test_narrow_and_blank_images_have_views_inside(shape):
    boxes = view_boxes(array_image(np.zeros(shape, np.uint8)))
    assert boxes
    for y0, x0, y1, x1 in boxes:
        assert 0 <= y0 < y1 <= shape[0]
        assert 0 <= x0 < x1 <= shape[1]
