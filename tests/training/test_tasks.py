import numpy as np
import pytest
import torch

import models.cpnet
import models.vgg16
from models.directions import encode_directions
from models.flows import renumber
from models.mask_classes import encode_mask, find_touching
from tests.cells import draw_touching_pairs
from tests.training.folders import make_field
from training.augment import GeometrySettings, Patch
from training.cellpose_task import CellposeTask
from training.intensity import ColourSettings
from training.mask_task import CDNetTask, UNetTask
from training.patch_task import crop_middle, run_padded
from training.start import Start

EMPTY = np.zeros(0, np.float32)

TASKS = [CellposeTask, UNetTask, CDNetTask]


class Given(torch.nn.Module):
    """A network that gives the same maps whatever it sees, cut to the input's size."""

    def __init__(self, maps) -> None:
        super().__init__()
        self.maps = torch.nn.Parameter(torch.as_tensor(maps))

    def forward(self, x):
        return self.maps[:, :, : x.shape[2], : x.shape[3]]


@pytest.fixture
def thin_networks(monkeypatch):
    """Build networks of few channels, which are quick to draw and to write."""
    monkeypatch.setattr(models.cpnet, "WIDTHS", (4, 8, 8, 16))
    monkeypatch.setattr(models.vgg16, "ENCODER", ((4,), (4,), (8,), (8,), (8,)))


@pytest.fixture(scope="module")
def field():
    return make_field(draw_touching_pairs((96, 128), 10))


def make_task(kind, field, blank=0.3, **changes):
    colour = ColourSettings(blank=blank)
    return kind([field, field], [field], {}, GeometrySettings(64), colour, **changes)


def as_tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def perfect_maps(kind, batch):
    """Make the maps (N, K, Y, X) that a batch asks for."""
    if kind is CellposeTask:
        cell = 20 * batch["cell"][:, None] - 10
        return np.concatenate([5 * batch["flow"], cell], axis=1)
    mask = 20 * np.eye(3, dtype=np.float32)[batch["mask"]].transpose(0, 3, 1, 2)
    if kind is UNetTask:
        return mask
    direction = 20 * np.eye(9, dtype=np.float32)[batch["direction"]].transpose(0, 3, 1, 2)
    return np.concatenate([mask, batch["point"][:, None], direction], axis=1)


@pytest.mark.parametrize("kind", TASKS)
def test_the_crops_of_a_step_depend_on_its_seed_alone(kind, field):
    task = make_task(kind, field)
    first = task.draw_batch(3, (0, 7))
    task.draw_batch(3, (0, 8))
    again, other = task.draw_batch(3, (0, 7)), task.draw_batch(3, (1, 7))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        assert array.shape == (3, 3, 64, 64) if name == "image" else array.shape[-2:] == (64, 64)
        assert array.dtype == (np.int64 if name in ("mask", "direction") else np.float32)
    assert not np.array_equal(first["image"], other["image"])


@pytest.mark.parametrize("kind", TASKS)
def test_some_crops_are_blank(kind, field):
    key = "cell" if kind is CellposeTask else "mask"
    assert not make_task(kind, field, blank=1.0).draw_batch(4, (0, 0))[key].any()
    assert make_task(kind, field, blank=0.0).draw_batch(4, (0, 0))[key].any((1, 2)).all()


def test_a_batch_names_what_it_is_drawn_from(field):
    other = make_field(field.labels, name="b", dataset="more")
    task = CellposeTask([field, other], [], {}, GeometrySettings(64), ColourSettings(blank=0.4))
    names = [task.name_batch(6, (0, step)) for step in range(6)]
    assert {name for batch in names for name in batch} == {"discs/a", "more/b", "blank"}
    for step, batch in enumerate(names):
        cells = task.draw_batch(6, (0, step))["cell"].any((1, 2))
        assert [name == "blank" for name in batch] == [not has for has in cells]


@pytest.mark.parametrize("kind", TASKS)
def test_perfect_maps_cost_least(kind, field):
    task = make_task(kind, field, blank=0.0)
    batch = task.draw_batch(2, (0, 1))
    perfect = perfect_maps(kind, batch)
    tensors = as_tensors(batch)
    best = task.loss(Given(perfect), tensors).item()
    assert best < 0.01
    rng = np.random.default_rng(0)
    for k in range(perfect.shape[1]):
        worse = perfect.copy()
        worse[:, k] += rng.normal(0, 12, worse[:, k].shape).astype(np.float32)
        assert task.loss(Given(worse), tensors).item() > best + 0.02


@pytest.mark.parametrize("kind", TASKS)
def test_untrusted_pixels_do_not_teach(kind, field):
    task = make_task(kind, field, blank=0.0)
    batch = task.draw_batch(2, (0, 1))
    batch["trusted"][:, :, 40:] = 0
    network = Given(np.random.default_rng(0).normal(size=perfect_maps(kind, batch).shape))
    task.loss(network, as_tensors(batch)).backward()
    assert network.maps.grad is not None
    assert not network.maps.grad[..., 40:].any()
    assert network.maps.grad[..., :40].any()


@pytest.mark.parametrize("kind", TASKS)
def test_perfect_maps_validate_as_one(kind, field):
    labels = field.labels
    direction, point = encode_directions(labels)
    batch = {
        "flow": field.flow[None].astype(np.float32),
        "cell": (labels > 0).astype(np.float32)[None],
        "mask": encode_mask(labels)[None],
        "direction": direction[None],
        "point": point[None],
    }
    task = make_task(kind, field)
    assert task.validate(Given(perfect_maps(kind, batch))) == 1.0
    assert task.validate(Given(np.zeros_like(perfect_maps(kind, batch)))) < 0.2
    assert kind([field], [], {}).validate(Given(np.zeros(1))) == 0.0


@pytest.mark.parametrize("kind", TASKS)
def test_a_network_can_start_from_another_run(kind, field, thin_networks):
    source = make_task(kind, field).build().state_dict()
    state = make_task(kind, field, init=Start(source, "a")).build().state_dict()
    assert all(torch.equal(state[name], source[name]) for name in source)


def test_the_unet_takes_what_cdnet_has_of_it(field, thin_networks):
    source = make_task(CDNetTask, field).build().state_dict()
    state = make_task(UNetTask, field, init=Start(source, "cdnet.pt")).build().state_dict()
    shared = [name for name in state if name.startswith("body.")]
    assert set(state) - set(shared) == {"head.weight", "head.bias"}
    assert all(torch.equal(state[name], source[name]) for name in shared)


def test_cellpose_does_not_start_from_another_network(field, thin_networks):
    source = make_task(UNetTask, field).build().state_dict()
    with pytest.raises(ValueError, match=r"unet\.pt: no weight"):
        make_task(CellposeTask, field, init=Start(source, "unet.pt")).build()


def test_the_middle_of_a_field_is_cut(field):
    image, labels = crop_middle(field, 100)
    np.testing.assert_array_equal(labels, field.labels[:, 14:114])
    assert image.shape == (96, 100, 3)
    assert image.dtype == np.float32
    assert crop_middle(field, 32)[1].shape == (32, 32)


@pytest.mark.parametrize("shape", [(32, 64), (33, 50), (5, 7)])
def test_an_image_of_any_size_is_run_whole(shape):
    class Identity(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            assert x.shape[2] % 32 == x.shape[3] % 32 == 0
            return x * self.gain

    image = np.random.default_rng(0).random((*shape, 3), np.float32)
    np.testing.assert_array_equal(run_padded(Identity(), image), image.transpose(2, 0, 1))


def test_targets_of_a_crop_are_those_of_its_cells(field):
    task = make_task(CDNetTask, field, touching_weight=5.0)
    labels = np.where(field.labels % 2, 3 * field.labels, 0).astype(np.int32)  # with gaps
    trusted = np.ones(labels.shape, bool)
    trusted[:8] = False
    cut = Patch(EMPTY, labels, EMPTY, trusted)
    patch = task.targets(cut)
    weight = np.where(find_touching(labels), 5, 1)
    np.testing.assert_array_equal(task.weigh(cut), trusted * weight)
    direction, point = encode_directions(renumber(labels))
    np.testing.assert_array_equal(patch["direction"], direction)
    np.testing.assert_array_equal(patch["point"], point)
    np.testing.assert_array_equal(patch["mask"], encode_mask(labels))
