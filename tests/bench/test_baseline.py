from dataclasses import replace

import pytest

from bench.baseline import BASELINES, compare_reports, is_same_machine, judge, name_baseline
from bench.rows import Failure, Report, Row
from bench.table import format_report

MACHINE = {
    "processor": "Some CPU (R) @ 2 GHz",
    "cores": 4,
    "precision": "f32",
    "memory_gib": 8.0,
    "load": 0.1,
    "python": "3.11",
    "versions": {"numpy": "2.0"},
}


def row(*values, unit="s", name="step", more_is_better=False):
    return Row(name, unit, values, more_is_better, bench="quick")


def report(*rows, machine=MACHINE, failures=()):
    return Report("2026-01-01T00:00:00Z", "abc", machine, {}, rows, failures)


@pytest.mark.parametrize(
    ("now", "before", "verdict"),
    [
        (row(1.5, 1.6, 1.7), row(1.0, 1.1, 1.2), "worse"),
        (row(1.0, 1.1, 1.2), row(1.5, 1.6, 1.7), "better"),
        (row(1.2, 1.6, 1.7), row(1.0, 1.1, 1.2), ""),  # one run was as fast as before
        (row(1.07, 1.08, 1.09), row(1.0, 1.01, 1.02), ""),  # too small a change to tell
        (row(0.008, 0.008, 0.009), row(0.004, 0.004, 0.003), ""),  # less than the clock tells
        (row(1.5, 1.6), row(1.0, 1.1, 1.2), ""),  # too few to know the noise
        (row(300, unit="MiB"), row(100, unit="MiB"), "worse"),
        (
            row(0.5, 0.4, 0.6, unit="ratio", more_is_better=True),
            row(0.9, 0.8, 0.9, unit="ratio", more_is_better=True),
            "worse",
        ),
        (
            row(0.9, 0.8, 0.9, unit="ratio", more_is_better=True),
            row(0.5, 0.4, 0.6, unit="ratio", more_is_better=True),
            "better",
        ),
    ],
)
def test_only_what_exceeds_the_noise_is_marked(now, before, verdict):
    assert judge(now, before) == verdict


def test_rows_are_paired_by_bench_and_name():
    other = replace(row(9.0), bench="other")
    changes = compare_reports(
        report(row(*[2.0] * 3), row(3.0, name="new")), report(other, row(*[1.0] * 3))
    )
    assert [(c.ratio, c.verdict) for c in changes] == [(2.0, "worse"), (None, "")]
    assert [c.before for c in compare_reports(report(row(2.0)), None)] == [None]


def test_a_zero_before_gives_no_ratio():
    (change,) = compare_reports(report(row(2.0)), report(row(0.0)))
    assert change.ratio is None


def test_another_machine_gives_ratios_but_no_verdict():
    now = report(row(2.0, 2.0, 2.0))
    before = report(row(1.0, 1.0, 1.0), machine=MACHINE | {"cores": 2})
    changes = compare_reports(now, before)
    assert [(c.ratio, c.verdict) for c in changes] == [(2.0, "")]
    assert "another machine (Some CPU (R) @ 2 GHz, 2 cores, f32)" in format_report(
        now, changes, before
    )


def test_a_table_says_what_of_the_baseline_is_missing():
    now, before = report(row(2.0)), report(row(2.0), row(1.0, name="gone"))
    text = format_report(now, compare_reports(now, before), before)
    assert "1 rows of the baseline were not measured" in text


def test_every_line_of_a_table_has_as_many_cells():
    now = report(row(2.0), failures=(Failure("other", "RuntimeError: a | b\nc"),))
    for before in (None, report(row(1.0))):
        text = format_report(now, compare_reports(now, before), before)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
        assert "RuntimeError: a / b c" in lines[-1]


def test_a_processor_that_computes_in_another_precision_is_another_machine():
    now = report(row(2.0))
    before = report(row(1.0), machine=MACHINE | {"precision": "bf16"})
    assert is_same_machine(now, now)
    assert not is_same_machine(now, before)
    assert name_baseline(before.machine) != name_baseline(now.machine)


def test_a_gpu_makes_another_machine_and_is_named():
    now = report(row(2.0), machine=MACHINE | {"gpu": "NVIDIA H200", "precision": "bf16"})
    before = report(row(1.0), machine=MACHINE | {"gpu": "NVIDIA L4", "precision": "bf16"})
    assert not is_same_machine(now, before)
    assert is_same_machine(report(machine=MACHINE | {"gpu": ""}), report())  # of older files
    expected = BASELINES / "some-cpu-r-2-ghz-4-cores-bf16-nvidia-h200.json"
    assert name_baseline(now.machine) == expected
    assert "4 cores, NVIDIA H200, bf16" in format_report(now, compare_reports(now, None), None)


def test_a_busy_machine_is_told():
    changes = compare_reports(report(row(2.0)), None)
    assert "busy" not in format_report(report(row(2.0)), changes, None)
    busy = report(row(2.0), machine=MACHINE | {"load": 3.2})
    assert "busy (load 3.2" in format_report(busy, changes, None)


def test_a_baseline_bears_the_name_of_its_machine():
    assert name_baseline(MACHINE) == BASELINES / "some-cpu-r-2-ghz-4-cores-f32.json"
