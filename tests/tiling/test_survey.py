import numpy as np
import pytest

from manifest import WEIGHTS_DIR
from router.router import load_router
from synthetic import KINDS
from synthetic.slides import make_slide
from tests.fakes import array_image
from tiling.survey import FIELD_PX, GRIDS, WHOLE_PX, choose_fields, survey_image

SIDE = 8 * FIELD_PX


def paint(*corners, noise=200, ground=10):
    """Paint fields of noise on even ground; corners count in fields."""
    rng = np.random.default_rng(0)
    pixels = np.full((SIDE, SIDE), ground, np.uint8)
    coarse = FIELD_PX // 16
    for row, column in corners:
        y, x = row * FIELD_PX, column * FIELD_PX
        spots = rng.integers(0, 2, (coarse, coarse), np.uint8) * noise
        pixels[y : y + FIELD_PX, x : x + FIELD_PX] = np.kron(spots, np.ones((16, 16), np.uint8))
    return pixels


@pytest.mark.parametrize("shape", [(1, 1), (700, 1300), (WHOLE_PX, 40)])
def test_a_small_image_is_looked_at_as_a_whole(shape):
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    survey = survey_image(array_image(pixels))
    assert survey.fields is survey.overview
    np.testing.assert_array_equal(survey.overview, array_image(pixels).overview())


def test_fields_are_native_pixels_of_what_is_not_blank():
    corners = [(1, 2), (5, 0), (6, 6)]
    pixels = paint(*corners)
    survey = survey_image(array_image(pixels))
    boxes = [(r * FIELD_PX, c * FIELD_PX) for r, c in corners]
    expected = [pixels[y : y + FIELD_PX, x : x + FIELD_PX] for y, x in boxes]
    np.testing.assert_array_equal(survey.fields[..., 0], np.hstack(expected))


@pytest.mark.parametrize("n_painted", [1, 5, 7, 64])
def test_fields_fill_a_grid(n_painted):
    corners = [divmod(index, 8) for index in range(n_painted)]
    fields = survey_image(array_image(paint(*corners))).fields
    grid = (fields.shape[0] // FIELD_PX, fields.shape[1] // FIELD_PX)
    assert grid in GRIDS
    assert grid == next(g for g in GRIDS if g[0] * g[1] <= n_painted)
    assert (fields == 200).any(axis=2).mean() > 0.4  # every field is painted


def test_a_faint_part_is_seen_beside_a_bright_one():
    pixels = np.maximum(paint((0, 0), (3, 3)), paint((5, 1), (7, 7), noise=60))
    boxes = choose_fields(array_image(pixels).overview(), pixels.shape)
    corners = {(box[0] // FIELD_PX, box[1] // FIELD_PX) for box in boxes}
    assert corners == {(0, 0), (3, 3), (5, 1), (7, 7)}


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (3, 2000), (WHOLE_PX + 1, 5)])
def test_a_blank_slide_has_fields_too(shape):
    pixels = np.full(shape, 7, np.uint16)
    fields = survey_image(array_image(pixels)).fields
    assert fields.size > 0
    assert (fields == 7).all()


@pytest.mark.weights
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_blank_ground_does_not_turn_the_router(kind):
    mosaic = make_slide(kind, (2560, 3072), tissue=0.1)
    pixels = mosaic.read((0, 0, *mosaic.shape[:2]))
    route = load_router(WEIGHTS_DIR).route(survey_image(array_image(pixels)).fields)
    alike = {"phase": "phase", "dic": "phase"}  # both go to networks that know both
    modality = KINDS[kind].modality
    assert alike.get(route.modality, route.modality) == alike.get(modality, modality)
