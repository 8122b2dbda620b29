from pathlib import Path

import pytest

from models.registry import EXPERTS, SPECS
from training.cli import BASE, FIELD_SETTINGS, TASKS
from training.data import Record
from training.recipes import NOT_LEARNT, RECIPES, paper_protocol

LOADER = {"cpnet": "load_cellpose", "unet": "load_unet", "cdnet": "load_cdnet"}


def make_record(modality, dataset="a"):
    return Record(Path("a.png"), Path("a_label.png"), modality, "", dataset, "train")


def test_every_expert_has_a_recipe_for_its_network():
    assert set(RECIPES) == {*EXPERTS, BASE}
    for expert in EXPERTS:
        assert SPECS[expert].factory.endswith(f":{LOADER[RECIPES[expert].network]}")


def test_runs_come_after_those_they_start_from():
    done = {""}
    for name, recipe in RECIPES.items():
        assert recipe.starts_from in done
        done.add(name)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_followed(name):
    recipe = RECIPES[name]
    assert recipe.network in TASKS
    assert recipe.network in FIELD_SETTINGS
    assert recipe.geometry.patch_px % 32 == 0
    assert recipe.loop.steps >= recipe.loop.validate_every > 0
    assert 0 < recipe.geometry.scale[0] < recipe.geometry.scale[1]
    assert set(recipe.simulated) <= {"phase", "dic"}


@pytest.mark.parametrize(
    ("name", "modalities"),
    [
        ("cellpose_base", {"phase", "dic", "brightfield", "qpi"}),
        ("cellpose_phase", {"phase", "qpi"}),
        ("cellpose_brightfield", {"brightfield"}),
        ("unet_brightfield", {"brightfield"}),
        ("cdnet_fluorescence", {"fluorescence"}),
    ],
)
def test_an_expert_learns_from_its_modalities(name, modalities):
    recipe = RECIPES[name]
    known = ("phase", "dic", "brightfield", "fluorescence", "qpi", "")
    assert {m for m in known if recipe.accepts(make_record(m))} == modalities
    for modality in modalities:
        assert not recipe.accepts(make_record(modality, NOT_LEARNT[0]))


def test_only_quantitative_phase_is_rendered():
    recipe = RECIPES["cellpose_general"]
    assert tuple(recipe.renders(make_record("qpi"))) == ("phase", "dic")
    assert tuple(recipe.renders(make_record("phase"))) == ("",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unet_brightfield", ("nadam", 5e-4, 0.99, 8, 512, 20 * 13)),
        ("cdnet_fluorescence", ("nadam", 5e-4, 0.99, 16, 256, 20 * 7)),
        ("cellpose_phase", ("sgd", 0.01, 0.9, 8, 224, 20 * 13)),
    ],
)
def test_the_paper_protocol_is_its_table_2(name, expected):
    recipe = paper_protocol(RECIPES[name], n_images=100)
    loop = recipe.loop
    side = recipe.geometry.patch_px
    assert (loop.optimiser, loop.lr, loop.momentum, loop.batch, side, loop.steps) == expected
    assert (loop.schedule, loop.halve_every) == ("halving", loop.steps)
    assert recipe.starts_from == (RECIPES[name].starts_from if "cellpose" in name else "")
    assert recipe.modalities == RECIPES[name].modalities
