import numpy as np
import pytest

from eval.intervals import bootstrap
from eval.ranks import adjust_holm, compare_signed_ranks


def test_the_interval_of_a_mean_is_that_of_normal_theory():
    scores = np.random.default_rng(0).normal(0.6, 0.2, 400)
    found = bootstrap(scores)
    half = 1.96 * scores.std(ddof=1) / np.sqrt(scores.size)
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(scores.mean() + half, abs=0.15 * half)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [bootstrap(rng.exponential(1.0, 60)) for _ in range(200)]
    covered = np.mean([one.low <= 1 <= one.high for one in intervals])
    assert 0.88 <= covered <= 0.98


def test_intervals_of_medians_and_of_one_score():
    scores = [0.0, 0.9, 0.91, 0.92, 0.93]
    found = bootstrap(scores, np.median)
    assert found.value == 0.91
    assert found.low <= found.value <= found.high <= 0.93
    assert bootstrap([0.4], np.median) == bootstrap([0.4])
    assert (bootstrap([0.4]).low, bootstrap([0.4]).high) == (0.4, 0.4)


def test_the_same_scores_give_the_same_interval_also_in_blocks(monkeypatch):
    scores = np.random.default_rng(2).random(37)
    whole = bootstrap(scores)
    assert bootstrap(scores) == whole
    monkeypatch.setattr("eval.intervals.BLOCK_SIZE", 40)
    assert bootstrap(scores) == whole


def test_no_score_has_no_interval():
    with pytest.raises(ValueError, match="no score"):
        bootstrap([])


def test_signed_ranks_by_hand():
    # Five differences of one sign: 2 of 2^5 sign patterns are as extreme.
    a = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    b = a + np.array([0.01, 0.02, 0.04, 0.08, 0.16])
    assert compare_signed_ranks(a, b) == pytest.approx(2 / 32)
    assert compare_signed_ranks(b, a) == pytest.approx(2 / 32)


def test_unchanged_images_say_nothing():
    a = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    b = a + np.array([0.01, 0.02, 0.04, 0.08, 0.16])
    same = np.linspace(0, 1, 7)
    with_same = compare_signed_ranks(np.append(a, same), np.append(b, same))
    assert with_same == compare_signed_ranks(a, b)
    assert compare_signed_ranks(same, same) == 1
    assert compare_signed_ranks([], []) == 1


def test_scores_must_be_paired():
    with pytest.raises(ValueError, match="paired"):
        compare_signed_ranks([1, 2], [1])


def test_holms_correction_by_hand():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.9, 0.8]) == [1, 1]
    assert adjust_holm([]) == []
