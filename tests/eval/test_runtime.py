import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile

from eval import launch
from eval.launch import STAGES
from eval.runtime import main
from synthetic.folder import write_folder
from tests.eval.runtime_fakes import Stage, fake_nvml, install_nvml

ROOT = Path(__file__).resolve().parents[2]
PEER = "peer {input} {output} _cp_masks.tif"


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Two images, stand-ins on PATH, no GPU."""
    stage = Stage(tmp_path)
    stage.add_image("a.png")
    stage.add_image("b.c.png", shape=(1200, 1000))
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(launch, "PREDICT", stage.predict)
    install_nvml(monkeypatch, None)
    return stage


@pytest.fixture
def run(stage):
    """Run the command line on the stage's images."""

    def run(*arguments):
        places = ["-i", str(stage.images), "-o", str(stage.output)]
        return main([*places, "--json", str(stage.output / "runs.json"), *arguments])

    return run


def runs_of(stage):
    return json.loads((stage.output / "runs.json").read_text())["runs"]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_container_an_image_by_the_organisers_command(stage, run, caplog):
    assert run("--image", "tiny:latest", "--docker", "docker") == 0
    started = [line for line in stage.log if line.startswith("container run")]
    assert len(started) == 2
    words = shlex.split(started[0])
    folder = Path(words[words.index("-v") + 1].partition("/inputs/:")[0])
    assert folder.parent == stage.output
    assert started[0] == (
        f"container run -m 28G --name tiny --rm --cidfile {folder}/cid -e CELLSEG_PROFILE=1"
        f" -v {folder}/inputs/:/workspace/inputs/ -v {folder}/outputs/:/workspace/outputs/"
        " tiny:latest /bin/bash -c sh predict.sh"
    )
    assert "without --gpus" in caplog.text
    assert not [line for line in stage.log if line.startswith(("kill", "rm"))]


def test_the_tables_of_a_container(stage, run):
    run("--image", "tiny:latest")
    rows = rows_of(stage.output / "tiny_running_time.csv")
    assert list(rows[0]) == ["Img Name", "Real Running Time", "Rank Running Time"]
    assert [row["Img Name"] for row in rows] == ["a.png", "b.c.png"]
    assert all(0.3 <= float(row["Real Running Time"]) < 10 for row in rows)
    assert all(float(row["Rank Running Time"]) == 0 for row in rows)
    first, second = runs_of(stage)
    assert (first["system"], first["image"], first["repeat"]) == ("tiny", "a.png", 0)
    assert (second["height"], second["width"]) == (1200, 1000)
    assert first["stages"] == dict.fromkeys(STAGES, 0) | {"start": 0.1, "network": 0.4}
    assert first["peak_host_mib"] > 0.1  # a shell
    assert first["peak_gpu_mib"] is None
    assert first["gpu_mib_s"] is None
    assert first["exit_code"] == second["exit_code"] == 0


def test_label_images_are_kept_and_folders_of_runs_are_not(stage, run):
    run("--image", "tiny:latest")
    assert sorted(path.name for path in stage.output.iterdir()) == [
        "runs.json",
        "tiny_running_time.csv",
        "tiny_seg",
    ]
    assert tifffile.imread(stage.output / "tiny_seg" / "b_label.tiff").shape == (1200, 1000)


def test_the_head_of_the_json_file(stage, run):
    run("--image", "tiny:latest")
    plain = json.loads((stage.output / "runs.json").read_text())
    assert plain["format"] == 1
    assert plain["created"].endswith("Z")
    assert plain["machine"]["cores"] >= 1
    assert plain["machine"]["memory_gib"] > 0.1
    assert [system["name"] for system in plain["systems"]] == ["tiny"]
    assert plain["systems"][0]["command"].startswith("docker container run")


def test_a_gpu_is_given_to_the_container_and_watched(stage, run, monkeypatch):
    install_nvml(monkeypatch, fake_nvml(100, 100, 350, 350, 100, 100))
    assert run("--image", "tiny:latest") == 0
    assert "run --gpus device=0 -m 28G" in stage.log[2]
    first = runs_of(stage)[0]
    assert first["peak_gpu_mib"] == 250
    assert 250 * 0.1 <= first["gpu_mib_s"] < 250 * first["real_s"]


@pytest.mark.parametrize(("visible", "given"), [("1,2", None), ("0", "device=0"), ("", None)])
def test_the_first_visible_gpu_is_taken(stage, run, monkeypatch, visible, given):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    install_nvml(monkeypatch, fake_nvml(100))  # has device 0 only
    run("--image", "tiny:latest")
    started = next(line for line in stage.log if line.startswith("container run"))
    assert (f"--gpus {given} " in started) if given else ("--gpus" not in started)


def test_no_gpu_can_be_asked_for(stage, run, monkeypatch):
    install_nvml(monkeypatch, fake_nvml(100))
    assert run("--image", "tiny:latest", "--gpu", "none") == 0
    assert not [line for line in stage.log if "--gpus" in line]


def test_options_reach_the_script_of_the_container(stage, run):
    run("--image", "tiny:latest", "--options", "--device cpu --weights 'a b'")
    started = next(line for line in stage.log if line.startswith("container run"))
    assert started.endswith("/bin/bash -c sh predict.sh --device cpu --weights 'a b'")


def test_a_failed_image_is_counted_and_the_others_go_on(stage, run, caplog, capsys):
    stage.add_image("bad.png")
    stage.add_image("c.png")
    assert run("--image", "tiny:latest") == 1
    codes = {entry["image"]: entry["exit_code"] for entry in runs_of(stage)}
    assert codes == {"a.png": 0, "b.c.png": 0, "bad.png": 3, "c.png": 0}
    assert "exit code 3; it said: cannot read bad" in caplog.text
    assert "tiny: 4 runs, 1 failed" in capsys.readouterr().out
    cid = (stage.folder / "cid").read_text()
    assert f"rm -f {cid}" in stage.log  # in case its engine left it


def test_no_label_image_is_a_failure(stage, run, caplog):
    stage.add_image("empty.png", with_label=False)
    stage.add_image("small.png", label_shape=(30, 39))
    stage.add_image("torn.png")
    (stage.folder / "labels" / "torn").write_bytes(b"II*\0")
    assert run("--image", "tiny:latest") == 1
    bad = {entry["image"]: entry for entry in runs_of(stage) if entry["exit_code"]}
    assert {name: entry["exit_code"] for name, entry in bad.items()} == {
        "empty.png": 1,
        "small.png": 1,
        "torn.png": 1,
    }
    assert bad["empty.png"]["problem"].startswith("no label image empty_label.tiff")
    assert "(30, 39), the image is (30, 40)" in bad["small.png"]["problem"]
    assert "torn_label.tiff" in bad["torn.png"]["problem"]


def test_an_image_that_cannot_be_read_is_counted(stage, run, caplog):
    (stage.images / "broken.png").write_bytes(b"no image")
    assert run("--image", "tiny:latest") == 1
    assert "broken.png" in caplog.text
    assert len(runs_of(stage)) == 2


def test_a_run_that_takes_too_long_is_stopped(stage, run, caplog):
    (stage.images / "a.png").rename(stage.images / "hang.png")
    start = time.monotonic()
    assert run("--image", "tiny:latest", "--limit", "3") == 1
    assert time.monotonic() - start < 30
    assert "stopped after" in caplog.text
    assert [line.split()[0] for line in stage.log].count("kill") >= 1
    assert [bool(entry["problem"]) for entry in runs_of(stage)] == [False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_container_is_removed(stage, number):
    stage.add_image("hang.png")
    command = [sys.executable, "-m", "eval.runtime", "-i", stage.images, "-o", stage.output]
    harness = subprocess.Popen([*command, "--image", "tiny:latest"], cwd=ROOT)
    give_up = time.monotonic() + 60
    while sum(line.startswith("container run") for line in stage.log) < 3:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    harness.send_signal(number)
    assert harness.wait(timeout=30) == 130
    cid = (stage.folder / "cid").read_text()
    assert stage.log[-2:] == [f"kill {cid}", f"rm -f {cid}"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((stage.folder / "pid").read_text()), 0)
    assert len(rows_of(stage.output / "tiny_running_time.csv")) == 2  # what was done is written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "other:latest"], "has no image other:latest"),
        (["--image", "tiny:latest", "--docker", "nosuch"], "no nosuch on PATH"),
        (["--docker", "docker"], "--docker needs --image"),
        (["--against", "peer {input}"], "{output}"),
        (["--against", "peer '{input} {output}"], "quotation"),
        (["--against", "nosuch {input} {output}"], "no program nosuch"),
        (["--against", PEER, "--against-name", "cellseg"], "'cellseg'"),
        (["--name", "a/b"], "'a/b'"),
        (["-i", "no/such/folder"], "no such folder"),
    ],
)
def test_wrong_usage_starts_nothing(stage, run, caplog, arguments, said):
    assert run(*arguments) == 2
    assert said in caplog.text
    assert not [line for line in stage.log if line.startswith(("container run", "peer"))]


def test_a_container_of_another_is_not_touched(stage, run, caplog):
    (stage.folder / "taken").touch()
    assert run("--image", "tiny:latest") == 2
    assert "there is a container tiny already" in caplog.text
    assert not [line for line in stage.log if line.startswith(("kill", "rm"))]


def test_an_empty_folder_is_wrong_usage(stage, run, caplog):
    for path in stage.images.iterdir():
        path.unlink()
    assert run() == 2
    assert "no images" in caplog.text


def test_images_with_one_label_name_are_wrong_usage(stage, run, caplog):
    stage.add_image("a.bmp")
    assert run() == 2
    assert "a.bmp and a.png" in caplog.text


def test_without_a_container_predict_is_run_once_an_image(stage, run, capsys):
    assert run("--options", "--device cpu", "--name", "mine") == 0
    assert [line.split()[0] for line in stage.log if line.startswith("predict")] == ["predict"] * 2
    assert stage.log[0].endswith("/outputs --device cpu")
    assert (stage.output / "mine_running_time.csv").exists()
    out = capsys.readouterr().out
    assert "stages, median s: start 0.10" in out
    assert runs_of(stage)[0]["peak_host_mib"] > 0  # how much, a program of 0.1 s does not tell


def test_the_real_predict_is_what_runs_by_default():
    assert (ROOT / "predict.py").is_file()
    assert launch.PREDICT == ROOT / "predict.py"


def test_systems_run_in_turn(stage, run, capsys):
    arguments = ["--against", PEER, "--against-name", "other", "--repeats", "2"]
    assert run("--image", "tiny:latest", *arguments) == 0
    in_turn = [(entry["system"], entry["image"], entry["repeat"]) for entry in runs_of(stage)]
    assert in_turn == [
        (system, image, repeat)
        for repeat in (0, 1)
        for image in ("a.png", "b.c.png")
        for system in ("tiny", "other")
    ]
    lines = capsys.readouterr().out.splitlines()
    head = lines.index("other over tiny, ratios of medians (above 1: other takes more)")
    ratios = {line.split()[0]: float(line.split()[1]) for line in lines[head + 2 :]}
    assert set(ratios) == {"a.png", "b.c.png", "all"}
    assert all(0 < ratio < 1 for ratio in ratios.values())  # the fake container sleeps
    assert len(rows_of(stage.output / "other_running_time.csv")) == 2  # medians of the rounds


@pytest.mark.parametrize(
    ("suffix", "kept"), [("_cp_masks.tif", "a_label.tiff"), ("_masks.png", "a_masks.png")]
)
def test_another_system_names_its_labels_as_it_likes(stage, run, suffix, kept):
    assert run("--against", f"peer {{input}} {{output}} {suffix}") == 0
    assert (stage.output / "against_seg" / kept).exists()


def test_failures_of_the_other_system_are_failures(stage, run, capsys):
    assert run("--against", "peer {input} {output} .txt") == 1
    assert "against: 2 runs, 2 failed" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_said(stage, run, caplog):
    (stage.output / "cellseg_running_time.csv").mkdir(parents=True)
    assert run() == 1
    assert "cellseg_running_time.csv: cannot be written" in caplog.text


@pytest.mark.slow
@pytest.mark.weights
def test_this_project_is_timed_for_real(tmp_path):
    image = write_folder(tmp_path / "made", shape=(96, 96))[2].image
    out = tmp_path / "runs.json"
    arguments = ["-i", str(image), "-o", str(tmp_path / "out"), "--json", str(out)]
    assert main([*arguments, "--gpu", "none"]) == 0
    (timed,) = json.loads(out.read_text())["runs"]
    assert 0 < sum(timed["stages"].values()) < timed["real_s"]
    assert timed["stages"]["network"] > 0
    assert timed["peak_host_mib"] > 100
