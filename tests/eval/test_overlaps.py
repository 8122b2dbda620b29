import numpy as np
import pytest

from eval.overlaps import join_overlaps, measure_overlaps
from tests.eval.oracle import ids_of, permute_ids, random_labels


def pairs_of(overlaps):
    """Map (true id, predicted id) to (area, area, shared)."""
    return {
        (int(overlaps.id_true[t]), int(overlaps.id_pred[p])): (
            int(overlaps.area_true[t]),
            int(overlaps.area_pred[p]),
            int(shared),
        )
        for t, p, shared in zip(overlaps.true, overlaps.pred, overlaps.shared, strict=True)
    }


def slow_pairs(labels_true, labels_pred):
    pairs = {}
    for t in ids_of(labels_true):
        for p in ids_of(labels_pred):
            a, b = labels_true == t, labels_pred == p
            if (a & b).any():
                pairs[int(t), int(p)] = (int(a.sum()), int(b.sum()), int((a & b).sum()))
    return pairs


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (23, 31)])
def test_the_table_equals_counting_by_masks(shape, dtype):
    rng = np.random.default_rng(5)
    labels_true = random_labels(rng, shape, 25, n_ids=100).astype(dtype)
    labels_pred = random_labels(rng, shape, 25, n_ids=100).astype(dtype)
    overlaps = measure_overlaps(labels_true, labels_pred)
    assert pairs_of(overlaps) == slow_pairs(labels_true, labels_pred)
    assert overlaps.n_true == len(ids_of(labels_true))
    assert overlaps.n_pred == len(ids_of(labels_pred))


def test_sparse_ids_give_the_same_table():
    rng = np.random.default_rng(6)
    labels_true, labels_pred = (random_labels(rng, (20, 30), 20) for _ in range(2))
    far_true, far_pred = permute_ids(labels_true), permute_ids(labels_pred)
    assert pairs_of(measure_overlaps(far_true, far_pred)) == slow_pairs(far_true, far_pred)


def test_ignored_ids_are_background():
    rng = np.random.default_rng(7)
    labels_true, labels_pred = (random_labels(rng, (20, 30), 20) for _ in range(2))
    ignored_true, ignored_pred = ids_of(labels_true)[::3], ids_of(labels_pred)[1::2]
    found = measure_overlaps(
        labels_true, labels_pred, np.array(ignored_true), np.array(ignored_pred)
    )
    assert pairs_of(found) == slow_pairs(
        np.where(np.isin(labels_true, ignored_true), 0, labels_true),
        np.where(np.isin(labels_pred, ignored_pred), 0, labels_pred),
    )


def test_joined_regions_keep_their_instances_apart():
    labels = np.array([[1, 1, 0, 2]])
    other = np.array([[1, 0, 3, 3]])
    joined = join_overlaps([measure_overlaps(labels, other), measure_overlaps(labels, other)])
    assert (joined.n_true, joined.n_pred) == (4, 4)
    assert joined.area_true.tolist() == [2, 1, 2, 1]
    assert list(zip(joined.true, joined.pred, joined.shared, strict=True)) == [
        (0, 0, 1),
        (1, 1, 1),
        (2, 2, 1),
        (3, 3, 1),
    ]
    assert join_overlaps([]).n_true == 0


def test_views_and_columns_are_read_in_place():
    labels = random_labels(np.random.default_rng(1), (30, 30), 20)
    view = labels[::2, 5:25]
    assert pairs_of(measure_overlaps(view, view.T.copy().T)) == slow_pairs(view, view)
