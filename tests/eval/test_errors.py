from dataclasses import astuple

import numpy as np
import pytest

from eval.errors import count_errors, find_errors
from eval.overlaps import measure_overlaps
from eval.run_file import ErrorCounts
from tests.eval import oracle
from tests.eval.oracle import permute_ids, similar_pair


def errors_of(labels_true, labels_pred):
    return count_errors(measure_overlaps(np.array(labels_true), np.array(labels_pred)))


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        pytest.param([[1, 1, 1, 1]], [[1, 1, 1, 1]], ErrorCounts(), id="perfect"),
        pytest.param([[1, 1, 1, 1]], [[1, 1, 2, 2]], ErrorCounts(split=1), id="halved"),
        pytest.param([[1, 1, 1, 1]], [[1, 1, 1, 2]], ErrorCounts(split=1), id="fragment"),
        pytest.param([[1, 1, 2, 2]], [[9, 9, 9, 9]], ErrorCounts(merged=1), id="merged"),
        pytest.param([[1, 1, 0, 0]], [[0, 0, 0, 0]], ErrorCounts(missed=1), id="missed"),
        pytest.param([[0, 0, 0, 0]], [[0, 3, 3, 0]], ErrorCounts(invented=1), id="invented"),
        pytest.param(
            [[1, 1, 1, 0, 0, 0]],
            [[0, 0, 4, 4, 4, 4]],
            ErrorCounts(missed=1, invented=1),
            id="too far off",
        ),
        pytest.param(
            [[1, 1, 1, 1, 2, 2, 2, 2, 3, 3]],
            [[5, 5, 6, 6, 7, 7, 7, 7, 7, 7]],
            ErrorCounts(split=1, merged=1),
            id="split beside merged",
        ),
    ],
)
def test_kinds_by_hand(true, pred, expected):
    assert errors_of(true, pred) == expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_kinds_equal_their_definition(seed, noise):
    labels_true, labels_pred = similar_pair(seed, (30, 34), 30, noise)
    expected = oracle.count_errors(labels_true, labels_pred)
    assert astuple(errors_of(labels_true, labels_pred)) == expected


def test_exchanging_truth_and_prediction_exchanges_the_kinds():
    labels_true, labels_pred = similar_pair(1, noise=0.4)
    forth, back = errors_of(labels_true, labels_pred), errors_of(labels_pred, labels_true)
    assert (back.split, back.merged) == (forth.merged, forth.split)
    assert (back.missed, back.invented) == (forth.invented, forth.missed)
    assert forth.missed


def test_names_of_instances_do_not_matter():
    labels_true, labels_pred = similar_pair(2, noise=0.4)
    renamed = errors_of(permute_ids(labels_true), permute_ids(labels_pred, 1))
    assert renamed == errors_of(labels_true, labels_pred)


def test_instances_are_told():
    overlaps = measure_overlaps(np.array([[1, 1, 0, 7]]), np.array([[3, 3, 9, 0]]))
    found = find_errors(overlaps)
    assert overlaps.id_true[found.missed].tolist() == [7]
    assert overlaps.id_pred[found.invented].tolist() == [9]
