import numpy as np
import pytest

from eval.matching import MatchCounts, match_instances
from tests.eval.oracle import count_matches, permute_ids, random_labels, similar_pair


@pytest.mark.parametrize("iou_min", [0.1, 0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_counts_equal_the_dense_assignment(seed, iou_min):
    rng = np.random.default_rng(seed)
    labels_true = random_labels(rng, (30, 41), 25)
    moved = np.roll(labels_true, rng.integers(0, 3), axis=1)
    labels_pred = np.where(rng.random(moved.shape) < 0.2, random_labels(rng, (30, 41), 25), moved)
    counts = match_instances(labels_true, labels_pred, iou_min)
    assert (counts.tp, counts.n_true, counts.n_pred) == count_matches(
        labels_true, labels_pred, iou_min
    )


def test_low_threshold_needs_a_chain_of_reassignments():
    # At 0.3 both predictions fit the first truth, only one of them the second: greedy loses one.
    labels_true = np.array([[1] * 6 + [2] * 4])
    labels_pred = np.array([[1] * 3 + [2] * 5 + [0] * 2])
    counts = match_instances(labels_true, labels_pred, 0.25)
    assert counts == MatchCounts(tp=2, fp=0, fn=0)
    assert counts.tp == count_matches(labels_true, labels_pred, 0.25)[0]


def test_half_overlap_counts_and_only_once():
    labels_true = np.array([[7, 7, 7, 7]])
    labels_pred = np.array([[1, 1, 2, 2]])
    assert match_instances(labels_true, labels_pred) == MatchCounts(tp=1, fp=1, fn=0)


def test_empty_images():
    empty, one = np.zeros((4, 5), int), np.eye(4, 5, dtype=int)
    assert match_instances(empty, empty) == MatchCounts()
    assert match_instances(one, empty) == MatchCounts(fn=1)
    assert match_instances(empty, one) == MatchCounts(fp=1)
    assert match_instances(np.zeros((0, 5), int), np.zeros((0, 5), int)).f1 == 0


def test_huge_ids_cost_no_memory():
    labels_true = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    labels_pred = np.array([[0, 9, 2**40]], np.int64)
    assert match_instances(labels_true, labels_pred) == MatchCounts(tp=2)


def test_f1_is_the_harmonic_mean():
    counts = MatchCounts(tp=3, fp=1, fn=2) + MatchCounts(tp=1, fp=0, fn=1)
    assert counts == MatchCounts(tp=4, fp=1, fn=3)
    assert counts.f1 == pytest.approx(8 / 12)
    assert MatchCounts(fp=3, fn=2).f1 == 0


@pytest.mark.parametrize(
    ("labels_true", "labels_pred", "iou_min", "words"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), 0.5, "one shape"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), 0.5, "integers"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), 0.5, "negative"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), 0.0, "iou_min"),
    ],
)
def test_wrong_input_is_named(labels_true, labels_pred, iou_min, words):
    with pytest.raises(ValueError, match=words):
        match_instances(labels_true, labels_pred, iou_min)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_min", [0.3, 0.5, 0.8])
def test_names_of_instances_do_not_matter(seed, iou_min):
    labels_true, labels_pred = similar_pair(seed)
    assert match_instances(
        permute_ids(labels_true, seed), permute_ids(labels_pred, seed + 1), iou_min
    ) == match_instances(labels_true, labels_pred, iou_min)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_min", [0.3, 0.5, 0.8])
def test_exchanging_truth_and_prediction_exchanges_fp_and_fn(seed, iou_min):
    labels_true, labels_pred = similar_pair(seed)
    counts = match_instances(labels_true, labels_pred, iou_min)
    assert match_instances(labels_pred, labels_true, iou_min) == MatchCounts(
        tp=counts.tp, fp=counts.fn, fn=counts.fp
    )


def test_an_image_matches_itself_at_any_threshold():
    labels, _ = similar_pair(0)
    for iou_min in (0.1, 0.5, 1.0):
        counts = match_instances(labels, permute_ids(labels), iou_min)
        assert (counts.f1, counts.jaccard, counts.fp, counts.fn) == (1, 1, 0, 0)


def test_a_higher_threshold_never_matches_more():
    labels_true, labels_pred = similar_pair(1)
    tp = [match_instances(labels_true, labels_pred, t / 20).tp for t in range(1, 21)]
    assert tp == sorted(tp, reverse=True)
    assert tp[0] > tp[-1]
