from dataclasses import replace

import numpy as np
import pytest
import torch

import training.size
from models.cellpose_expert import NET_DIAMETER_PX
from models.size_view import WIDE_PX, resize_view
from tests.cells import draw_discs
from tests.training.folders import make_field
from training.cellpose_task import FIELD_DIAMETER_PX
from training.intensity import ColourSettings
from training.patch_task import PatchTask
from training.sampling import FieldSampler
from training.size import fit_size_model


class Fuzzy(torch.nn.Module):
    """Stand-in for CPnet: its style is how much of the window lies at the rim of a cell."""

    size_weight: torch.Tensor
    size_bias: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("size_weight", torch.zeros(1))
        self.register_buffer("size_bias", torch.zeros(1))
        self.sides: set[int] = set()

    def style(self, x):
        self.sides |= set(x.shape[2:])
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


def test_the_size_is_learnt_from_the_style(fields, monkeypatch):
    monkeypatch.setattr(training.size, "N_DRAWS", 120)
    monkeypatch.setattr(training.size, "VARIED_SHARE", 0.0)  # noise has rims of its own
    model = Fuzzy()
    ratio = fit_size_model(model, make_task(fields))  # type: ignore[arg-type]
    assert 1 <= ratio < 1.2
    # the share of a disc at its rim falls as one over its diameter
    assert model.size_weight.item() == pytest.approx(-1, abs=0.25)
    assert all(side % 32 == 0 for side in model.sides)
    window = resize_view(fields[0].image.astype(np.float32), 1.0, WIDE_PX)
    style = model.style(torch.from_numpy(window.transpose(2, 0, 1)[None].copy()))
    log_ratio = (style @ model.size_weight + model.size_bias).item()
    assert NET_DIAMETER_PX * np.exp(log_ratio) == pytest.approx(FIELD_DIAMETER_PX, rel=0.1)


def test_the_fit_depends_on_the_seed_alone(fields, monkeypatch):
    monkeypatch.setattr(training.size, "N_DRAWS", 20)
    weights = []
    for seed in (0, 0, 1):
        model = Fuzzy()
        fit_size_model(model, make_task(fields), seed)  # type: ignore[arg-type]
        weights.append(model.size_weight.item())
    assert weights[0] == weights[1] != weights[2]


def test_a_small_data_set_counts_as_much_as_a_large_one_and_guests_their_share(fields, monkeypatch):
    monkeypatch.setattr(training.size, "N_DRAWS", 300)
    seen: list[str] = []

    def note(self, rng):
        field, peers = draw(self, rng)
        seen.append(field.dataset)
        return field, peers

    draw = FieldSampler.draw
    monkeypatch.setattr(FieldSampler, "draw", note)
    named = [replace(fields[0], dataset=name) for name in ("many",) * 9 + ("few", "guest")]
    fit_size_model(Fuzzy(), make_task(named, guests={"guest"}, guest_share=0.2))  # type: ignore[arg-type]
    shares = [seen.count(name) / len(seen) for name in ("many", "few", "guest")]
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.1)
