from dataclasses import replace

import numpy as np
import pytest
import tifffile

from eval.official import Rules
from eval.pairs import Pair
from eval.run_file import MAX_SIZES, Unscored
from eval.scoring import ScoredImage, Task, score_pair, score_pairs
from tests.eval.oracle import similar_pair


def write_pair(folder, name, labels_true, labels_pred):
    truth, prediction = folder / f"{name}.tif", folder / f"{name}_label.tiff"
    tifffile.imwrite(truth, labels_true)
    tifffile.imwrite(prediction, labels_pred)
    return Pair(prediction.name, truth.name, truth, prediction)


def scored(pair, task=None):
    found = score_pair(pair, task or Task())
    assert isinstance(found, ScoredImage)
    return found


@pytest.fixture
def pairs(tmp_path):
    pairs = [write_pair(tmp_path, f"{i}", *similar_pair(i)) for i in range(6)]
    pairs[2].truth.write_bytes(b"")
    return [*pairs[:4], replace(pairs[4], prediction=None), pairs[5]]


def test_the_number_of_cores_does_not_matter(pairs):
    one, many = (list(score_pairs(pairs, Task(), n_jobs)) for n_jobs in (1, 4))
    assert one == many
    assert [isinstance(found, Unscored) for found in many] == [False, False, True] + [False] * 3
    assert list(score_pairs([], Task())) == []


def test_a_slide_is_scored_like_its_squares_put_together(tmp_path):
    # Read in bands; no instance crosses a line here, so that only the border rule differs.
    labels_true, labels_pred = np.zeros((120, 100), np.int32), np.zeros((120, 100), np.int32)
    for i, y in enumerate(range(5, 120, 20)):
        for j, x in enumerate(range(5, 100, 20)):
            labels_true[y : y + 9, x : x + 9] = 1 + 10 * i + j
            labels_pred[y + i % 3 : y + 9, x : x + 9 - j] = 1 + 10 * i + j
    pair = write_pair(tmp_path, "slide", labels_true, labels_pred)
    whole = scored(pair).image
    squares = scored(pair, Task(rules=Rules(slide_px=1, roi_px=20))).image
    assert squares == whole
    assert 0 < squares.counts_at(0.5).tp < squares.counts_at(0.5).n_true


def test_sizes_are_thinned_evenly_and_counted_completely(tmp_path):
    labels = np.zeros((180, 180), np.int32)
    labels[3:-3, 3:-3] = np.arange(1, 174 * 174 + 1).reshape(174, 174)
    labels[100:170, 100:170] = 1 + np.arange(35 * 35).repeat(2).reshape(35, 70).repeat(2, axis=0)
    ids = np.unique(labels[labels > 0])
    found = scored(write_pair(tmp_path, "many", labels, np.where(labels > 9000, labels, 0)))
    sizes = found.image.sizes
    assert ids.size > 2 * MAX_SIZES
    assert len(sizes) == MAX_SIZES
    share = np.mean([size.found for size in sizes])
    counts = found.image.counts_at(0.5)
    assert share == pytest.approx(counts.recall, abs=0.02)
    assert sum(one.tp for one in found.by_size) == counts.tp
    assert sum(one.fn for one in found.by_size) == counts.fn


def test_sizes_are_those_of_truth_and_of_wrong_predictions(tmp_path):
    labels_true, labels_pred = np.zeros((60, 60), int), np.zeros((60, 60), int)
    labels_true[5:15, 5:15] = labels_pred[5:15, 5:15] = 1  # diameter 11.3, found
    labels_true[30:50, 5:25] = 2  # 22.6, missed
    labels_pred[30:36, 40:46] = 3  # 6.8, invented
    found = scored(write_pair(tmp_path, "a", labels_true, labels_pred))
    bins = {one.low_px: (one.tp, one.fp, one.fn) for one in found.by_size}
    assert {low: counts for low, counts in bins.items() if any(counts)} == {
        0: (0, 1, 0),
        8: (1, 0, 0),
        16: (0, 0, 1),
    }


def test_seams_are_looked_for_only_if_asked(tmp_path):
    labels = np.zeros((64, 64), int)
    labels[20:40, 20:32] = 1
    pair = write_pair(tmp_path, "a", labels, labels)
    assert scored(pair).seams.n == 0
    assert scored(pair, Task(seam_tile_px=32)).seams.n_cut == 1
