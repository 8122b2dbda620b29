import json

import pytest

from bench.machine import ABSENT, describe_machine, find_version
from bench.rows import (
    Failure,
    Report,
    ReportError,
    Row,
    pair_ratios,
    read_report,
    write_report,
)

MACHINE = describe_machine()
ROW = Row("a step", "s", (3.0, 1.0, 2.5), n_warm_up=2, note="alone", bench="quick")


def report(*rows, failures=()):
    return Report(
        "2026-01-01T00:00:00Z", "abc", MACHINE, {"repeats": 3}, rows, failures, {"a": 1.5}
    )


def test_a_row_has_the_middle_and_the_ends_of_its_values():
    assert (ROW.median, ROW.low, ROW.high) == (2.5, 1.0, 3.0)
    assert ROW.key == ("quick", "a step")


def test_a_report_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "bench.json"
    faster = Row("times faster", "ratio", (4.0,), more_is_better=True, bench="quick")
    written = report(ROW, faster, failures=(Failure("other", "OSError: gone"),))
    write_report(path, written)
    assert read_report(path) == written
    plain = json.loads(path.read_text())
    assert plain["rows"][0]["median"] == 2.5
    assert plain["rows"][0]["low"] == 1.0


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "rows": []}', '{"format": 1, "rows": [{}], "failures": []}'],
)
def test_other_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"other\.json"):
        read_report(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReportError, match="No such file"):
        read_report(tmp_path / "none.json")


def test_ratios_are_taken_round_by_round():
    assert pair_ratios([2.0, 6.0], [1.0, 2.0]) == (2.0, 3.0)
    with pytest.raises(ValueError, match="zip"):
        pair_ratios([1.0], [1.0, 2.0])


def test_the_machine_is_described_for_json():
    assert json.loads(json.dumps(MACHINE)) == MACHINE
    assert MACHINE["cores"] >= 1
    assert MACHINE["versions"]["numpy"] == find_version("numpy") != ABSENT
    assert find_version("no-such-package") == ABSENT
