from dataclasses import replace

import numpy as np
import pytest

from eval.label_files import ArrayLabels
from eval.matching import MatchCounts
from eval.official import Rules, find_border_ids, score_labels, score_missing
from tests.eval.oracle import (
    permute_ids,
    random_labels,
    score,
    score_in_squares,
    similar_pair,
    without_border,
)

QUIRKS = Rules(with_quirks=True)


def numbers(image_score, iou_min=0.5):
    counts = image_score.counts(iou_min)
    return counts.tp, counts.n_true, counts.n_pred


@pytest.mark.parametrize("with_quirks", [False, True])
@pytest.mark.parametrize("shape", [(40, 50), (9, 60), (5, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_small_images_equal_the_oracle(seed, shape, with_quirks):
    labels_true, labels_pred = similar_pair(seed, shape)
    found = score_labels(labels_true, labels_pred, Rules(with_quirks=with_quirks))
    for iou_min in (0.3, 0.5, 0.8):
        assert numbers(found, iou_min) == score(labels_true, labels_pred, iou_min)


@pytest.mark.parametrize("shape", [(40, 60), (41, 59), (20, 20), (19, 70)])
@pytest.mark.parametrize("seed", range(3))
def test_slides_are_scored_in_padded_squares(seed, shape):
    labels_true, labels_pred = similar_pair(seed, shape, n_cells=60)
    found = score_labels(labels_true, labels_pred, Rules(slide_px=shape[0] * shape[1], roi_px=20))
    assert numbers(found) == score_in_squares(labels_true, labels_pred, 20)


def test_the_size_threshold_is_inclusive():
    labels = np.zeros((10, 10), int)
    labels[4:6, 4:6] = 1  # crosses the line between squares of 5 px
    assert score_labels(labels, labels, Rules(slide_px=101, roi_px=5)).counts().tp == 1
    assert score_labels(labels, labels, Rules(slide_px=100, roi_px=5)).counts().tp == 0


@pytest.mark.parametrize("border_px", [0, 1, 2])
def test_border_removal_equals_the_oracle(border_px):
    labels = random_labels(np.random.default_rng(0), (25, 31), 30)
    inner = np.where(np.isin(labels, find_border_ids(labels, border_px)), 0, labels)
    np.testing.assert_array_equal(inner, without_border(labels, border_px))


def test_a_frame_larger_than_the_image_has_no_lower_right_border():
    labels = np.arange(1, 37).reshape(6, 6)
    assert set(find_border_ids(labels, 1, (8, 8))) == {*labels[0], *labels[:, 0]}
    assert set(find_border_ids(labels, 1, (6, 8))) == {*labels[0], *labels[:, 0], *labels[-1]}


def test_a_missed_image_reports_no_missed_cell_only_with_quirks():
    labels_true = np.zeros((20, 20), int)
    labels_true[5:9, 5:9] = 3
    empty = np.zeros_like(labels_true)
    with_quirks = score_labels(labels_true, empty, QUIRKS)
    assert (with_quirks.counts(), with_quirks.n_unreported) == (MatchCounts(fn=1), 1)
    honest = score_missing(ArrayLabels(labels_true))
    assert (honest.counts(), honest.n_unreported) == (MatchCounts(fn=1), 0)


def test_only_squares_without_prediction_are_unreported():
    labels_true = np.zeros((20, 40), int)
    labels_true[5:9, 5:9], labels_true[5:9, 25:29], labels_true[12:15, 12:15] = 1, 2, 3
    labels_pred = np.where(labels_true == 1, 7, 0)
    found = score_labels(labels_true, labels_pred, Rules(slide_px=1, roi_px=20, with_quirks=True))
    assert (found.counts(), found.n_unreported) == (MatchCounts(tp=1, fn=2), 1)


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


@pytest.mark.parametrize("rules", [Rules(), Rules(slide_px=1, roi_px=3)])
def test_dice_counts_cells_at_the_border(rules):
    left = np.zeros((4, 4), int)
    left[:, :2] = 9
    right, none, full = np.where(left, 0, 4), np.zeros_like(left), np.ones_like(left)
    assert score_labels(left, left, rules).dice == 1
    assert score_labels(left, right, rules).dice == 0
    assert score_labels(none, none, rules).dice == 1
    assert score_labels(left, none, rules).dice == 0
    assert score_labels(left, full, rules).dice == pytest.approx(2 / 3)


@pytest.mark.parametrize("rules", [Rules(), Rules(slide_px=1, roi_px=16)])
def test_names_of_instances_do_not_matter(rules):
    labels_true, labels_pred = similar_pair(3, (40, 60), 60)
    renamed = score_labels(permute_ids(labels_true), permute_ids(labels_pred, 1), rules)
    assert numbers(renamed) == numbers(score_labels(labels_true, labels_pred, rules))


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (1, 1), (3, 40)])
@pytest.mark.parametrize("rules", [Rules(), QUIRKS, Rules(border_px=0), Rules(slide_px=1)])
def test_the_smallest_images(shape, rules):
    labels = np.zeros(shape, np.uint16)
    assert score_labels(labels, labels, rules).counts() == MatchCounts()
    assert score_labels(labels, labels, rules).dice == 1


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        score_labels(np.zeros((3, 3), int), np.zeros((3, 4), int))
    with pytest.raises(ValueError, match=r"must be \(Y, X\)"):
        score_labels(np.zeros((3, 3, 1), int), np.zeros((3, 3, 1), int))
