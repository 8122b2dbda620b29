import json
import logging
from typing import Any

import pytest

from bench.__main__ import main
from bench.rows import Row, read_report
from bench.suite import BENCHES, Bench, Plan, lazily, run_bench
from tests.bench.test_baseline import MACHINE


def quick(plan):
    """Stand in for a benchmark."""
    yield Row("one step", "s", (2.0, 1.0, 3.0)[: plan.n_repeats], n_warm_up=1)
    yield Row("what it holds", "MiB", (50.0,), note="alone | in a process")


def broken(plan):
    (plan.folder / "half.txt").write_text("done")
    yield Row("first half", "s", (1.0,))
    raise RuntimeError("no such network")


def with_peer(plan):
    yield Row("against the peer", "ratio", (4.0,), more_is_better=True)


QUICK = Bench("stands in", quick)
BENCHES_HERE = {
    "quick": QUICK,
    "broken": Bench("fails half-way", broken),
    "peer": Bench("needs another environment", with_peer, needs_peer=True),
}


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command; gives exit code, the table and the report."""

    def run(*arguments, benches=BENCHES_HERE):
        code = main(["-o", str(tmp_path / "out"), *arguments], benches)
        return code, capsys.readouterr().out, read_report(tmp_path / "out" / "bench.json")

    return run


def keys(report):
    return [row.key for row in report.rows]


def test_one_command_makes_table_file_and_picture(run, tmp_path):
    code, table, report = run("--only", "quick")
    assert code == 0
    assert keys(report) == [("quick", "one step"), ("quick", "what it holds")]
    assert report.rows[0].values == (2.0, 1.0, 3.0)
    assert report.failures == ()
    assert report.machine["versions"]["numpy"]
    assert report.commit
    assert report.created
    assert "| quick | one step | 2.000 | 1.000 | 3.000 | s | 3 |" in table
    assert "alone / in a process" in table
    assert (tmp_path / "out" / "bench.svg").read_text().startswith("<svg")


def test_a_bench_that_fails_is_told_and_the_others_go_on(run):
    code, table, report = run()
    assert code == 1
    assert {bench for bench, _ in keys(report)} == {"quick", "broken", "peer"}
    assert ("broken", "first half") in keys(report)
    (failure,) = report.failures
    assert failure.bench == "broken"
    assert failure.error == "RuntimeError: no such network"
    assert "**failed:** RuntimeError: no such network" in table


def test_the_peer_can_be_left_out(run):
    _, _, report = run("--no-peer", "--only", "quick", "peer")
    assert {bench for bench, _ in keys(report)} == {"quick"}


def test_what_takes_long_on_a_cpu_must_be_named_there(run, monkeypatch, capsys):
    benches = BENCHES_HERE | {"long": Bench("takes an hour", quick, is_long=True)}
    assert "long" not in {bench for bench, _ in keys(run(benches=benches)[2])}
    assert {bench for bench, _ in keys(run("--only", "long", benches=benches)[2])} == {"long"}
    main(["--list"], benches)
    assert "takes an hour; on a CPU only if named by --only" in capsys.readouterr().out
    monkeypatch.setattr("bench.__main__.prepare_device", lambda device: device)
    monkeypatch.setattr("bench.__main__.describe_machine", lambda _: MACHINE)
    _, _, report = run("--device", "cuda", benches=benches)
    assert "long" in {bench for bench, _ in keys(report)}
    assert report.settings["device"] == "cuda"


def test_a_gpu_that_is_not_there_ends_the_run_before_it_begins(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("models.registry.count_gpus", lambda: 0)
    assert main(["-o", str(tmp_path / "out"), "--device", "cuda"], BENCHES_HERE) == 2
    assert "no CUDA device found" in caplog.text
    assert not (tmp_path / "out").exists()


def test_the_device_reaches_the_benches(run, monkeypatch):
    seen = []

    def look(plan):
        seen.append(plan.device)
        yield from quick(plan)

    benches = {"look": Bench("", look)}
    run(benches=benches)
    monkeypatch.setattr("bench.__main__.prepare_device", lambda device: device)
    monkeypatch.setattr("bench.__main__.describe_machine", lambda _: MACHINE)
    run("--device", "cuda", benches=benches)
    assert seen == ["cpu", "cuda"]


def test_repeats_and_quick_reach_the_benches(run):
    assert len(run("--only", "quick", "--repeat", "2")[2].rows[0].values) == 2
    assert len(run("--only", "quick", "--quick")[2].rows[0].values) == 1


def test_the_settings_reach_the_benches(run, tmp_path):
    seen = []

    def look(plan):
        seen.append(plan)
        yield from quick(plan)

    cache = tmp_path / "cache"
    options = ["--images", "7", "--kinds", "dic", "phase", "--cache", str(cache)]
    run(*options, "--torch-index-url", "https://example.org", benches={"look": Bench("", look)})
    (plan,) = seen
    assert (plan.n_images, plan.kinds, plan.cache) == (7, ("dic", "phase"), cache)
    assert plan.torch_index_url == "https://example.org"
    assert not plan.folder.exists()  # nothing is left behind


def test_a_run_is_compared_with_a_stored_one(run, tmp_path):
    stored = tmp_path / "stored.json"
    options = ("--only", "quick")
    assert run(*options, "--save-baseline", str(stored))[0] == 0
    code, table, _ = run(*options, "--compare", str(stored))
    assert code == 0
    assert "| 2.000 | 1.00 |" in table
    plain = json.loads(stored.read_text())
    plain["rows"][0]["values"] = [0.5, 0.5, 0.5]
    stored.write_text(json.dumps(plain))
    code, table, _ = run(*options, "--compare", str(stored))
    assert code == 1
    assert "| 0.500 | 4.00 | **worse** |" in table


def test_a_baseline_of_too_few_runs_is_stored_and_said(run, tmp_path, caplog):
    stored = tmp_path / "stored.json"
    assert run("--only", "quick", "--repeat", "2", "--save-baseline", str(stored))[0] == 0
    assert "times of fewer than 3 runs judge nothing" in caplog.text
    assert stored.exists()


def test_a_run_with_a_failure_is_no_baseline(run, tmp_path):
    stored = tmp_path / "stored.json"
    assert run("--save-baseline", str(stored))[0] == 1
    assert not stored.exists()


def test_a_baseline_that_cannot_be_read_ends_the_run_before_it_begins(tmp_path, caplog):
    path = tmp_path / "none.json"
    assert main(["-o", str(tmp_path / "out"), "--compare", str(path)], BENCHES_HERE) == 2
    assert str(path) in caplog.text
    assert not (tmp_path / "out").exists()


def test_the_benches_are_listed(capsys):
    assert main(["--list"], BENCHES_HERE) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["broken", "fails", "half-way"]


@pytest.mark.parametrize("wrong", [["--only", "none"], ["--repeat", "0"], ["--kinds", "x"]])
def test_wrong_usage_ends_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(wrong, BENCHES_HERE)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_bench_that_cannot_be_imported_fails_alone(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    outcome = run_bench(
        "gone", Bench("", lazily("bench.no_such:measure")), Plan(tmp_path, tmp_path)
    )
    assert outcome.rows == ()
    assert outcome.failure is not None
    assert "bench.no_such" in outcome.failure.error
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("name", BENCHES)
def test_every_registered_bench_exists(name):
    nothing: Any = None
    with pytest.raises(AttributeError, match="'NoneType' object"):  # found; it asks for its plan
        next(BENCHES[name].measure(nothing))
