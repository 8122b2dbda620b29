import numpy as np
import pytest

from models.mask_classes import find_touching
from tests.cells import draw_discs
from tests.training.folders import make_field
from training.augment import GeometrySettings, Patch, draw_patch
from training.cellpose_task import CellposeTask
from training.crowd import MOST_COVERED, SLACK_PX, choose_cells, crowd_patch
from training.intensity import ColourSettings
from training.recipes import RECIPES, narrow

SIDE = 96


def make_patch(labels, brightness=0.6, ground=0.1, trusted=None):
    """Make a patch whose cells have one brightness, with a flow that tells the ids apart."""
    image = np.where(labels > 0, brightness, ground).astype(np.float32)
    flow = np.stack([labels, -labels]).astype(np.float32)
    trusted = np.ones(labels.shape, bool) if trusted is None else trusted
    return Patch(np.repeat(image[:, :, None], 3, axis=2), labels, flow, trusted)


@pytest.fixture
def below():
    return make_patch(draw_discs((SIDE, SIDE), [(30, 30, 12), (70, 60, 14)]))


@pytest.fixture
def above():
    side = SIDE + SLACK_PX
    return make_patch(
        draw_discs((side, side), [(40, 70, 12), (100, 40, 12), (100, 110, 13)]), brightness=0.4
    )


def crowds(below, above, n=20):
    return [crowd_patch(below, above, np.random.default_rng(seed)) for seed in range(n)]


def test_a_crowd_has_cells_of_both_crops_and_some_touch(below, above):
    made = crowds(below, above)
    assert all(len(np.unique(patch.labels)) > 3 for patch in made)
    assert not find_touching(below.labels).any()
    assert np.mean([find_touching(patch.labels).any() for patch in made]) > 0.8


def test_no_cell_is_mostly_covered(below, above):
    area = np.bincount(below.labels.ravel())[1:]
    for patch in crowds(below, above):
        left = np.array([(patch.labels == cell).sum() for cell in (1, 2)])
        assert (left >= (1 - MOST_COVERED) * area).all()


def test_flow_and_labels_come_from_the_same_cell(below, above):
    for patch in crowds(below, above):
        added = patch.labels > 2
        expected = np.where(added, patch.labels - 2, patch.labels)
        np.testing.assert_array_equal(patch.flow[0], expected)
        np.testing.assert_array_equal(patch.flow[1], -expected)


def test_added_cells_are_seen_and_the_rest_of_the_image_stays(below, above):
    sums = []
    for patch in crowds(below, above):
        added = patch.labels > 2
        distance = np.abs(patch.image - below.image).max(2)
        alone = added & (below.labels == 0)
        assert np.median(distance[alone]) > 0.1
        far = np.ones(added.shape, bool)
        for y, x in np.argwhere(added):
            far[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9] = False
        assert (distance[far] == 0).all()
        over = added & (below.labels > 0)
        if over.any():
            sums.append(np.median(patch.image[over]) > np.median(below.image[over]))
    assert any(sums), "light adds up in some crowds"
    assert not all(sums), "the upper cell hides the lower one in others"


def test_a_cell_that_would_hide_another_or_is_not_trusted_is_not_chosen():
    below = draw_discs((SIDE, SIDE), [(50, 50, 6)])
    over = draw_discs((SIDE, SIDE), [(50, 50, 20)])
    beside = draw_discs((SIDE, SIDE), [(50, 69, 12)])
    trusted = np.ones(below.shape, bool)
    assert choose_cells(below, over, trusted).tolist() == [False, False]
    assert choose_cells(below, beside, trusted).tolist() == [False, True]
    trusted[50, 75] = False
    assert choose_cells(below, beside, trusted).tolist() == [False, False]


def test_where_nothing_may_be_added_the_crop_stays(below):
    side = SIDE + SLACK_PX
    empty = make_patch(np.zeros((side, side), np.int32))
    assert crowd_patch(below, empty, np.random.default_rng(0)) is below


def test_only_fluorescence_is_crowded_and_only_by_its_own_image():
    labels = draw_discs((200, 200), [(60, 60, 14), (140, 140, 14), (60, 140, 12)])
    field = make_field(labels)
    geometry, colour = GeometrySettings(64, scale=(1.0, 1.0)), ColourSettings(blank=0)

    def count(modality, crowd):
        item = make_field(labels, modality=modality)
        task = CellposeTask([item], [], {}, geometry, colour, crowd=crowd)
        return task.draw_batch(12, (0, 1))["cell"].mean()

    assert count("fluorescence", 1.0) > 1.2 * count("fluorescence", 0.0)
    assert count("phase", 1.0) == count("phase", 0.0)
    assert field.labels.max() == 3


def test_touching_pixels_weigh_as_told():
    labels = draw_discs((SIDE, SIDE), [(40, 30, 12), (40, 53, 12)])
    patch = make_patch(labels)
    task = CellposeTask([make_field(labels)], [], touching_weight=5.0)
    weight = task.weigh(patch)
    np.testing.assert_array_equal(weight == 5, find_touching(labels))
    assert (weight[~find_touching(labels)] == 1).all()
    assert (CellposeTask([make_field(labels)], []).weigh(patch) == 1).all()


def test_crops_on_cells_have_a_cell_in_their_middle():
    field = make_field(draw_discs((300, 300), [(40, 250, 10)]))
    rng = np.random.default_rng(0)
    on, off = (
        [
            draw_patch(field, [field], GeometrySettings(64, on_cells=share), rng).labels[
                28:36, 28:36
            ]
            for _ in range(20)
        ]
        for share in (1.0, 0.0)
    )
    assert all(middle.any() for middle in on)
    assert sum(middle.any() for middle in off) < 10


def test_the_papers_augmentation_has_no_crowds():
    assert RECIPES["cellpose_fluorescence"].crowd > 0
    assert narrow(RECIPES["cellpose_fluorescence"]).crowd == 0
