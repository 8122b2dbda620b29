import csv
import json

import numpy as np
import pytest
import tifffile

from eval.f1 import main, read_label_image
from eval.tables import CSV_COLUMNS
from imaging.reading import ImageError

INDEX_HEAD = (
    "image,label,modality,expert,dataset,split,height,width,channels,cells,"
    "median_diameter_px,annotated\n"
)


def cells(*boxes, shape=(30, 30), dtype=np.uint16):
    labels = np.zeros(shape, dtype)
    for i, (y, x) in enumerate(boxes, start=1):
        labels[y : y + 5, x : x + 5] = i
    return labels


TWO = cells((4, 4), (15, 15))
ONE = cells((4, 4))


def write(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, labels, compression="zlib")


@pytest.fixture
def folders(tmp_path):
    """Three truths in three spellings; the third has no prediction."""
    gt, seg = tmp_path / "gt", tmp_path / "seg"
    write(gt / "a_label.tiff", TWO)
    write(gt / "b.tif", TWO.astype(np.int16))
    write(gt / "c_label.tif", ONE)
    write(seg / "a_label.tiff", TWO.astype(np.uint32))
    write(seg / "b_label.tiff", ONE)
    return gt, seg


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scores_of(path):
    return {row["names"]: float(row["F1"]) for row in rows_of(path)}


def test_missing_predictions_count_as_missed(folders, tmp_path):
    gt, seg = folders
    out = tmp_path / "scores.csv"
    assert main(["-g", str(gt), "-s", str(seg), "--csv", str(out)]) == 0
    assert scores_of(out) == {"a_label.tiff": 1, "b_label.tiff": 0.6667, "c_label.tiff": 0}
    missed = rows_of(out)[2]
    assert (missed["true_num"], missed["missed_num(FN)"]) == ("1", "1")


def test_as_organisers_leaves_missing_predictions_out(folders, tmp_path, capsys):
    gt, seg = folders
    out = tmp_path / "scores.csv"
    main(["-g", str(gt), "-s", str(seg), "--csv", str(out), "--as-organisers"])
    assert scores_of(out) == {"a_label.tiff": 1, "b_label.tiff": 0.6667}
    assert "mean F1 Score: 0.83335 median F1 Score: 0.83335" in capsys.readouterr().out
    assert tuple(rows_of(out)[0]) == CSV_COLUMNS


def test_several_thresholds_write_several_files(folders, tmp_path):
    gt, seg = folders
    out = tmp_path / "scores.csv"
    main(["-g", str(gt), "-s", str(seg), "--csv", str(out), "--threshold", "0.5", "0.9"])
    assert (tmp_path / "scores-0.5.csv").exists()
    assert (tmp_path / "scores-0.9.csv").exists()


def test_modalities_come_from_an_index(folders, tmp_path, capsys):
    gt, seg = folders
    index = tmp_path / "index.csv"
    index.write_text("image,modality\nx/a.png,phase\nx/b.png,dic\nx/c.png,dic\n")
    main(["-g", str(gt), "-s", str(seg), "--index", str(index)])
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["phase"][:4] == ["1", "0", "2", "1.0000"]
    assert lines["dic"][:4] == ["2", "1", "3", "0.3333"]
    assert lines["all"][0] == "3"


def test_an_ambiguous_index_is_refused(folders, tmp_path, caplog):
    gt, seg = folders
    index = tmp_path / "index.csv"
    index.write_text("image,modality\nx/a.png,phase\ny/a.png,dic\n")
    assert main(["-g", str(gt), "-s", str(seg), "--index", str(index)]) == 2
    assert "a is phase and dic" in caplog.text


def test_modalities_come_from_folders(tmp_path, capsys):
    write(tmp_path / "gt/phase/a.tif", TWO)
    write(tmp_path / "gt/dic/a.tif", TWO)
    write(tmp_path / "seg/phase/a_label.tiff", TWO)
    write(tmp_path / "seg/dic/a_label.tiff", ONE)
    main(["-g", str(tmp_path / "gt"), "-s", str(tmp_path / "seg"), "--modality-by-folder"])
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["phase"][3] == "1.0000"
    assert lines["dic"][3] == "0.6667"


@pytest.fixture
def data_dir(tmp_path):
    """Two data sets that share a file name, and one that is reported apart."""
    data = tmp_path / "data"
    rows = []
    for folder, split in [
        ("phase/one", "test"),
        ("dic/two", "test"),
        ("brightfield/segpc2021_512", "test"),
        ("phase/one", "train"),
    ]:
        modality, dataset = folder.split("/")
        label = f"{folder}/{split}/labels/a.png"
        write(data / label.replace(".png", ".tif"), TWO)
        rows.append(
            f"{folder}/{split}/images/a.jpg,{label.replace('.png', '.tif')},{modality},,"
            f"{dataset},{split},30,30,1,2,5,all\n"
        )
    (data / "index.csv").write_text(INDEX_HEAD + "".join(rows))
    return data


def test_a_data_folder_is_scored_by_modality_and_data_set(data_dir, tmp_path):
    seg = tmp_path / "seg"
    write(seg / "phase/one/a_label.tiff", TWO)
    write(seg / "dic/two/a_label.tiff", ONE)
    out = tmp_path / "scores.json"
    assert main(["--data", str(data_dir), "-s", str(seg), "--json", str(out)]) == 0
    (result,) = json.loads(out.read_text())
    means = {line["name"]: line["f1_mean"] for line in result["modalities"]}
    assert means == {
        "dic": 0.6667,
        "phase": 1,
        "all": pytest.approx(0.83335),
        "apart: segpc2021_512": 0,
    }
    assert [line["name"] for line in result["datasets"]] == [
        "brightfield/segpc2021_512",
        "dic/two",
        "phase/one",
    ]


def test_one_flat_prediction_for_two_images_is_refused(data_dir, tmp_path, caplog):
    seg = tmp_path / "seg"
    write(seg / "a_label.tiff", TWO)
    assert main(["--data", str(data_dir), "-s", str(seg)]) == 2
    assert "MODALITY/DATASET" in caplog.text


def test_a_flat_folder_serves_when_names_differ(data_dir, tmp_path):
    index = data_dir / "index.csv"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:2]))
    write(tmp_path / "seg/a_label.tiff", TWO)
    out = tmp_path / "scores.csv"
    main(["--data", str(data_dir), "-s", str(tmp_path / "seg"), "--csv", str(out)])
    assert scores_of(out) == {"a_label.tiff": 1}


def test_an_unusable_prediction_counts_as_missed(folders, tmp_path, caplog):
    gt, seg = folders
    write(seg / "a_label.tiff", np.zeros((3, 3), np.uint16))
    (seg / "b_label.tiff").write_bytes(b"not a TIFF")
    out = tmp_path / "scores.csv"
    assert main(["-g", str(gt), "-s", str(seg), "--csv", str(out)]) == 0
    assert set(scores_of(out).values()) == {0}
    assert "one shape" in caplog.text


def test_names_are_cut_at_the_first_dot(tmp_path):
    write(tmp_path / "gt/a.b.tif", TWO)
    write(tmp_path / "seg/a_label.tiff", TWO)
    out = tmp_path / "scores.csv"
    main(["-g", str(tmp_path / "gt"), "-s", str(tmp_path / "seg"), "--csv", str(out)])
    assert scores_of(out) == {"a_label.tiff": 1}


def test_an_empty_folder_is_an_error(tmp_path, caplog):
    (tmp_path / "gt").mkdir()
    assert main(["-g", str(tmp_path / "gt"), "-s", str(tmp_path)]) == 2
    assert "no label images" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int32, np.float32])
def test_label_images_keep_their_ids(tmp_path, dtype):
    write(tmp_path / "a.tif", TWO.astype(dtype))
    labels = read_label_image(tmp_path / "a.tif")
    assert labels.dtype.kind in "ui"
    np.testing.assert_array_equal(labels, TWO)


def test_fractions_are_no_labels(tmp_path):
    write(tmp_path / "a.tif", np.full((4, 4), 0.5, np.float32))
    with pytest.raises(ImageError, match="fractions"):
        read_label_image(tmp_path / "a.tif")
