"""Which images are shown, what is said of their cells, and whether the outlines are theirs."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from eval.errors import count_errors
from eval.matching import MatchCounts
from eval.official import Rules
from eval.overlaps import measure_overlaps
from eval.pairs import Pair
from eval.report_examples import (
    PER_DATASET,
    FileIndex,
    Files,
    choose_examples,
    index_files,
    judge_instances,
    pair_pictures,
    stem_of,
)
from eval.report_overlays import encode_picture, trace_outlines
from eval.run_file import ErrorCounts, Run, RunImage
from tests.cells import draw_discs


def image_of(name, tp, fp, fn, dataset="one", problem=""):
    counts = {"0.5": MatchCounts(tp, fp, fn)}
    scores = dict.fromkeys(("dice", "inst_dice", "aji", "pq", "sq", "ap"), 0.5)
    return RunImage(
        name, "phase", dataset, 9, 9, problem, counts, **scores, errors=ErrorCounts(), sizes=()
    )


def run_of(*images):
    return Run("now", "abc", "system", Rules(), (0.5,), images, (), ())


def names_of(examples, is_worst):
    return [example.image.name for example in examples if example.is_worst == is_worst]


def test_the_worst_have_most_errors_and_the_best_most_cells():
    run = run_of(
        image_of("good", 9, 1, 1),
        image_of("perfect, one cell", 1, 0, 0),
        image_of("perfect, many", 30, 0, 0),
        image_of("nothing found", 0, 0, 2),
        image_of("nothing right", 0, 20, 20),
        image_of("fair", 5, 5, 5),
    )
    examples = choose_examples(run, 2)
    assert names_of(examples, True) == ["nothing right", "nothing found"]
    assert names_of(examples, False) == ["perfect, many", "perfect, one cell"]


def test_no_image_is_shown_twice_and_few_of_a_data_set_come_first():
    bad = [image_of(f"bad {i}", 0, 0, 9 - i) for i in range(PER_DATASET + 2)]
    run = run_of(
        *bad,
        image_of("other", 1, 1, 1, "two"),
        *(image_of(f"fine {i}", 9, 0, 0, "three") for i in range(5)),
    )
    worst = names_of(choose_examples(run, PER_DATASET + 1), True)
    assert worst == [*(f"bad {i}" for i in range(PER_DATASET)), "other"]
    everything = choose_examples(run, 100)
    names = [example.image.name for example in everything]
    assert len(set(names)) == len(names) == len(run.images)


def test_images_without_prediction_or_cells_are_not_shown():
    run = run_of(
        image_of("a", 1, 0, 0),
        image_of("b", 0, 0, 5, problem="no prediction"),
        image_of("empty", 0, 0, 0),
    )
    assert [e.image.name for e in choose_examples(run, 5)] == ["a"]
    assert choose_examples(run_of(), 5) == []


def test_every_kind_of_verdict_is_told_apart():
    true = draw_discs(
        (120, 160),
        [
            (20, 20, 9),
            (20, 60, 9),
            (60, 30, 14),
            (60, 90, 8),
            (60, 112, 8),
            (100, 40, 8),
            (0, 140, 6),
        ],
    )
    pred = np.zeros_like(true)
    pred[true == 1] = 10  # matched
    split = true == 3
    pred[split] = 30
    pred[split & (np.arange(160) >= 25)] = 31
    pred[split & (np.arange(160) >= 35)] = 32  # three parts, none of them half of the cell
    pred[52:69, 82:121] = 40  # over 4 and 5
    pred[95:106, 120:131] = 50  # nothing there
    pred[0:4, 20:30] = 60  # at the border
    found = judge_instances(true, pred, border_px=2, iou_min=0.5)
    assert found.true == {
        "matched": {1},
        "missed": {2, 6},
        "split": {3},
        "swallowed": {4, 5},
        "unscored": {7},
    }
    assert found.pred == {
        "matched": {10},
        "invented": {50},
        "merged": {40},
        "fragment": {30, 31, 32},
        "unscored": {60},
    }


@pytest.mark.parametrize("seed", range(5))
def test_verdicts_are_a_partition_and_agree_with_the_run(seed):
    rng = np.random.default_rng(seed)
    discs = [(*rng.integers(0, 100, 2), rng.integers(2, 12)) for _ in range(40)]
    moved = [(y + rng.integers(-4, 5), x, r) for y, x, r in discs[5:]] + discs[:2]
    true, pred = draw_discs((100, 100), discs), draw_discs((100, 100), moved)
    found = judge_instances(true, pred, border_px=0, iou_min=0.5)
    for labels, sides in ((true, found.true), (pred, found.pred)):
        ids = [i for kind in sides.values() for i in kind]
        assert sorted(ids) == sorted(set(np.unique(labels).tolist()) - {0})
    expected = count_errors(measure_overlaps(true, pred))
    counts = [
        len(found.true["split"]),
        len(found.pred["merged"]),
        len(found.true["missed"]),
        len(found.pred["invented"]),
    ]
    assert counts == [expected.split, expected.merged, expected.missed, expected.invented]


def polygons_of(path):
    """Read path data back: closed polygons of absolute points in half pixels."""
    for first, steps in re.findall(r"M(-?\d+ -?\d+)l([-\d ]+)z", path):
        start = np.array(first.split(), int)
        moves = np.array(steps.split(), int).reshape(-1, 2)
        yield np.vstack([start, start + moves.cumsum(axis=0)]).astype(np.int32)


def test_outlines_enclose_their_instances():
    labels = draw_discs((80, 100), [(20, 20, 12), (40, 70, 18), (70, 10, 4), (2, 98, 6)])
    path = trace_outlines(labels, [1, 2, 4])
    drawn = np.zeros((160, 200), np.uint8)
    polygons = list(polygons_of(path))
    cv2.fillPoly(drawn, polygons, 1)
    wanted = np.repeat(np.repeat(np.isin(labels, [1, 2, 4]), 2, axis=0), 2, axis=1)
    assert len(polygons) == 3
    assert (drawn.astype(bool) & wanted).sum() / (drawn.astype(bool) | wanted).sum() > 0.95


def test_outlines_of_single_pixels_and_of_nothing():
    labels = np.zeros((5, 5), int)
    labels[3, 2] = 7
    (polygon,) = polygons_of(trace_outlines(labels, [7]))
    assert polygon.min(axis=0).tolist() == [4, 6]
    assert polygon.max(axis=0).tolist() == [5, 7]
    assert trace_outlines(labels, []) == trace_outlines(labels, [3]) == ""


def test_a_cell_in_two_pieces_has_two_outlines():
    labels = np.zeros((20, 20), int)
    labels[2:6, 2:6] = labels[12:18, 12:18] = 1
    assert len(list(polygons_of(trace_outlines(labels, [1])))) == 2


def test_pictures_are_small_and_of_the_right_size():
    url, width, height = encode_picture(np.full((40, 70, 3), 2.0))
    assert url.startswith("data:image/webp;base64,UklGR")
    assert (width, height) == (70, 40)
    assert len(url) < 1000


@pytest.mark.parametrize(
    "name", ["a.png", "a_label.tiff", "a.b.tif", "phase/one/a_label.tiff", "a"]
)
def test_one_image_has_one_stem(name):
    assert stem_of(name) == "a"


def test_files_are_found_by_group_and_never_guessed():
    pairs = [
        Pair("phase/one/a_label.tiff", "a.png", Path("t1"), Path("p1"), "phase", "one"),
        Pair("phase/two/a_label.tiff", "a.png", Path("t2"), Path("p2"), "phase", "two"),
        Pair("b_label.tiff", "b.png", Path("t3"), None),
    ]
    index = index_files(pairs, {Path("t1"): Path("i1")})
    image = image_of("a.png", 1, 0, 0)
    assert index.find(image) == Files(Path("i1"), Path("t1"), Path("p1"))
    assert index.find(replace(image, dataset="two")) == Files(None, Path("t2"), Path("p2"))
    assert index.find(replace(image, dataset="three")) is None
    assert index.find(replace(image, name="b.tif", dataset="")) == Files(None, Path("t3"), None)
    assert index.find(replace(image, name="c.tif")) is None
    assert FileIndex().find(image) is None


def test_pictures_lie_flat_or_beside_their_labels(tmp_path):
    for name in (
        "gt/x/a_label.tif",
        "gt/y/a_label.tif",
        "gt/b.png",
        "images/x/a.jpg",
        "images/y/a.PNG",
        "images/deep/b.tif",
        "images/x/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    gt, images = tmp_path / "gt", tmp_path / "images"
    truths = sorted(path for path in gt.rglob("*") if path.is_file())
    found = pair_pictures(truths, gt, images)
    shown = {
        t.relative_to(gt).as_posix(): p.relative_to(images).as_posix() for t, p in found.items()
    }
    assert shown == {"b.png": "deep/b.tif", "x/a_label.tif": "x/a.jpg", "y/a_label.tif": "y/a.PNG"}
