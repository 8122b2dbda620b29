import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import models.vgg16
from tests.cells import draw_touching_pairs
from tests.training.folders import make_field
from training.augment import GeometrySettings
from training.cross_task import ALPHA, CrossTask, Pair, cross_entropy_of_masks
from training.intensity import ColourSettings
from training.loop import LoopSettings, Trainer
from training.mask_task import CDNetTask, UNetTask
from training.start import Start, pick_better

TASKS = [CDNetTask, UNetTask]


@pytest.fixture(autouse=True)
def thin_networks(monkeypatch):
    monkeypatch.setattr(models.vgg16, "ENCODER", ((4,), (4,), (8,), (8,), (8,)))
    monkeypatch.setattr(models.vgg16, "DECODER", (8, 8, 8, 8, 16))


@pytest.fixture(scope="module")
def field():
    return make_field(draw_touching_pairs((96, 128), 10), with_flow=False)


def make_task(kind, field, **changes):
    blank = np.zeros(field.labels.shape, np.int32)
    unlabelled = make_field(blank, image=field.image, name="u", trusted=blank > 0, with_flow=False)
    colour = ColourSettings(blank=0.0)
    inner = kind([field], [field], {}, GeometrySettings(64), colour, **changes)
    return CrossTask(inner, [unlabelled])


def as_tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def test_the_paper_weighs_unlabelled_images_by_a_tenth():
    assert ALPHA == 0.1


def test_the_teacher_is_its_largest_class_and_learns_nothing():
    """Equations 3 and 4 by hand, pixel by pixel."""
    rng = np.random.default_rng(0)
    logits, teacher = (
        torch.tensor(rng.normal(size=(2, 3, 4, 5)), requires_grad=True) for _ in range(2)
    )
    loss = cross_entropy_of_masks(logits, teacher)
    total = 0.0
    for n, y, x in np.ndindex(2, 4, 5):
        pixel = logits[n, :, y, x].detach()
        total -= float(pixel[int(teacher[n, :, y, x].argmax())] - torch.logsumexp(pixel, 0))
    assert loss.item() == pytest.approx(total / 40)
    loss.backward()
    assert teacher.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize("kind", TASKS)
def test_the_loss_is_equation_five_of_both_networks(kind, field):
    task = make_task(kind, field)
    pair, batch = task.build().eval(), as_tensors(task.draw_batch(2, (0, 0)))
    labelled = task.inner.loss(pair.first, batch) + task.inner.loss(pair.second, batch)
    first, second = (n(batch["unlabelled"])[:, :3] for n in (pair.first, pair.second))
    crossed = F.cross_entropy(first, second.argmax(1)) + F.cross_entropy(second, first.argmax(1))
    assert task.loss(pair, batch).item() == pytest.approx((labelled + 0.1 * crossed).item())
    assert crossed.item() > 0


@pytest.mark.parametrize("kind", TASKS)
def test_two_networks_differ_and_both_learn(kind, field):
    task = make_task(kind, field)
    pair = task.build()
    weights = [network.body.encoder[0][0].weight for network in (pair.first, pair.second)]
    assert not torch.equal(*weights)
    task.loss(pair, as_tensors(task.draw_batch(2, (0, 0)))).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


def test_given_weights_start_both_bodies_and_one_head(field):
    source = UNetTask([field], []).build().state_dict()
    pair = make_task(UNetTask, field, init=Start(source, "a")).build()
    first, second = pair.first.state_dict(), pair.second.state_dict()
    assert all(torch.equal(first[k], source[k]) for k in source)
    differs = {k for k in source if not torch.equal(first[k], second[k])}
    assert differs == {"head.weight", "head.bias"}


def test_a_batch_depends_on_its_seed_alone_and_varies_colours(field):
    task = make_task(CDNetTask, field)
    first, again, other = (task.draw_batch(2, (0, step)) for step in (1, 1, 2))
    np.testing.assert_array_equal(first["unlabelled"], again["unlabelled"])
    assert not np.array_equal(first["unlabelled"], other["unlabelled"])
    assert first["unlabelled"].shape == first["image"].shape == (2, 3, 64, 64)
    assert not np.array_equal(first["unlabelled"], first["image"])
    # the labelled crops are those of the supervised training
    np.testing.assert_array_equal(first["image"], task.inner.draw_batch(2, (0, 1))["image"])
    assert task.name_batch(2, (0, 1)) == ["discs/a"] * 2 + ["unlabelled discs/u"] * 2


@pytest.mark.parametrize(("scores", "better"), [((0.3, 0.6), 1), ((0.6, 0.3), 0), ((0.5, 0.5), 0)])
def test_the_better_network_is_noted(field, monkeypatch, scores, better):
    task = make_task(UNetTask, field)
    pair = task.build()
    known = dict(zip((pair.first, pair.second), scores, strict=True))
    monkeypatch.setattr(task.inner, "validate", known.__getitem__)
    assert task.validate(pair) == max(scores)
    assert pair.better.item() == better


def test_the_better_network_of_the_best_validation_ships(field, tmp_path, monkeypatch):
    task = make_task(UNetTask, field)
    scores = iter([0.1, 0.7, 0.3, 0.2])  # first and second network, at steps 1 and 2
    seen = []

    def validate(network):
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(task.inner, "validate", validate)
    settings = LoopSettings(2, batch=1, validate_every=1, checkpoint_every=1)
    trainer = Trainer(task, settings, tmp_path, "cpu")
    assert trainer.run()
    again = Trainer(task, settings, tmp_path, "cpu")
    for state in (trainer.best_state(), again.best_state()):
        shipped = pick_better(state)
        assert shipped.keys() == seen[1].keys()
        assert all(torch.equal(shipped[k], seen[1][k]) for k in shipped)


def test_unlabelled_images_teach(field, tmp_path):
    """With a large weight the networks come to agree where nobody tells them what is right."""
    settings = LoopSettings(12, batch=1, lr=3e-3, warmup=1, validate_every=99, checkpoint_every=99)
    disagreement = []
    for alpha in (0.0, 20.0):
        task = make_task(UNetTask, field)
        task.alpha = alpha
        task.inner.validation = []
        trainer = Trainer(task, settings, tmp_path / str(alpha), "cpu")
        trainer.run()
        batch = torch.from_numpy(task.draw_batch(2, (9, 9))["unlabelled"])
        pair = trainer.model
        assert isinstance(pair, Pair)
        with torch.no_grad():
            loss = cross_entropy_of_masks(pair.first(batch), pair.second(batch))
        disagreement.append(loss.item())
    assert math.isfinite(disagreement[1])
    assert disagreement[1] < disagreement[0]
