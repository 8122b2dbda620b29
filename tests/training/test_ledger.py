from dataclasses import replace

import numpy as np
import pytest

from tests.training.folders import write_record
from training.ledger import Ledger, digest_records

PLAN = {"recipe": {"loop": {"steps": 100, "lr": 0.1}, "scale": (0.5, 2.0)}, "start": "a"}


def test_a_plan_is_finished_when_it_was_carried_out(tmp_path):
    ledger = Ledger(tmp_path / "run")
    assert not ledger.is_finished(PLAN)
    ledger.begin(PLAN)
    assert not ledger.is_finished(PLAN)
    ledger.finish(PLAN, "proof")
    assert Ledger(tmp_path / "run").is_finished(PLAN, "proof")
    assert not ledger.is_finished(PLAN, "another file")
    assert not ledger.is_finished(PLAN | {"start": "b"}, "proof")
    ledger.begin(PLAN)
    assert not ledger.is_finished(PLAN, "proof")


@pytest.mark.parametrize("content", ["", "{", "[1, 2]"])
def test_a_damaged_ledger_counts_as_none(tmp_path, content, caplog):
    (tmp_path / "plan.json").write_text(content)
    ledger = Ledger(tmp_path)
    assert not ledger.is_finished(PLAN)
    ledger.begin(PLAN)
    assert not caplog.records


def test_another_plan_is_a_warning_that_names_what_differs(tmp_path, caplog):
    ledger = Ledger(tmp_path)
    ledger.begin(PLAN)
    ledger.begin(PLAN)
    longer = {"recipe": {"loop": {"steps": 200, "lr": 0.1}, "scale": (0.5, 2.0)}, "start": "a"}
    ledger.begin(longer)
    assert not caplog.records  # more steps are no other plan
    ledger.begin({"recipe": {"loop": {"steps": 200, "lr": 0.2}, "scale": (0.5, 2.0)}})
    (record,) = caplog.records
    assert "recipe.loop.lr, start" in record.getMessage()


def test_records_are_known_by_what_they_are_not_where(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    cells = np.ones((8, 8), np.int32)
    first = [write_record(tmp_path / "a", cells, name) for name in "xy"]
    moved = [write_record(tmp_path / "b", cells, name) for name in "yx"]
    assert digest_records(first) == digest_records(moved)
    others = [
        first[:1],
        [first[0], replace(first[1], modality="dic")],
        [first[0], replace(first[1], label=None)],
        [first[0], write_record(tmp_path / "b", np.ones((9, 8)), "y")],
    ]
    assert len({digest_records(records) for records in (first, *others)}) == 5
