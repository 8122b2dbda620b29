import csv
import os
import signal
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

import training.loop
from training.loop import (
    DivergedError,
    LoopSettings,
    StopRequest,
    Trainer,
    learning_rate,
    update_average,
)

QUICK = LoopSettings(steps=4, batch=2, warmup=2, validate_every=2, checkpoint_every=3)


class TinyTask:
    """Learn the mean of three channels; validation gives the scores it is told."""

    def __init__(self, scores=(), n_channels=3) -> None:
        self.scores, self.n_channels = list(scores), n_channels
        self.seeds: list[tuple[int, int]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def build(self) -> nn.Module:
        layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)
        return nn.Sequential(*layers)

    def name_batch(self, n, seed):
        return [f"image {seed[1]}.{k}" for k in range(n)]

    def draw_batch(self, n, seed):
        self.seeds.append(seed)
        image = np.random.default_rng(seed).random((n, self.n_channels, 8, 8), np.float32)
        return {"image": image, "goal": image.mean(1, keepdims=True)}

    def loss(self, model, batch):
        return ((model(batch["image"]).float() - batch["goal"]) ** 2).mean()

    def validate(self, model) -> float:
        assert not model.training
        self.validated.append({k: v.clone() for k, v in model.state_dict().items()})
        return self.scores.pop(0) if self.scores else 0.5


class StopAfter:
    """Stand-in for a signal that comes during a step."""

    def __init__(self, trainer: Trainer, step: int) -> None:
        self.trainer, self.step = trainer, step

    @property
    def is_set(self) -> bool:
        return self.trainer.progress.step >= self.step


def make_trainer(run_dir, task=None, settings=QUICK):
    return Trainer(task or TinyTask(), settings, run_dir, "cpu")


def assert_same_tensors(first, second):
    """Compare nested dicts, lists and tensors, bit for bit."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_tensors(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same_tensors(a, b)
    else:
        assert first == second


def all_state(trainer):
    progress = asdict(trainer.progress)
    assert progress.pop("seconds") > 0
    return {
        "model": trainer.model.state_dict(),
        "average": trainer.average.state_dict(),
        "best": trainer.best_state(),
        "optimiser": trainer.optimiser.state_dict(),
        "progress": progress,
    }


def test_the_rate_rises_then_falls_along_a_cosine():
    settings = LoopSettings(steps=200, lr=1e-3, warmup=20)
    rates = [learning_rate(step, settings) for step in range(200)]
    assert rates[0] == pytest.approx(1e-3 / 20)
    assert np.argmax(rates) == 19
    assert rates[19] == pytest.approx(1e-3, rel=0.03)
    assert learning_rate(100, settings) == pytest.approx(0.505e-3)
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[-1] == pytest.approx(1e-5, rel=0.02)
    assert learning_rate(200, settings) == pytest.approx(1e-5)


def test_the_rate_is_halved_at_each_interval():
    settings = LoopSettings(steps=100, lr=0.8, schedule="halving", halve_every=20, warmup=1)
    rates = [learning_rate(step, settings) for step in range(100)]
    np.testing.assert_allclose(rates, np.repeat([0.8, 0.4, 0.2, 0.1, 0.05], 20))
    risen = replace(settings, warmup=10)
    assert [learning_rate(step, risen) for step in (0, 4, 9)] == pytest.approx([0.08, 0.4, 0.8])


@pytest.mark.parametrize("schedule", ["cosine", "halving"])
def test_a_run_without_warmup_starts_at_the_full_rate(schedule):
    settings = LoopSettings(steps=10, lr=1.0, schedule=schedule, warmup=0)
    assert learning_rate(0, settings) == 1.0


def test_the_average_follows_fast_at_first_and_slowly_later():
    model, average = (nn.BatchNorm1d(1) for _ in range(2))
    assert model.running_mean is not None
    assert average.running_mean is not None
    for step, keep in ((0, 0.1), (10, 11 / 20), (10000, 0.99)):
        nn.init.constant_(model.weight, 5.0)
        model.running_mean.fill_(3.0)
        nn.init.constant_(average.weight, 1.0)
        average.running_mean.fill_(1.0)
        model.num_batches_tracked = torch.tensor(step)
        update_average(average, model, 0.99, step)
        assert average.weight.item() == pytest.approx(keep + 5 * (1 - keep))
        assert average.running_mean.item() == pytest.approx(keep + 3 * (1 - keep))
        assert average.num_batches_tracked == step


@pytest.mark.parametrize("optimiser", ["adamw", "nadam", "sgd"])
@pytest.mark.parametrize("n_first", [1, 2, 3])
def test_a_resumed_run_is_the_run_in_one_go(tmp_path, optimiser, n_first):
    settings = replace(QUICK, optimiser=optimiser)
    whole = make_trainer(tmp_path / "whole", settings=settings)
    assert whole.run()
    first = make_trainer(tmp_path / "parts", settings=settings)
    assert not first.run(StopAfter(first, n_first))
    assert first.progress.step == n_first
    torch.manual_seed(99)  # nothing may depend on it
    second = make_trainer(tmp_path / "parts", settings=settings)
    assert second.progress.step == n_first
    assert second.run()
    assert_same_tensors(all_state(second), all_state(whole))
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    class Killed(TinyTask):
        steps = iter(range(3))

        def loss(self, model, batch):
            if next(self.steps, None) is None:
                raise KeyboardInterrupt
            return super().loss(model, batch)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "killed", Killed()).run()
    resumed, whole = make_trainer(tmp_path / "killed"), make_trainer(tmp_path / "whole")
    assert resumed.progress.step == 3
    assert resumed.run()
    assert whole.run()
    assert_same_tensors(all_state(resumed), all_state(whole))


def test_a_finished_run_stays_as_it_is(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.run()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    again = make_trainer(tmp_path)
    assert again.run()
    assert_same_tensors(all_state(again), all_state(trainer))
    assert again.task.validated == []
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    files = {p.name for p in tmp_path.iterdir()} - {"events"}
    assert files == {"checkpoint.pt", "metrics.csv", "curves.svg"}


def test_a_stop_during_the_last_step_is_no_stop(tmp_path):
    trainer = make_trainer(tmp_path)
    assert trainer.run(StopAfter(trainer, 4))


def test_each_step_draws_its_own_crops(tmp_path):
    task = TinyTask()
    make_trainer(tmp_path, task, replace(QUICK, seed=7)).run()
    assert sorted(task.seeds) == [(7, 0), (7, 1), (7, 2), (7, 3)]


def test_weights_depend_on_the_seed_alone(tmp_path):
    states: list[torch.Tensor] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(states))
        trainer = make_trainer(tmp_path / name, settings=replace(QUICK, seed=seed))
        states.append(trainer.model.state_dict()["0.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_best_validated_weights_are_kept(tmp_path):
    task = TinyTask([0.2, 0.8, 0.8, 0.3])
    trainer = make_trainer(tmp_path, task, replace(QUICK, steps=8))
    trainer.run()
    assert (trainer.progress.best_f1, trainer.progress.best_step) == (0.8, 4)
    assert_same_tensors(trainer.best_state(), task.validated[1])
    resumed = make_trainer(tmp_path, task, replace(QUICK, steps=8))
    assert_same_tensors(resumed.best_state(), task.validated[1])


def test_before_any_validation_the_average_is_best(tmp_path):
    trainer = make_trainer(tmp_path)
    assert_same_tensors(trainer.best_state(), trainer.average.state_dict())


def test_metrics_have_a_row_a_validation(tmp_path):
    trainer = make_trainer(tmp_path, TinyTask([0.25, 0.5, 0.75]), replace(QUICK, steps=5))
    trainer.run()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["val_f1"]) for row in rows] == [
        ("2", "0.25"),
        ("4", "0.5"),
        ("5", "0.75"),
    ]
    assert all(float(row["loss"]) > 0 for row in rows)


def test_losses_have_a_row_every_few_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(training.loop, "REPORT_EVERY", 2)

    def rows(name, *stops):
        settings = replace(QUICK, steps=5, warmup=0, schedule="halving", halve_every=2)
        for stop in stops:
            trainer = make_trainer(tmp_path / name, settings=settings)
            trainer.run(StopAfter(trainer, stop))
        with (tmp_path / name / "losses.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    whole = rows("whole", 9)
    assert [row["step"] for row in whole] == ["2", "4"]
    assert [float(row["lr"]) for row in whole] == [1e-3, 0.5e-3]
    # a row is the mean of its steps, those before a stop included
    assert rows("parts", 1, 3, 9) == whole


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_run_that_diverges_stops_and_names_the_batch(tmp_path, what):
    class Diverging(TinyTask):
        def loss(self, model, batch):
            loss = super().loss(model, batch)
            if self.is_bad(batch):
                # the root of 0 has a value and no gradient
                loss = loss * float("nan") if what == "loss" else loss + (loss * 0).sqrt()
            return loss

        def is_bad(self, batch):
            bad = np.random.default_rng((0, 4)).random((2, 3, 8, 8), np.float32)
            return torch.equal(batch["image"], torch.from_numpy(bad))

    settings = replace(QUICK, steps=8)
    trainer = make_trainer(tmp_path, Diverging(), settings)
    with pytest.raises(DivergedError, match=rf"the {what} of step 5 is .*image 4\.0, image 4\.1"):
        trainer.run()
    resumed = make_trainer(tmp_path, settings=settings)
    assert resumed.progress.step == 3  # the last checkpoint
    assert all(bool(torch.isfinite(v).all()) for v in resumed.model.state_dict().values())
    assert resumed.run()


def test_a_seed_gives_the_same_weights(tmp_path):
    first, again, other = (
        make_trainer(tmp_path / name, settings=replace(QUICK, seed=seed))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    for trainer in (first, again, other):
        trainer.run()
    assert_same_tensors(again.best_state(), first.best_state())
    assert not torch.equal(first.best_state()["0.weight"], other.best_state()["0.weight"])


def test_training_learns(tmp_path):
    settings = LoopSettings(60, batch=4, lr=0.03, warmup=5, validate_every=20, checkpoint_every=60)
    trainer = make_trainer(tmp_path, settings=settings)
    trainer.run()
    losses = [row["loss"] for row in trainer.progress.history]
    assert losses[-1] < 0.5 * losses[0]


@pytest.fixture
def _old_handlers():
    """Put back the handlers that a StopRequest replaces."""
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_old_handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_and_the_second_kills(number):
    stop = StopRequest()
    assert not stop.is_set
    os.kill(os.getpid(), number)
    assert stop.is_set
    assert signal.getsignal(number) is signal.SIG_DFL
