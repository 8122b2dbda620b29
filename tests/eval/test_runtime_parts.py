import os
import sys
import time
from pathlib import Path

import pytest

from eval.containers import Container, call_engine
from eval.launch import STAGES, Places, System, execute, peer_system, read_stages
from eval.runtime_file import SizedImage, TimedRun, rank_seconds, write_csv
from eval.runtime_table import compare, format_system
from eval.usage import Usage, UsageSampler, open_gpu, read_tree_mib
from tests.eval.runtime_fakes import PROFILE, fake_nvml, install_nvml

IMAGE = SizedImage(Path("a.png"), 1000, 1000)


def timed(system, real_s, name="a.png", repeat=0, problem="", host_mib=None, stages=None):
    image = SizedImage(Path(name), 1000, 1000)
    exit_code = 1 if problem else 0
    return TimedRun(system, image, repeat, real_s, exit_code, Usage(host_mib), stages, problem)


@pytest.mark.parametrize(
    ("height", "width", "real_s", "rank_s"),
    [
        (512, 512, 9.5, 0),
        (512, 512, 12.5, 2.5),
        (1000, 1000, 12, 2),
        (1000, 1001, 12, 1.99),
        (2000, 3000, 61, 1),
        (8415, 10496, 900, 900 - 883.2384),  # the challenge's slide
    ],
)
def test_the_tolerance_is_ten_seconds_and_ten_a_megapixel_beyond(height, width, real_s, rank_s):
    image = SizedImage(Path("a.png"), height, width)
    assert rank_seconds(real_s, image) == pytest.approx(rank_s)


def test_rounds_become_one_line_with_their_median(tmp_path):
    runs = [timed("s", seconds, repeat=i) for i, seconds in enumerate((11, 30, 13))]
    path = write_csv(tmp_path, "s", [*runs, timed("other", 1)])
    assert path.read_text().splitlines()[1:] == ["a.png,13,3.0"]


@pytest.mark.parametrize(
    ("said", "network_s"),
    [
        (f"INFO a.png\n{PROFILE}\n", 0.4),
        (f"{PROFILE}\n{PROFILE.replace('0.4', '0.7')}", 0.7),
        ("no such line", None),
        ("", None),
        ("PROFILE {", None),
        ("PROFILE []", None),
        ('PROFILE {"stages": 3}', None),
        ('PROFILE {"stages": {"network": "long"}}', None),
        ('PROFILE {"total_s": 3}', None),
    ],
)
def test_stages_are_read_or_not_known(said, network_s):
    stages = read_stages(said)
    assert (stages and stages["network"]) == network_s
    assert stages is None or tuple(stages) == STAGES


def test_memory_is_that_of_the_whole_tree(tmp_path):
    child = "import time; block = bytearray(range(256)) * 4 * 1024 * 40; time.sleep(0.6)"
    parent = (
        "import subprocess, sys, time; block = bytearray(range(256)) * 4 * 1024 * 60;"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}]); p.wait()"
    )
    alone = execute(System("s", (sys.executable, "-c", child)), places_in(tmp_path / "1"))
    both = execute(System("s", (sys.executable, "-c", parent)), places_in(tmp_path / "2"))
    assert alone.exit_code == both.exit_code == 0
    assert alone.usage.peak_host_mib is not None
    assert both.usage.peak_host_mib is not None
    assert 40 < alone.usage.peak_host_mib < 90
    assert 100 < both.usage.peak_host_mib < 180


def test_memory_of_a_process_that_is_gone_is_not_known():
    assert read_tree_mib(2**22 + 1) is None  # beyond the largest process id of Linux


def test_gpu_memory_is_taken_above_the_level_at_the_start(monkeypatch):
    install_nvml(monkeypatch, fake_nvml(1000, 1000, 1300, 1300, 1100))
    gpu = open_gpu("0")
    assert gpu is not None
    assert gpu.name == "Fake GPU"
    sampler = UsageSampler(gpu, interval_s=0.05)
    sampler.start(lambda: None)
    time.sleep(0.6)
    usage = sampler.stop()
    assert usage.peak_host_mib is None
    assert usage.peak_gpu_mib == 300
    # Two intervals at 300 and the rest of at least 0.4 s at 100, on a machine that may be slow.
    assert 300 * 0.1 + 100 * 0.3 < (usage.gpu_mib_s or 0) < 300 * 1.5


@pytest.mark.parametrize("device", [None, "7", "GPU-1234"])
def test_there_may_be_no_gpu(monkeypatch, device):
    install_nvml(monkeypatch, fake_nvml(100))
    assert open_gpu(device) is None


def test_without_its_package_the_gpu_is_not_known(monkeypatch):
    install_nvml(monkeypatch, None)
    assert open_gpu("0") is None


def test_a_gpu_that_stops_answering_leaves_what_was_seen(monkeypatch):
    nvml = fake_nvml(100, 400)
    install_nvml(monkeypatch, nvml)
    sampler = UsageSampler(open_gpu("0"), interval_s=0.02)
    sampler.start(lambda: None)
    time.sleep(0.1)

    def fail(handle):
        raise nvml.NVMLError

    nvml.nvmlDeviceGetMemoryInfo = fail
    assert sampler.stop().peak_gpu_mib == 300


def places_in(folder):
    """Make the folders of a run."""
    places = Places(folder, folder / "inputs" / "a {output} b.png")
    places.inputs.mkdir(parents=True)
    places.outputs.mkdir()
    places.image.touch()
    return places


def test_places_are_filled_in_once_whatever_they_are_called(tmp_path):
    places = places_in(tmp_path / "with space")
    system = peer_system("s", "label --image={image} '{output}/x y'", {})
    assert system.command(places) == [
        "label",
        f"--image={places.image}",
        f"{places.outputs}/x y",
    ]


def test_variables_reach_the_program(tmp_path):
    places = places_in(tmp_path)
    script = 'echo "$CUDA_VISIBLE_DEVICES $CELLSEG_PROFILE" >"$0/said"'
    system = System(
        "s", ("sh", "-c", script, "{output}"), environment={"CUDA_VISIBLE_DEVICES": "3"}
    )
    assert execute(system, places).exit_code == 0
    assert (places.outputs / "said").read_text() == "3 1\n"


def test_nothing_of_a_run_is_left_running(tmp_path):
    places = places_in(tmp_path)
    command = ("sh", "-c", "sleep 600 & echo $! >$0/pid", "{output}")
    assert execute(System("s", command), places).exit_code == 0
    pid = int((places.outputs / "pid").read_text())
    for _ in range(100):  # until init has reaped it
        if not is_alive(pid):
            return
        time.sleep(0.05)
    pytest.fail("still running")


def is_alive(pid):
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_cannot_be_started_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        execute(System("s", ("no/such/program",)), places_in(tmp_path))


def test_the_end_of_what_was_said_is_kept(tmp_path):
    command = ("sh", "-c", "seq 10; echo last >&2; exit 4")
    done = execute(System("s", command), places_in(tmp_path))
    assert (done.exit_code, done.last_lines) == (4, "7 | 8 | 9 | 10 | last")


@pytest.mark.parametrize("answer", ["0", "", "nonsense"])
def test_a_container_that_has_not_started_has_no_process(tmp_path, answer):
    assert engine_that_says(tmp_path, answer).find_pid() is None


def test_a_process_of_another_machine_is_not_the_containers(tmp_path):
    container = engine_that_says(tmp_path, str(os.getpid()))
    with pytest.raises(ProcessLookupError):
        container.find_pid()


def test_before_there_is_a_container_nothing_is_removed(tmp_path):
    container = engine_that_says(tmp_path, "")
    container.cid_file.unlink()
    assert container.find_pid() is None
    assert not container.remove(lambda: False)
    assert not (tmp_path / "log").exists()


def test_a_container_made_at_the_last_moment_is_removed(tmp_path):
    container = engine_that_says(tmp_path, "")
    container.cid_file.unlink()
    asked: list[None] = []

    def may_come():
        if len(asked) == 2:
            container.cid_file.write_text("0123456789ab\n")
        asked.append(None)
        return True

    assert container.remove(may_come)
    assert (tmp_path / "log").read_text() == "kill 0123456789ab\nrm -f 0123456789ab\n"


def engine_that_says(folder, answer):
    """Make a container of an engine that has one answer to everything."""
    engine = folder / "engine"
    engine.write_text(f'#!/bin/sh\necho "$*" >>{folder}/log\necho {answer}\n')
    engine.chmod(0o755)
    (folder / "cid").write_text("0123456789ab")
    return Container(str(engine), folder / "cid")


def test_an_engine_that_refuses_or_lacks_gives_no_answer(tmp_path):
    assert call_engine("false") is None
    assert call_engine(str(tmp_path / "nosuch")) is None
    assert call_engine("echo", "a", "b") == "a b\n"


def test_ratios_are_of_medians_on_images_that_both_labelled():
    runs = [
        *(timed("one", s, "a.png", host_mib=100) for s in (1, 2, 9)),
        *(timed("two", s, "a.png", host_mib=150) for s in (5, 6, 7)),
        timed("one", 4, "b.png"),
        timed("two", 2, "b.png"),
        timed("one", 3, "c.png"),
        timed("two", 1, "c.png", problem="no label image"),
    ]
    first, second, everything = compare(runs, "one", "two")
    assert (first.image, second.image, everything.image) == ("a.png", "b.png", "all")
    assert first.values == {"real time": 3, "host memory": 1.5, "GPU memory": None}
    assert second.values["real time"] == 0.5
    assert everything.values["real time"] == pytest.approx(5.5 / 3)


def test_systems_without_a_common_image_are_not_compared():
    assert compare([timed("one", 1), timed("two", 1, problem="bad")], "one", "two") == []


def test_the_time_outside_the_program_is_what_the_stages_leave():
    stages = dict.fromkeys(STAGES, 0.0) | {"network": 1.5}
    table = format_system([timed("one", 2.0, stages=stages), timed("one", 9.0)], "one")
    assert table.splitlines()[-1].endswith(
        "network 1.50, decoding 0.00, writing 0.00, other 0.00, outside 0.50"
    )


def test_failed_runs_are_counted_and_not_averaged():
    runs = [timed("one", 2), timed("one", 90, problem="bad"), timed("one", 4)]
    lines = format_system(runs, "one").splitlines()
    assert lines[0] == "one: 3 runs, 1 failed"
    assert lines[-1].split()[:6] == ["median", "of", "all", "1.00", "3.00", "0.00"]
