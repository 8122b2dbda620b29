"""One bad pair never spoils a run, and the exit code tells."""

import csv
import shutil
from functools import partial

import numpy as np
import pytest
import tifffile
from PIL import Image

from eval.f1 import main
from eval.label_files import read_label_image
from eval.official import Rules
from eval.run_file import read_run
from imaging.reading import ImageError

LABELS = np.zeros((40, 50), np.uint16)
LABELS[5:15, 5:15], LABELS[20:30, 20:30] = 1, 2


def write(path, labels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(labels).save(path)
    else:
        tifffile.imwrite(path, labels, **({"compression": "zlib"} | options))


def write_truncated(path):
    write(path, np.random.default_rng(0).integers(0, 99, LABELS.shape, np.int32))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def write_text(path):
    path.write_bytes(b"not an image")


def write_empty(path):
    path.write_bytes(b"")


def write_rgb(path):
    write(path, np.stack([LABELS.astype(np.uint8)] * 3, axis=2), photometric="rgb")


def write_fractions(path):
    write(path, LABELS.astype(np.float32) / 2)


def write_negative(path):
    write(path, LABELS.astype(np.int32) - 1)


def write_complex(path):
    write(path, LABELS.astype(np.complex64))


BAD = {
    "truncated": (write_truncated, "truncated|cannot be"),
    "text": (write_text, "not a PNG"),
    "empty": (write_empty, "empty"),
    "RGB": (write_rgb, "colours"),
    "fractions": (write_fractions, "fractions"),
    "negative": (write_negative, "negative"),
    "complex": (write_complex, "complex|not supported"),
}


@pytest.fixture
def folders(tmp_path):
    """A good pair and, to be replaced, another one."""
    gt, seg = tmp_path / "gt", tmp_path / "seg"
    for name in ("good", "other"):
        write(gt / f"{name}.tif", LABELS)
        write(seg / f"{name}_label.tiff", LABELS)
    return gt, seg


def run_of(folders, *options):
    gt, seg = folders
    out = seg.parent / "run.json"
    code = main(["-g", str(gt), "-s", str(seg), "--json", str(out), *options])
    return code, read_run(out)


def f1_of(run):
    return {image.name: image.f1_at(0.5) for image in run.images}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_prediction_scores_nothing(folders, kind, caplog):
    write_bad, words = BAD[kind]
    write_bad(folders[1] / "other_label.tiff")
    code, run = run_of(folders)
    assert code == 1
    assert f1_of(run) == {"good.tif": 1, "other.tif": 0}
    problem = run.images[1].problem
    assert any(word in problem for word in words.split("|"))
    assert problem in caplog.text
    assert run.summary("all").n_missing == 1


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_prediction_is_left_out_as_the_organisers_do(folders, kind):
    BAD[kind][0](folders[1] / "other_label.tiff")
    code, run = run_of(folders, "--as-organisers")
    assert code == 1
    assert f1_of(run) == {"good.tif": 1}
    assert [one.name for one in run.unscored] == ["other.tif"]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_truth_is_named_and_left_out(folders, kind, caplog):
    write_bad, words = BAD[kind]
    write_bad(folders[0] / "other.tif")
    code, run = run_of(folders)
    assert code == 1
    assert f1_of(run) == {"good.tif": 1}
    (left_out,) = run.unscored
    assert left_out.name == "other.tif"
    assert left_out.problem.startswith("true labels: ")
    assert any(word in left_out.problem for word in words.split("|"))
    assert "other_label.tiff: left out" in caplog.text
    assert run.summary("all").n_images == 1


def test_a_bad_truth_without_prediction_is_left_out_too(folders):
    write_text(folders[0] / "other.tif")
    (folders[1] / "other_label.tiff").unlink()
    code, run = run_of(folders)
    assert (code, f1_of(run)) == (1, {"good.tif": 1})


def test_other_shapes_are_told(folders):
    write(folders[1] / "other_label.tiff", LABELS.T.copy())
    code, run = run_of(folders)
    assert code == 1
    assert "40 x 50 px (true) and 50 x 40 px (predicted)" in run.images[1].problem


def test_nothing_but_bad_truths_leaves_no_mean(folders):
    for name in ("good", "other"):
        write_text(folders[0] / f"{name}.tif")
    code, run = run_of(folders)
    assert (code, run.images, run.summaries) == (1, (), ())


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(np.uint8, ".png"), (np.uint16, ".png")]
    + [
        (dtype, ".tif")
        for dtype in (bool, np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64)
    ],
)
def test_whole_numbers_of_any_type_are_labels(folders, dtype, suffix):
    gt, _ = folders
    (gt / "other.tif").unlink()
    labels = (LABELS > 0).astype(dtype) if dtype is bool else LABELS.astype(dtype)
    write(gt / f"other{suffix}", labels)
    code, run = run_of(folders)
    counts = {image.name: image.counts_at(0.5) for image in run.images}[f"other{suffix}"]
    assert code == 0
    assert counts.n_true == (1 if dtype is bool else 2)


def test_gaps_and_large_ids_are_labels(folders):
    wide = LABELS.astype(np.uint32)
    write(folders[1] / "other_label.tiff", np.where(LABELS == 2, 70_000, wide * 9))
    write(folders[0] / "other.tif", np.where(LABELS == 2, 2**31 + 7, wide))
    code, run = run_of(folders)
    assert (code, f1_of(run)["other.tif"]) == (0, 1)


def test_large_ids_wrap_only_as_the_organisers_do(folders, monkeypatch):
    # 65 537 is 1 in uint16: both cells become one.
    monkeypatch.setattr("eval.f1.Rules", partial(Rules, slide_px=1))
    write(folders[1] / "other_label.tiff", np.where(LABELS == 2, 65_537, LABELS.astype(np.int32)))
    assert f1_of(run_of(folders)[1])["other.tif"] == 1
    assert f1_of(run_of(folders, "--as-organisers")[1])["other.tif"] == 0.6667


@pytest.mark.parametrize(
    ("empty_truth", "empty_prediction", "counts"),
    [(True, False, (0, 2, 0)), (False, True, (0, 0, 2)), (True, True, (0, 0, 0))],
)
def test_empty_images_are_no_problem(folders, empty_truth, empty_prediction, counts):
    gt, seg = folders
    if empty_truth:
        write(gt / "other.tif", LABELS * 0)
    if empty_prediction:
        write(seg / "other_label.tiff", LABELS * 0)
    code, run = run_of(folders)
    other = run.images[1]
    found = other.counts_at(0.5)
    assert (code, other.f1_at(0.5)) == (0, 0)
    assert (found.tp, found.fp, found.fn) == counts
    assert other.dice == (1 if empty_truth and empty_prediction else 0)


def test_a_system_that_wrote_nothing_scores_nothing(folders):
    gt, seg = folders
    shutil.rmtree(seg)
    seg.mkdir()
    code, run = run_of((gt, seg))
    assert (code, set(f1_of(run).values())) == (1, {0})


def test_a_folder_of_the_wrong_kind_is_refused(folders, tmp_path, caplog):
    gt, seg = folders
    images = tmp_path / "images"
    write(images / "good.png", LABELS)
    empty = tmp_path / "none"
    empty.mkdir()
    for truth, predictions, words in [
        (gt, images, "no prediction for any of 2"),
        (gt, tmp_path / "absent", "no such folder"),
        (gt, gt / "good.tif", "is a file"),
        (tmp_path / "absent", seg, "no such folder"),
        (empty, seg, "no label images"),
    ]:
        caplog.clear()
        assert main(["-g", str(truth), "-s", str(predictions)]) == 2
        assert words in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "0"],
        ["--threshold", "1.5"],
        ["--threshold", "0.5", "0.5"],
        ["--json", "absent/run.json"],
        ["--csv", "absent/scores.csv"],
        ["--seams", "1"],
        ["--index", "absent.csv"],
    ],
)
def test_wrong_usage_exits_with_two(folders, options, caplog):
    gt, seg = folders
    assert main(["-g", str(gt), "-s", str(seg), *options]) == 2
    assert caplog.text


def test_a_file_of_several_planes_is_not_mistaken(folders):
    write(folders[1] / "other_label.tiff", np.stack([LABELS] * 3), photometric="minisblack")
    code, run = run_of(folders)
    assert (code, f1_of(run)["other.tif"]) == (1, 0)


def test_problems_are_in_the_table_too(folders, tmp_path):
    write_text(folders[1] / "other_label.tiff")
    out = tmp_path / "scores.csv"
    run_of(folders, "--csv", str(out))
    with out.open(newline="") as file:
        rows = {row["names"]: (row["true_num"], row["F1"]) for row in csv.DictReader(file)}
    assert rows == {"good_label.tiff": ("2", "1.0"), "other_label.tiff": ("2", "0.0")}


def test_float_ids_must_be_exact(tmp_path):
    write(tmp_path / "a.tif", np.full((4, 4), 2.0**60))
    with pytest.raises(ImageError, match=r"a\.tif"):
        read_label_image(tmp_path / "a.tif")
