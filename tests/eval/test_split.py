import numpy as np
import pytest
import tifffile

from eval import split
from eval.run_file import read_run
from tests.eval.test_f1 import INDEX_HEAD

LABELS = np.zeros((30, 30), np.uint16)
LABELS[5:12, 5:12], LABELS[16:25, 16:25] = 1, 2

# Stands in for predict.py: writes the true labels of every image, or fails for a folder.
FAKE_PREDICT = """
import pathlib, shutil, sys
images, out = (pathlib.Path(sys.argv[sys.argv.index(o) + 1]) for o in ("-i", "-o"))
if "--fail-" + images.parent.parent.name in sys.argv:
    sys.exit(1)
for image in images.iterdir():
    labels = images.parent / "labels" / (image.stem + ".tif")
    shutil.copy(labels, out / (image.stem + "_label.tiff"))
"""


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    predict = tmp_path / "fake_predict.py"
    predict.write_text(FAKE_PREDICT)
    monkeypatch.setattr(split, "PREDICT", predict)
    data = tmp_path / "data"
    rows = ""
    for folder in ("phase/one", "dic/two"):
        modality, dataset = folder.split("/")
        for kind, suffix in (("images", "jpg"), ("labels", "tif")):
            path = data / folder / "test" / kind / f"a.{suffix}"
            path.parent.mkdir(parents=True)
            tifffile.imwrite(path, LABELS)
        rows += (
            f"{folder}/test/images/a.jpg,{folder}/test/labels/a.tif,{modality},,"
            f"{dataset},test,30,30,1,2,8,all\n"
        )
    (data / "index.csv").write_text(INDEX_HEAD + rows)
    return data


def run_split(data_dir, tmp_path, *options):
    out, run = tmp_path / "out", tmp_path / "run.json"
    arguments = ["--data", str(data_dir), "-o", str(out), "--json", str(run), *options]
    return split.main(arguments), read_run(run)


def test_every_folder_is_predicted_and_scored(data_dir, tmp_path):
    code, run = run_split(data_dir, tmp_path)
    assert code == 0
    assert {image.key: image.f1_at(0.5) for image in run.images} == {
        "phase/one/a.jpg": 1,
        "dic/two/a.jpg": 1,
    }
    assert run.system == "out"


def test_a_folder_that_failed_scores_nothing_and_is_told(data_dir, tmp_path):
    code, run = run_split(data_dir, tmp_path, "--name", "mine", "--", "--fail-two")
    assert code == 1
    assert {image.key: image.f1_at(0.5) for image in run.images} == {
        "phase/one/a.jpg": 1,
        "dic/two/a.jpg": 0,
    }
    assert run.system == "mine"


def test_wrong_usage_is_told_before_anything_is_predicted(data_dir, tmp_path):
    out = tmp_path / "out"
    bad = ["--json", str(tmp_path / "absent" / "run.json")]
    assert split.main(["--data", str(data_dir), "-o", str(out), *bad]) == 2
    assert split.main(["--data", str(data_dir), "-o", str(out), "--split", "none"]) == 2
    assert not out.exists()
