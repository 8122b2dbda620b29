from dataclasses import replace

import numpy as np
import pytest
import torch

import training.size
from models.cellpose_expert import NET_DIAMETER_PX
from models.size_model import N_CENTRES, SizeModel
from models.size_view import SPREAD_PX, resize_view
from tests.cells import draw_discs
from tests.training.folders import make_field
from training.cellpose_task import FIELD_DIAMETER_PX
from training.intensity import ColourSettings
from training.patch_task import PatchTask
from training.sampling import FieldSampler
from training.size import fit_size_model


class Fuzzy(torch.nn.Module):
    """Stand-in for CPnet: its spread is how much of the window lies at the rim of a cell."""

    size_centres: torch.Tensor
    size_weight: torch.Tensor
    size_bias: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("size_centres", torch.ones(N_CENTRES, 1))
        self.register_buffer("size_weight", torch.ones(N_CENTRES))
        self.register_buffer("size_bias", torch.ones(1))
        self.sides: set[int] = set()

    def run(self, output, batch):
        """Stand for the library that computes it, too."""
        assert output == "spread"
        self.sides |= set(batch.shape[1:3])
        with torch.inference_mode():
            return self.spread(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())).numpy()

    def spread(self, x):
        x = x[:, :1]
        steps = (x[:, :, 1:] - x[:, :, :-1]).abs().mean()
        return torch.log(steps / x.mean()).reshape(1, 1) * self.gain


@pytest.fixture
def fields():
    r = FIELD_DIAMETER_PX / 2
    places = [(y, x, r) for y in (30, 90, 150) for x in (30, 90, 150)]
    return [make_field(draw_discs((180, 180), places), with_flow=False)]


def make_task(fields, **changes):
    """Leave intensities as they are, unless told."""
    return PatchTask(fields, [], colour=replace(ColourSettings(), gain=0.0), **changes)


def fit(model, task, seed=0):
    """Fit the size model of a stand-in, which computes itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.size, "open_runtime", lambda *_: model)
        return fit_size_model(model, task, seed)


def size_of(model):
    """Give what the fit left in a network."""
    arrays = (model.size_centres.numpy(), model.size_weight.numpy())
    return SizeModel(*arrays, model.size_bias.item())


@pytest.fixture(autouse=True)
def few_views(monkeypatch):
    draw_few(monkeypatch, 120)


def draw_few(monkeypatch, n):
    monkeypatch.setattr(training.size, "N_CENTRES", n)


def test_the_size_is_learnt_from_the_spread(fields, monkeypatch):
    monkeypatch.setattr(training.size, "VARIED_SHARE", 0.0)  # noise has rims of its own
    model = Fuzzy()
    errors = fit(model, make_task(fields))
    assert 1 <= errors.held_out < 1.2
    assert np.isnan(errors.unseen)  # there is no other data set
    assert all(side % 32 == 0 for side in model.sides)
    window = resize_view(fields[0].image.astype(np.float32), 1.0, SPREAD_PX)
    spread = model.spread(torch.from_numpy(window.transpose(2, 0, 1)[None].copy()))
    diameter = NET_DIAMETER_PX / size_of(model).scale_step(spread[0].detach().numpy())
    assert diameter == pytest.approx(FIELD_DIAMETER_PX, rel=0.1)


def test_a_data_set_whose_sizes_look_different_is_not_foreseen(fields, monkeypatch):
    monkeypatch.setattr(training.size, "VARIED_SHARE", 0.0)
    like = [replace(fields[0], dataset=name) for name in ("one", "two")]
    faint = replace(fields[0], dataset="faint", image=fields[0].image * np.float16(0.5) + 1)
    alike = fit(Fuzzy(), make_task(like))
    assert alike.unseen == pytest.approx(alike.held_out, rel=0.1)
    assert fit(Fuzzy(), make_task([*like, faint])).unseen > 1.15 * alike.unseen


def test_rows_that_hold_no_spread_say_nothing(fields):
    model = Fuzzy()
    fit(model, make_task(fields))
    assert model.size_weight[:120].any()
    assert not model.size_weight[120:].any()
    assert not model.size_centres[120:].any()


def test_the_fit_depends_on_the_seed_alone(fields, monkeypatch):
    draw_few(monkeypatch, 40)
    weights = []
    for seed in (0, 0, 1):
        model = Fuzzy()
        fit(model, make_task(fields), seed)
        weights.append(model.size_weight.tolist())
    assert weights[0] == weights[1] != weights[2]


def test_a_small_data_set_counts_as_much_as_a_large_one_and_guests_their_share(fields, monkeypatch):
    draw_few(monkeypatch, 300)
    seen: list[str] = []

    def note(self, rng):
        field, peers = draw(self, rng)
        seen.append(field.dataset)
        return field, peers

    draw = FieldSampler.draw
    monkeypatch.setattr(FieldSampler, "draw", note)
    named = [replace(fields[0], dataset=name) for name in ("many",) * 9 + ("few", "guest")]
    fit(Fuzzy(), make_task(named, guests={"guest"}, guest_share=0.2))
    shares = [seen.count(name) / len(seen) for name in ("many", "few", "guest")]
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.1)
