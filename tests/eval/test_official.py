from dataclasses import replace

import numpy as np
import pytest

from eval.matching import MatchCounts
from eval.official import (
    Rules,
    measure_dice,
    remove_border_instances,
    score_labels,
    score_missing,
)
from tests.eval.oracle import random_labels, score, score_in_squares, without_border

QUIRKS = Rules(with_quirks=True)


def numbers(image_score):
    counts = image_score.counts
    return counts.tp, counts.n_true, counts.n_pred


def similar_pair(seed, shape, n_cells=40):
    rng = np.random.default_rng(seed)
    labels_true = random_labels(rng, shape, n_cells)
    noise = random_labels(rng, shape, n_cells)
    return labels_true, np.where(rng.random(shape) < 0.15, noise, labels_true)


@pytest.mark.parametrize("with_quirks", [False, True])
@pytest.mark.parametrize("shape", [(40, 50), (9, 60), (5, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_small_images_equal_the_oracle(seed, shape, with_quirks):
    labels_true, labels_pred = similar_pair(seed, shape)
    found = score_labels(labels_true, labels_pred, Rules(with_quirks=with_quirks))
    assert numbers(found) == score(labels_true, labels_pred)


@pytest.mark.parametrize("shape", [(40, 60), (41, 59), (20, 20), (19, 70)])
@pytest.mark.parametrize("seed", range(3))
def test_slides_are_scored_in_padded_squares(seed, shape):
    labels_true, labels_pred = similar_pair(seed, shape, n_cells=60)
    found = score_labels(labels_true, labels_pred, Rules(slide_px=shape[0] * shape[1], roi_px=20))
    assert numbers(found) == score_in_squares(labels_true, labels_pred, 20)


def test_the_size_threshold_is_inclusive():
    labels = np.zeros((10, 10), int)
    labels[4:6, 4:6] = 1  # crosses the line between squares of 5 px
    assert score_labels(labels, labels, Rules(slide_px=101, roi_px=5)).counts.tp == 1
    assert score_labels(labels, labels, Rules(slide_px=100, roi_px=5)).counts.tp == 0


@pytest.mark.parametrize("border_px", [0, 1, 2])
def test_border_removal_equals_the_oracle(border_px):
    labels = random_labels(np.random.default_rng(0), (25, 31), 30)
    before = labels.copy()
    inner = remove_border_instances(labels, border_px)
    np.testing.assert_array_equal(inner, without_border(labels, border_px))
    np.testing.assert_array_equal(labels, before)


def test_a_missed_image_reports_no_missed_cell_only_with_quirks():
    labels_true = np.zeros((20, 20), int)
    labels_true[5:9, 5:9] = 3
    empty = np.zeros_like(labels_true)
    assert score_labels(labels_true, empty, QUIRKS).fn_reported == 0
    assert score_labels(labels_true, empty, QUIRKS).counts == MatchCounts(fn=1)
    assert score_missing(labels_true).fn_reported == 1


def test_ids_of_a_slide_wrap_around_only_with_quirks():
    labels_true = np.zeros((20, 20), np.uint8)
    labels_true[3:6, 3:6], labels_true[12:15, 12:15] = 1, 2
    labels_pred = labels_true.astype(np.int32)
    labels_pred[labels_pred == 2] = 257  # becomes 1 in uint8: both cells merge
    rules = Rules(slide_px=1, roi_px=20)
    assert numbers(score_labels(labels_true, labels_pred, rules)) == (2, 2, 2)
    assert numbers(score_labels(labels_true, labels_pred, replace(rules, with_quirks=True))) == (
        1,
        2,
        1,
    )


def test_ids_that_wrap_to_negative_fail_with_quirks():
    labels_true = np.zeros((20, 20), np.int16)
    labels_pred = np.zeros((20, 20), np.uint16)
    labels_pred[:3, :3] = 40000
    rules = Rules(slide_px=1, roi_px=20)
    assert numbers(score_labels(labels_true, labels_pred, rules)) == (0, 0, 0)
    with pytest.raises(ValueError, match="negative"):
        score_labels(labels_true, labels_pred, Rules(slide_px=1, roi_px=20, with_quirks=True))


def test_a_tiny_full_image_keeps_its_lowest_id_only_with_quirks():
    labels = np.array([[5, 5, 6], [5, 6, 6]])
    assert numbers(score_labels(labels, labels)) == (0, 0, 0)
    assert numbers(score_labels(labels, labels, QUIRKS)) == (1, 1, 1)


def test_dice_counts_cells_at_the_border():
    left = np.zeros((4, 4), bool)
    left[:, :2] = True
    assert measure_dice(left, left) == 1
    assert measure_dice(left, ~left) == 0
    assert measure_dice(left & False, left & False) == 1
    assert measure_dice(left, np.ones_like(left)) == pytest.approx(2 / 3)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        score_labels(np.zeros((3, 3), int), np.zeros((3, 4), int))
    with pytest.raises(ValueError, match="one shape"):
        score_labels(np.zeros((3, 3, 1), int), np.zeros((3, 3, 1), int))
