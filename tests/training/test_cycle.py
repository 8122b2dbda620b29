from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models.cpnet
from models.registry import load_segmenter
from tests.cells import draw_discs
from tests.training.folders import make_field, write_record
from training.augment import GeometrySettings
from training.cellpose_task import CellposeTask
from training.cycle import CycleJob, CycleSettings, run_cycles
from training.export import outcome_of
from training.fields import FieldSettings
from training.intensity import ColourSettings
from training.loop import LoopSettings, Trainer
from training.pseudo import PseudoMask, PseudoSettings

LOOP = LoopSettings(4, batch=1, validate_every=2, checkpoint_every=2)
CELLS = draw_discs((64, 64), [(y, x, 8) for y in (14, 34, 52) for x in (14, 34, 52)])


class Never:
    is_set = False


class Answers:
    """Stands for the expert: gives each image the cells of the test, and counts its calls."""

    def __init__(self, monkeypatch, agreement=1.0):
        self.n_images, self.agreement = 0, agreement
        self.teachers: list[Path] = []

        def note(name, device, weights_dir):
            self.teachers.append(weights_dir)
            return load_segmenter(name, device, weights_dir)

        monkeypatch.setattr("training.cycle.load_segmenter", note)
        monkeypatch.setattr("training.pseudo.predict_pseudo", self.answer)

    def answer(self, network, pixels, folder):
        assert network.forward(np.zeros((1, 64, 64, 3), np.float32)).shape == (1, 3, 64, 64)
        self.n_images += 1
        return PseudoMask(CELLS, np.ones(CELLS.shape, bool), self.agreement)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(models.cpnet, "WIDTHS", (4, 8, 8, 16))
    monkeypatch.setattr("training.size.N_CENTRES", 10)
    monkeypatch.setattr("training.size.SPREAD_PX", 96)
    yield
    load_segmenter.cache_clear()


@pytest.fixture
def scores(monkeypatch):
    """Let each validation give the next of some scores."""
    given: list[float] = []
    monkeypatch.setattr(CellposeTask, "validate", lambda *_: given.pop(0) if given else 0.0)
    return given


@pytest.fixture
def make_job(tmp_path):
    field = make_field(CELLS)
    colour, geometry = ColourSettings(blank=0.0), GeometrySettings(64)
    task = CellposeTask([field, field], [field], {}, geometry, colour)
    unlabelled = [
        replace(write_record(tmp_path, CELLS, name), label=None, split="unlabelled")
        for name in ("u", "v")
    ]

    def make(**changes):
        settings = CycleSettings(**{"n_cycles": 1, **changes})
        return CycleJob(
            "cellpose_dic", task, LOOP, unlabelled, FieldSettings(with_flow=True),
            tmp_path / "run", "cpu", settings,
        )  # fmt: skip

    return make


def supervise(job):
    trainer = Trainer(job.task, job.loop, job.run_dir, "cpu")
    trainer.run()
    return outcome_of(trainer)


def finish(job, supervised):
    outcome = run_cycles(job, supervised, Never())
    assert outcome is not None
    return outcome


def test_a_cycle_that_helps_ships(make_job, scores, monkeypatch):
    answers, job = Answers(monkeypatch), make_job(n_cycles=2)
    scores += [0.4, 0.5]  # supervised; then pseudo and labelled, one validation each, twice
    supervised = supervise(job)
    scores += [0.1, 0.6, 0.2, 0.55]
    outcome = finish(job, supervised)
    assert (outcome.validation_f1, outcome.stage) == (0.6, "cycle 1")
    assert outcome.steps == 4 + 4 * 2
    assert outcome.facts == {
        "semi_supervision": "cycle", "unlabelled": {"discs": 4}, "supervised_f1": 0.5,
    }  # fmt: skip
    assert len(set(answers.teachers)) == 2  # each cycle has a teacher of its own
    assert outcome.seconds > supervised.seconds
    assert not all(torch.equal(v, supervised.state[k]) for k, v in outcome.state.items())


def test_a_cycle_that_does_not_help_does_not_ship(make_job, scores, monkeypatch):
    Answers(monkeypatch)
    job = make_job()
    scores += [0.4, 0.5]
    supervised = supervise(job)
    scores += [0.9, 0.5]  # pseudo-masks alone do not ship, and no better is no reason
    outcome = finish(job, supervised)
    assert (outcome.stage, outcome.validation_f1) == ("supervised", 0.5)
    assert outcome.facts["supervised_f1"] == 0.5
    assert all(torch.equal(v, supervised.state[k]) for k, v in outcome.state.items())


def test_pseudo_masks_that_are_not_sure_end_the_cycles(make_job, scores, monkeypatch, caplog):
    Answers(monkeypatch, agreement=0.4)
    job = make_job()
    supervised = supervise(job)
    outcome = finish(job, supervised)
    assert outcome.stage == "supervised"
    assert outcome.facts["unlabelled"] == {}
    assert "no pseudo-mask is sure enough" in caplog.text
    lenient = make_job(pseudo=PseudoSettings(min_agreement=0.3))
    assert finish(lenient, supervised).facts["unlabelled"] == {"discs": 2}


@pytest.mark.parametrize("n_asked", [0, 2, 3])
def test_stopped_cycles_go_on_to_the_same_result(make_job, scores, monkeypatch, n_asked):
    class Later:
        """A stop that comes after some questions."""

        def __init__(self, n):
            self.n = n

        @property
        def is_set(self):
            self.n -= 1
            return self.n < 0

    answers, job = Answers(monkeypatch), make_job()
    supervised = supervise(job)
    assert run_cycles(job, supervised, Later(n_asked)) is None
    resumed = finish(job, supervised)
    assert answers.n_images == 2  # none is segmented twice
    whole = finish(replace(job, run_dir=job.run_dir / "whole"), supervised)
    assert resumed.steps == whole.steps
    assert all(torch.equal(v, whole.state[k]) for k, v in resumed.state.items())
