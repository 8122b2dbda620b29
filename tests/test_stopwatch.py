import json
import subprocess
import sys
import threading
import time

import pytest

from stopwatch import (
    STAGES,
    Stopwatch,
    describe_profile,
    peak_resident_mib,
    seconds_since_process_start,
)


@pytest.fixture
def clock(monkeypatch):
    """Give time to the test: it passes when the test says so."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_stages_add_up_and_inner_ones_count_alone(clock):
    watch = Stopwatch()
    clock(1)
    with watch.stage("decoding"):
        clock(2)
        with watch.stage("network"):
            clock(4)
        clock(8)
    clock(16)
    with watch.stage("network"):
        clock(32)
    seconds = watch.seconds()
    assert tuple(seconds) == STAGES
    assert seconds["network"] == 36
    assert seconds["decoding"] == 10
    assert seconds["other"] == 17
    assert sum(seconds.values()) == 63


def test_what_is_done_to_choose_a_scale_counts_for_that_but_not_the_waiting(clock):
    watch = Stopwatch()
    with watch.stage("decoding"), watch.stage("scale"):
        clock(1)
        with watch.stage("waiting"):
            clock(2)
        with watch.stage("network"):
            clock(4)
            with watch.stage("decoding"):
                clock(8)
    with watch.stage("network"):
        clock(16)
    seconds = watch.seconds()
    assert (seconds["scale"], seconds["waiting"], seconds["network"]) == (13, 2, 16)
    assert seconds["decoding"] == 0


def test_a_running_stage_is_counted_until_now(clock):
    watch = Stopwatch()
    with watch.stage("weights"):
        clock(3)
        assert watch.seconds()["weights"] == 3
        clock(1)
    assert watch.seconds()["weights"] == 4


def test_only_stages_that_ran_since_are_given(clock):
    watch = Stopwatch()
    with watch.stage("weights"):
        clock(3)
    before = watch.seconds()
    with watch.stage("network"):
        clock(5)
    assert watch.since(before) == {"network": 5}


def test_an_error_ends_its_stage(clock):
    watch = Stopwatch()

    def fail():
        with watch.stage("routing"):
            clock(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    clock(5)
    assert watch.seconds()["routing"] == 1
    assert watch.seconds()["other"] == 5


def test_a_thread_that_follows_has_a_page_of_its_own(clock):
    watch = Stopwatch()
    seen = {}

    def work():
        with watch.stage("network"):  # not counted: it does not follow yet
            clock(100)
        with watch.follow():
            before = watch.seconds()
            with watch.stage("decoding"):
                clock(2)
            seen.update(watch.since(before))

    with watch.stage("waiting"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    clock(1)
    assert seen == {"decoding": 2}
    own = watch.seconds()
    assert (own["waiting"], own["decoding"], own["other"]) == (102, 0, 1)
    everything = watch.all_seconds()
    assert (everything["waiting"], everything["decoding"], everything["other"]) == (0, 2, 1)


def test_a_follower_that_waits_is_told(clock):
    watch = Stopwatch()
    with watch.follow(), watch.stage("waiting"):
        clock(3)
    assert watch.all_seconds()["waiting"] == 3


def test_time_before_the_watch_can_be_added(clock):
    watch = Stopwatch()
    watch.add("start", 0.25)
    assert watch.seconds()["start"] == 0.25


def test_an_unknown_stage_is_refused(clock):
    with (
        pytest.raises(ValueError, match=r"unknown stage 'lunch'.*network"),
        Stopwatch().stage("lunch"),
    ):
        pass


def test_a_profile_is_a_table_and_a_line_for_programs():
    seconds = dict.fromkeys(STAGES, 0.0) | {"network": 3.0, "decoding": 1.0}
    *rows, last = describe_profile(seconds).splitlines()
    assert any(row.split() == ["network", "3.000", "s", "75.0", "%"] for row in rows)
    name, _, record = last.partition(" ")
    assert name == "PROFILE"
    profile = json.loads(record)
    assert set(profile) == {"total_s", "peak_rss_mib", "stages"}
    assert profile["total_s"] == 4.0
    assert profile["stages"] == seconds


def test_stages_side_by_side_leave_the_total_to_the_clock():
    seconds = dict.fromkeys(STAGES, 0.0) | {"network": 3.0, "decoding": 3.0}
    last = describe_profile(seconds, elapsed=4.0).splitlines()[-1]
    assert json.loads(last.removeprefix("PROFILE "))["total_s"] == 4.0


def test_no_time_at_all_can_be_described():
    assert "0.0 %" in describe_profile(dict.fromkeys(STAGES, 0.0))


def test_the_system_knows_when_this_process_began():
    code = (
        "import time; time.sleep(0.3); from stopwatch import seconds_since_process_start as s;"
        "print(s())"
    )
    began = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    passed = time.perf_counter() - began
    assert 0.3 <= float(run.stdout) <= passed + 0.02  # the kernel counts in steps of 10 ms


def test_the_peak_is_that_of_this_process():
    def peak(n_mib):
        code = (
            f"b = bytes([1]) * ({n_mib} << 20); from stopwatch import peak_resident_mib as p;"
            "print(p())"
        )
        command = [sys.executable, "-c", code]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    held = bytes([1]) * (100 << 20)  # which the children do not hold
    small, large = peak(0), peak(60)
    assert small < 50 < len(held) / 2**20
    assert large - small == pytest.approx(60, abs=10)


def test_a_system_that_does_not_tell_gives_a_guess(monkeypatch, tmp_path):
    monkeypatch.setattr("stopwatch.Path", lambda _: tmp_path / "none")
    assert seconds_since_process_start() == 0.0
    assert peak_resident_mib() > 1
