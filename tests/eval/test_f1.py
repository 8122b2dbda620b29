import csv

import numpy as np
import pytest
import tifffile

from eval.f1 import main
from eval.matching import MatchCounts
from eval.run_file import read_run
from eval.tables import CSV_COLUMNS

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


def first_table(printed):
    """Map the groups of the first table to their columns."""
    block = printed.split("\n\n", maxsplit=1)[0]
    return {line.split()[0]: line.split()[1:] for line in block.splitlines()[2:]}


def scores_of(path):
    return {row["names"]: float(row["F1"]) for row in rows_of(path)}


def test_missing_predictions_count_as_missed(folders, tmp_path):
    gt, seg = folders
    out = tmp_path / "scores.csv"
    assert main(["-g", str(gt), "-s", str(seg), "--csv", str(out)]) == 1
    assert scores_of(out) == {"a_label.tiff": 1, "b_label.tiff": 0.6667, "c_label.tiff": 0}
    missed = rows_of(out)[2]
    assert (missed["true_num"], missed["missed_num(FN)"]) == ("1", "1")


def test_as_organisers_leaves_missing_predictions_out(folders, tmp_path, capsys):
    gt, seg = folders
    out = tmp_path / "scores.csv"
    assert main(["-g", str(gt), "-s", str(seg), "--csv", str(out), "--as-organisers"]) == 1
    assert scores_of(out) == {"a_label.tiff": 1, "b_label.tiff": 0.6667}
    assert "mean F1 Score: 0.83335 median F1 Score: 0.83335" in capsys.readouterr().out
    assert tuple(rows_of(out)[0]) == CSV_COLUMNS


def test_all_pairs_scored_exits_with_zero(folders):
    gt, seg = folders
    write(seg / "c_label.tiff", ONE)
    assert main(["-g", str(gt), "-s", str(seg)]) == 0


def test_several_thresholds_write_several_files(folders, tmp_path, capsys):
    gt, seg = folders
    write(seg / "b_label.tiff", np.roll(TWO, 1, axis=0))  # IoU 20 / 30
    out = tmp_path / "scores.csv"
    main(["-g", str(gt), "-s", str(seg), "--csv", str(out), "--threshold", "0.5", "0.9"])
    assert scores_of(tmp_path / "scores-0.5.csv")["b_label.tiff"] == 1
    assert scores_of(tmp_path / "scores-0.9.csv")["b_label.tiff"] == 0
    printed = capsys.readouterr().out
    assert printed.index("IoU >= 0.5") < printed.index("IoU >= 0.9")


def test_a_folder_gets_the_organisers_file_names(folders, tmp_path):
    gt, seg = folders
    out = tmp_path / "tables"
    out.mkdir()
    args = ["-g", str(gt), "-s", str(seg), "--csv", str(out), "--threshold", "0.5", "0.75"]
    main([*args, "--name", "team"])
    main(args)
    assert sorted(path.name for path in out.iterdir()) == [
        "seg-0.5.csv",
        "seg-0.75.csv",
        "team-0.5.csv",
        "team-0.75.csv",
    ]


def test_the_organisers_numbers_by_hand(tmp_path, capsys):
    # 3 true cells, one of them at the border; 2 predictions, one of them right.
    truth, prediction = cells((4, 4), (15, 15), (0, 20)), cells((4, 4), (12, 15))
    write(tmp_path / "gt/a.tif", truth)
    write(tmp_path / "seg/a_label.tiff", prediction)
    out = tmp_path / "t.csv"
    args = ["-g", str(tmp_path / "gt"), "-s", str(tmp_path / "seg"), "--csv", str(out)]
    assert main([*args, "--as-organisers"]) == 0
    assert out.read_text().splitlines()[1] == "a_label.tiff,2,2,1,1,1,0.5,0.5,0.56,0.5"
    assert "threshold: 0.5 mean F1 Score: 0.5 median F1 Score: 0.5" in capsys.readouterr().out
    main([*args, "--count-border-cells"])
    assert out.read_text().splitlines()[1] == "a_label.tiff,3,2,1,2,1,0.5,0.3333,0.56,0.4"


def test_modalities_come_from_an_index(folders, tmp_path, capsys):
    gt, seg = folders
    index = tmp_path / "index.csv"
    index.write_text("image,modality\nx/a.png,phase\nx/b.png,dic\nx/c.png,dic\n")
    main(["-g", str(gt), "-s", str(seg), "--index", str(index)])
    lines = first_table(capsys.readouterr().out)
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
    lines = first_table(capsys.readouterr().out)
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
    assert main(["--data", str(data_dir), "-s", str(seg), "--json", str(out)]) == 1
    run = read_run(out)
    lines = {(line.name, line.kind, line.apart): line.f1_mean for line in run.summaries}
    assert lines == {
        ("dic", "modality", False): 0.6667,
        ("phase", "modality", False): 1,
        ("all", "all", False): pytest.approx(0.83335),
        ("brightfield/segpc2021_512", "dataset", True): 0,
        ("dic/two", "dataset", False): 0.6667,
        ("phase/one", "dataset", False): 1,
    }
    assert {image.key for image in run.images} == {
        "phase/one/a.jpg",
        "dic/two/a.jpg",
        "brightfield/segpc2021_512/a.jpg",
    }


def test_the_run_file_tells_everything(folders, tmp_path):
    gt, seg = folders
    out = tmp_path / "run.json"
    args = ["--threshold", "0.5", "0.8", "--name", "mine", "--seams", "10", "--json", str(out)]
    main(["-g", str(gt), "-s", str(seg), *args])
    run = read_run(out)
    assert (run.system, run.thresholds, run.rules.with_quirks) == ("mine", (0.5, 0.8), False)
    found, half, missing = run.images
    assert found.counts == {"0.5": MatchCounts(tp=2), "0.8": MatchCounts(tp=2)}
    assert (found.dice, found.inst_dice, found.aji, found.pq, found.ap) == (1, 1, 1, 1, 1)
    assert (half.name, half.height, half.width, half.errors.missed) == ("b.tif", 30, 30, 1)
    assert [size.found for size in half.sizes] == [True, False]
    assert half.sizes[0].diameter_px == pytest.approx(5.64)  # 25 px
    assert "no prediction" in missing.problem
    everything = run.summary("all")
    assert (everything.n_images, everything.n_missing, everything.n_cells) == (3, 1, 5)
    assert everything.f1_mean_low <= everything.f1_mean <= everything.f1_mean_high
    assert everything.f1_means["0.8"] == pytest.approx(everything.f1_mean)
    (sizes,) = everything.by_size
    assert (sizes.low_px, sizes.high_px, sizes.counts) == (0, 8, MatchCounts(tp=3, fn=2))
    assert run.seams is not None
    assert run.seams.n == 3
    assert run.seams.tile_px == 10


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


def test_names_are_cut_at_the_first_dot(tmp_path):
    write(tmp_path / "gt/a.b.tif", TWO)
    write(tmp_path / "seg/a_label.tiff", TWO)
    out = tmp_path / "scores.csv"
    main(["-g", str(tmp_path / "gt"), "-s", str(tmp_path / "seg"), "--csv", str(out)])
    assert scores_of(out) == {"a_label.tiff": 1}
