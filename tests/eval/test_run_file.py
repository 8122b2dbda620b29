import json
import subprocess
from dataclasses import replace

import pytest

from eval.matching import MatchCounts
from eval.official import Rules
from eval.run_file import (
    CellSize,
    ErrorCounts,
    Run,
    RunImage,
    RunSummary,
    Seams,
    SizeBin,
    Unscored,
    name_commit,
    read_run,
    write_run,
)

IMAGE = RunImage(
    name="a.png",
    modality="phase",
    dataset="one",
    height=30,
    width=40,
    problem="",
    counts={"0.5": MatchCounts(3, 1, 2), "0.75": MatchCounts(1, 3, 4)},
    dice=0.5,
    inst_dice=0.25,
    aji=0.125,
    pq=0.0,
    sq=1.0,
    ap=0.3,
    errors=ErrorCounts(split=1, missed=2),
    sizes=(CellSize(12.5, found=True), CellSize(7.0, found=False)),
)
SUMMARY = RunSummary(
    name="all",
    kind="all",
    n_images=1,
    n_missing=0,
    n_cells=5,
    f1_mean=0.5,
    f1_mean_low=0.4,
    f1_mean_high=0.6,
    f1_median=0.5,
    f1_median_low=0.3,
    f1_median_high=0.7,
    dice_mean=0.8,
    precision_mean=0.7,
    recall_mean=0.6,
    inst_dice_mean=0.75,
    aji_mean=0.45,
    pq_mean=0.35,
    ap_mean=0.25,
    f1_means={"0.5": 0.5},
    errors=ErrorCounts(),
    by_size=(SizeBin(0.0, 8.0, tp=1, fp=2, fn=3),),
)
RUN = Run(
    created="2026-11-22T22:00:00Z",
    commit="abc",
    system="mine",
    rules=Rules(border_px=0),
    thresholds=(0.5, 0.75),
    images=(IMAGE,),
    unscored=(Unscored("b.png", "", "", "true labels: bad"),),
    summaries=(SUMMARY,),
    seams=Seams(256, 0.5, 0.1, 20, 10),
)


@pytest.mark.parametrize("run", [RUN, replace(RUN, seams=None, images=(), summaries=())])
def test_what_is_written_is_read(tmp_path, run):
    write_run(tmp_path / "run.json", run)
    assert read_run(tmp_path / "run.json") == run


def test_the_file_has_the_documented_layout(tmp_path):
    write_run(tmp_path / "run.json", RUN)
    plain = json.loads((tmp_path / "run.json").read_text())
    assert plain["format"] == 1
    assert plain["rules"] == {
        "border_px": 0,
        "slide_px": 25_000_000,
        "roi_px": 2000,
        "with_quirks": False,
    }
    assert plain["images"][0]["counts"]["0.75"] == {"tp": 1, "fp": 3, "fn": 4}
    assert plain["images"][0]["sizes"][0] == {"diameter_px": 12.5, "found": True}


def test_whole_numbers_may_stand_for_floats_and_more_fields_may_come(tmp_path):
    write_run(tmp_path / "run.json", RUN)
    plain = json.loads((tmp_path / "run.json").read_text())
    plain["images"][0]["dice"] = 1
    plain["images"][0]["colour"] = "new"
    (tmp_path / "run.json").write_text(json.dumps(plain))
    dice = read_run(tmp_path / "run.json").images[0].dice
    assert (dice, type(dice)) == (1, float)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plain: plain.pop("format"), "format 1"),
        (lambda plain: plain.update(format=2), "format 1"),
        (lambda plain: plain.pop("images"), "run has no images"),
        (lambda plain: plain["images"][0].update(dice="much"), r"images\[0\].dice is 'much'"),
        (lambda plain: plain["images"][0].update(height=1.5), r"images\[0\].height"),
        (lambda plain: plain["images"][0]["counts"].update({"0.5": 3}), "counts.0.5 is '3'"),
        (lambda plain: plain.update(thresholds="0.5"), "run.thresholds"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, change, words):
    path = tmp_path / "some_run.json"
    write_run(path, RUN)
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=words) as raised:
        read_run(path)
    assert "some_run.json" in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe\x00", b"null"])
def test_other_files_are_no_run_files(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json: no run file"):
        read_run(tmp_path / "x.json")
    with pytest.raises(ValueError, match=r"y\.json: no run file"):
        read_run(tmp_path / "y.json")


def test_groups_and_scores_are_found_by_name():
    assert RUN.summary("all") is SUMMARY
    with pytest.raises(KeyError):
        RUN.summary("dic")
    assert IMAGE.key == "phase/one/a.png"
    assert IMAGE.f1_at(0.5) == 0.6667
    assert IMAGE.counts_at(0.75).tp == 1


def test_the_commit_is_named(tmp_path):
    assert name_commit(tmp_path / "absent") == "unknown"

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    clean = name_commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "file").write_text("2")
    assert name_commit(tmp_path) == f"{clean}-dirty"
