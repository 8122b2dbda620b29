"""Real schedulers and worker processes on this machine give what one process gives."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workers.fakes import DEATH, SLOWNESS, contents, run, write_inputs
from workers import cluster

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 60
# what runs in the background of a shell ignores interrupts, and so would its children
INTERRUPTED_RUN = """
import signal
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import predict
    from tests.workers.fakes import build_job
    raise SystemExit(predict.main(build_job=build_job))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Label one folder in this process: its folder, and what came out."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "weights").mkdir()
    source = write_inputs(folder / "in")
    assert run(source, folder / "alone", folder / "weights") == 0
    return folder


@pytest.fixture(scope="module")
def expected(place):
    return contents(place / "alone")


@pytest.fixture(autouse=True)
def no_orders_left(place):
    yield
    for name in (DEATH, SLOWNESS):
        (place / "weights" / name).unlink(missing_ok=True)


def start(*arguments, **settings):
    """Start a part of Dask in the clone, with an end to what it prints."""
    command = [sys.executable, "-m", "dask", *map(str, arguments)]
    environment = os.environ | {name.upper(): str(value) for name, value in settings.items()}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)


def wait_until(is_so, what):
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Run a scheduler that gives a task up when one worker died of it; give its address."""
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file)
    running = start("scheduler", *options, dask_distributed__scheduler__allowed_failures=0)
    wait_until(lambda: file.exists() and '"address"' in file.read_text(), "no scheduler")
    yield file.read_text().partition('"address": "')[2].partition('"')[0]
    running.terminate()
    running.wait()


@pytest.fixture(scope="module")
def workers(scheduler):
    """Run two workers; give the address of their scheduler."""
    options = ("--nworkers", 2, "--nthreads", 1, "--memory-limit", 0, "--no-dashboard")
    running = start("worker", scheduler, *options)
    yield scheduler
    running.terminate()
    running.wait()


def is_gone(group):
    """Tell whether a group has no processes any more."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_a_scheduler_without_workers_is_wrong_usage(place, scheduler, caplog, monkeypatch):
    monkeypatch.setattr(cluster, "FIRST_WORKER_S", 0.1)
    output = place / "without"
    assert run(place / "in", output, place / "weights", "--dask", scheduler) == 2
    assert "has no workers" in errors(caplog)[0]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://here", "tcp://nowhere"])
def test_a_wrong_address_is_wrong_usage(place, address, caplog, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    output = place / "wrong"
    assert run(place / "in", output, place / "weights", "--dask", address) == 2
    (line,) = errors(caplog)
    assert line.startswith(f"{address}: ")
    assert "dask scheduler" in line
    assert not list(output.iterdir())
    gc.collect()  # clients that never connected: Dask cannot start one while it drops another


@pytest.mark.slow
def test_a_cluster_gives_the_files_of_one_process(place, expected, workers, caplog):
    output = place / "cluster"
    with caplog.at_level("INFO"):
        assert run(place / "in", output, place / "weights", "--dask", workers) == 0
    assert contents(output) == expected
    processes = {r.getMessage() for r in caplog.records if "at work" in r.getMessage()}
    assert len(processes) == 2
    assert not any(str(os.getpid()) in said for said in processes)
    for name in ("slide.bmp", "small1.png", "small2.png", "small3.png"):
        assert sum(r.getMessage().startswith(f"{name}: ") for r in caplog.records) == 1


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 3])
def test_the_number_of_workers_changes_nothing(place, expected, n_workers):
    output = place / f"of {n_workers}"
    assert run(place / "in", output, place / "weights", "--workers", n_workers) == 0
    assert contents(output) == expected


@pytest.mark.slow
def test_a_known_diameter_gives_the_files_of_one_process(place, expected, workers, caplog):
    told = ("--diameter", 9)
    assert run(place / "in", place / "told", place / "weights", *told) == 0
    for name, way in (("told cluster", ("--dask", workers)), ("told workers", ("--workers", 2))):
        caplog.clear()
        assert run(place / "in", place / name, place / "weights", *told, *way, "-v") == 0
        assert caplog.text.count(": 1.56 network pixels a pixel") == 4
        assert contents(place / name) == contents(place / "told") != expected


@pytest.mark.slow
def test_what_fails_on_a_worker_is_told_as_ever(place, workers, caplog):
    source, output = place / "bad", place / "of bad"
    write_inputs(source, n_small=1)
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    assert run(source, output, place / "weights", "--dask", workers) == 1
    assert sorted(contents(output)) == ["slide_label.tiff", "small1_label.tiff"]
    (line,) = errors(caplog)
    assert line.startswith("broken.png: ")


@pytest.mark.slow
def test_blocks_that_kill_their_workers_are_an_error_of_the_slide(place, expected, workers, caplog):
    source, output = write_inputs(place / "slide alone", n_small=0), place / "killing"
    (place / "weights" / DEATH).write_text("always")
    assert run(source, output, place / "weights", "--dask", workers) == 1
    (line,) = errors(caplog)
    assert line.startswith("slide.bmp: every worker that took a part of it ended")
    (place / "weights" / DEATH).unlink()
    again = (source, output, place / "weights", "--dask", workers)
    wait_until(lambda: run(*again) == 0, "no workers came back")  # a late one may die first
    assert contents(output) == {"slide_label.tiff": expected["slide_label.tiff"]}


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(place, expected):
    output = place / "killed"
    (place / "weights" / DEATH).write_text("once")
    assert run(place / "in", output, place / "weights", "--workers", 2) == 0
    assert not (place / "weights" / DEATH).exists()
    assert contents(output) == expected


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_too_and_the_slide_goes_on(place, expected, tmp_path):
    output, program = place / "interrupted", tmp_path / "program.py"
    program.write_text(INTERRUPTED_RUN)
    (place / "weights" / SLOWNESS).touch()
    places = ("-i", place / "in", "-o", output, "--weights", place / "weights", "--workers", 2)
    running = subprocess.Popen(
        [sys.executable, program, *map(str, places)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: any(output.glob(".slide_label.blocks/*/*.block")), "no blocks")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    said = running.communicate(timeout=PATIENCE_S)[1]
    assert running.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said, said
    wait_until(lambda: is_gone(running.pid), "processes are left")
    assert not (output / "slide_label.tiff").exists()
    (place / "weights" / SLOWNESS).unlink()
    assert run(place / "in", output, place / "weights") == 0  # in one process
    assert contents(output) == expected
