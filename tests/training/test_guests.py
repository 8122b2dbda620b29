import pytest

from tests.training.folders import add_unlabelled, write_synthetic_data
from training.data import DataError, list_records
from training.experts import Choices, build_task, plan_expert
from training.recipes import RECIPES


@pytest.fixture
def records(tmp_path):
    folder = write_synthetic_data(tmp_path / "data", ["phase", "fluorescence", "brightfield"])
    add_unlabelled(folder, "fluorescence")
    return list_records(folder)


def plan(records, **choices):
    return plan_expert(
        "cellpose_fluorescence", RECIPES["cellpose_fluorescence"], records, **choices
    )


def test_an_expert_learns_guests_but_is_judged_on_its_own_modality(records, tmp_path):
    task = build_task(plan(records, choices=Choices(batch=2)), None, tmp_path / "runs")
    assert {field.modality for field in task.train} == {"phase", "fluorescence", "brightfield"}
    assert {field.modality for field in task.validation} == {"fluorescence"}
    assert task.guests == {"phase_set", "brightfield_set"}
    own = [group[0].modality == "fluorescence" for group in task.sampler.groups]
    guest_share = RECIPES["cellpose_fluorescence"].guest_share
    assert task.sampler.share[own].sum() == pytest.approx(1 - guest_share)


def test_unlabelled_guests_teach_nothing(records, tmp_path):
    add_unlabelled(tmp_path / "data", "phase")
    commission = plan(list_records(tmp_path / "data"), choices=Choices(batch=2, semi="cycle"))
    assert {record.modality for record in commission.unlabelled} == {"fluorescence"}


def test_guests_alone_are_not_enough(records):
    guests = [record for record in records if record.modality != "fluorescence"]
    with pytest.raises(DataError, match="no labelled training images of fluorescence"):
        plan(guests, choices=Choices())
