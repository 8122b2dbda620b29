import numpy as np
import pytest
from cellpose.metrics import aggregated_jaccard_index, average_precision
from skimage.segmentation import relabel_sequential

from eval.instances import (
    AP_THRESHOLDS,
    measure_aji,
    measure_average_precision,
    measure_instance_dice,
    measure_panoptic_quality,
)
from eval.overlaps import measure_overlaps
from tests.cells import draw_discs
from tests.eval.oracle import (
    aggregated_jaccard,
    object_dice,
    panoptic_quality,
    permute_ids,
    similar_pair,
)

MEASURES = {
    "ap": measure_average_precision,
    "aji": measure_aji,
    "pq": lambda overlaps: measure_panoptic_quality(overlaps).pq,
    "inst_dice": measure_instance_dice,
}
SYMMETRIC = ("ap", "pq", "inst_dice")


def of(measure, labels_true, labels_pred):
    return measure(measure_overlaps(labels_true, labels_pred))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_cellposes(seed):
    labels_true, labels_pred = similar_pair(seed, noise=0.1)
    dense = [relabel_sequential(labels)[0] for labels in (labels_true, labels_pred)]
    expected = average_precision(*dense, threshold=list(AP_THRESHOLDS))[0]
    found = of(measure_average_precision, labels_true, labels_pred)
    assert 0.05 < found < 0.95
    assert found == pytest.approx(expected.mean(), rel=1e-6)  # Cellpose's is float32


@pytest.mark.parametrize("seed", range(5))
def test_aji_equals_cellposes_where_cells_meet_one_to_one(seed):
    # Cellpose divides by the union of the foregrounds: the same if no mask meets two.
    rng = np.random.default_rng(seed)
    grid = [(y, x) for y in range(12, 90, 25) for x in range(12, 90, 25)]
    true = draw_discs((96, 96), [(y, x, 9) for y, x in grid])
    moved = [(y + rng.integers(-3, 4), x + rng.integers(-3, 4), 8) for y, x in grid]
    pred = draw_discs((96, 96), [moved[i] for i in rng.permutation(len(grid))[:12]])
    expected = aggregated_jaccard_index([true], [pred])[0]
    assert 0.2 < expected < 0.95
    assert of(measure_aji, true, pred) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_scores_equal_their_definitions(seed, noise):
    labels_true, labels_pred = similar_pair(seed, (30, 34), 30, noise)
    pair = labels_true, labels_pred
    assert of(measure_aji, *pair) == pytest.approx(aggregated_jaccard(*pair))
    assert of(MEASURES["pq"], *pair) == pytest.approx(panoptic_quality(*pair))
    assert of(measure_instance_dice, *pair) == pytest.approx(object_dice(*pair))


def test_aji_lets_two_cells_take_one_prediction():
    true = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 3, 3]])
    pred = np.array([[5, 5, 5, 5, 5, 5, 5, 5, 0, 0]])
    # Cell 1 takes 4 of a union of 8, cell 2 takes 3 of 8, cell 3 nothing of 2.
    assert of(measure_aji, true, pred) == pytest.approx(7 / 18)


def test_aji_counts_what_no_cell_took():
    true = np.array([[1, 1, 1, 1, 0, 0, 0, 0]])
    pred = np.array([[1, 1, 1, 2, 2, 0, 3, 3]])
    assert of(measure_aji, true, pred) == pytest.approx(3 / (4 + 2 + 2))


def test_panoptic_quality_by_hand():
    true = np.array([[1, 1, 1, 1, 2, 2, 0, 3, 3]])
    pred = np.array([[1, 1, 1, 0, 4, 4, 4, 0, 5]])
    # IoU 3/4 and 2/3 match; 1/2 does not: it is not above.
    found = measure_panoptic_quality(measure_overlaps(true, pred))
    assert found.sq == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert found.rq == pytest.approx(2 / 3)
    assert found.pq == pytest.approx(found.sq * found.rq)


def test_instance_dice_by_hand():
    true = np.array([[1, 1, 1, 1, 0, 0]])
    pred = np.array([[1, 1, 0, 0, 2, 2]])
    # The cell: 2 * 2 / 6. The predictions, two of equal area: 2/3 and 0.
    assert of(measure_instance_dice, true, pred) == pytest.approx((2 / 3 + 1 / 3) / 2)


@pytest.mark.parametrize("name", MEASURES)
def test_names_of_instances_do_not_matter(name):
    for seed in range(6):
        labels_true, labels_pred = similar_pair(seed, noise=0.3)
        renamed = permute_ids(labels_true, seed), permute_ids(labels_pred, seed + 1)
        expected = of(MEASURES[name], labels_true, labels_pred)
        assert of(MEASURES[name], *renamed) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_an_image_agrees_with_itself(name):
    labels, _ = similar_pair(2)
    assert of(MEASURES[name], labels, permute_ids(labels)) == pytest.approx(1)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_scores_are_symmetric_where_they_should_be(name):
    labels_true, labels_pred = similar_pair(4, noise=0.3)
    forth = of(MEASURES[name], labels_true, labels_pred)
    assert 0 < forth < 1
    assert of(MEASURES[name], labels_pred, labels_true) == pytest.approx(forth)


@pytest.mark.parametrize("name", MEASURES)
def test_empty_images_score_nothing(name):
    empty, one = np.zeros((5, 5), int), np.eye(5, dtype=int)
    for pair in ((empty, empty), (one, empty), (empty, one)):
        assert of(MEASURES[name], *pair) == 0
