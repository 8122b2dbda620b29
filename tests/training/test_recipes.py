from pathlib import Path

import pytest

from models.cellpose_expert import DYE_WINDOWS, GREY_WINDOWS, WINDOWS
from models.registry import EXPERTS, SPECS
from router.names import MODALITIES
from training.data import DataError, Record
from training.experts import BASE, FIELD_SETTINGS, TASKS, field_settings
from training.recipes import NOT_LEARNT, RECIPES, choose_augment, choose_semi, paper_protocol

# normalisation of the experts that learn guests, by the function that builds them
SEEN_BY = {
    "build_grey_expert": GREY_WINDOWS.normalisation,
    "build_expert": WINDOWS.normalisation,
    "build_dye_expert": DYE_WINDOWS.normalisation,
}


def make_record(modality, dataset="a"):
    return Record(Path("a.png"), Path("a_label.png"), modality, "", dataset, "train")


def test_every_expert_has_a_recipe_for_its_network():
    assert set(RECIPES) == {*EXPERTS, BASE}
    for expert in EXPERTS:
        assert SPECS[expert].network.endswith(f":build_{RECIPES[expert].network}")


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
        ("cellpose_base", {"phase", "dic", "brightfield", "fluorescence", "qpi"}),
        ("cellpose_dic", {"dic", "phase", "qpi"}),
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


@pytest.mark.parametrize(
    "name",
    ["cellpose_phase", "cellpose_general", "cellpose_brightfield", "cellpose_fluorescence"],
)
def test_what_serves_by_default_learns_what_the_router_may_send_by_mistake(name):
    recipe = RECIPES[name]
    assert {*recipe.modalities, *recipe.guests} == set(MODALITIES)
    for modality in MODALITIES:
        record = make_record(modality)
        assert recipe.accepts(record)
        assert recipe.is_guest(record) == (modality not in recipe.modalities)
    assert not any(recipe.is_guest(make_record("brightfield", name)) for name in recipe.also)
    assert not recipe.is_guest(make_record("qpi"))
    assert not recipe.is_guest(make_record(recipe.guests[0], NOT_LEARNT[0]))


@pytest.mark.parametrize("name", EXPERTS)
def test_guests_look_as_the_expert_will_see_them(name):
    recipe = RECIPES[name]
    wanted = SEEN_BY[SPECS[name].expert.rpartition(":")[2]] if recipe.guests else None
    assert recipe.sees == wanted
    if recipe.sees:
        settings = field_settings(recipe)
        assert {settings.mode_for(modality) for modality in MODALITIES} == {recipe.sees}


def test_coloured_light_is_learnt_where_the_router_may_take_it_for_a_stain():
    recipe = RECIPES["cellpose_brightfield"]
    assert recipe.colours["phase"].tint > recipe.colour.tint == 0
    assert recipe.geometry.wide_share == RECIPES["cellpose_base"].geometry.wide_share > 0


def test_bright_field_without_colour_is_learnt_with_phase_contrast():
    recipe = RECIPES["cellpose_phase"]
    assert recipe.sees == "grey"
    for dataset in recipe.also:
        assert not recipe.is_guest(make_record("brightfield", dataset))
    assert recipe.is_guest(make_record("brightfield", "tecom_wbc"))


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


@pytest.mark.parametrize("name", RECIPES)
def test_the_wide_augmentation_varies_no_less(name):
    recipe, wide = RECIPES[name], choose_augment(RECIPES[name], "wide")
    assert wide.augment == "wide"
    for key, value in vars(recipe.colour).items():
        assert getattr(wide.colour, key) >= value
    for modality, colour in recipe.colours.items():
        for key, value in vars(colour).items():
            assert getattr(wide.colours[modality], key) >= value
    assert wide.geometry.wide_scale == (0.25, 4.0)
    assert 0 < wide.geometry.wide_share < 1
    assert wide.geometry.patch_px == recipe.geometry.patch_px
    assert wide.loop == recipe.loop
    assert (wide.colour.stain > 0) == ("brightfield" in recipe.modalities)


@pytest.mark.parametrize("name", RECIPES)
def test_the_papers_augmentation_leaves_out_what_it_does_not_name(name):
    recipe, narrow = RECIPES[name], choose_augment(RECIPES[name], "paper")
    colour, geometry = narrow.colour, narrow.geometry
    others = (colour.invert, colour.permute, colour.grey, colour.dropout, colour.stain)
    assert not any((*others, colour.tint, colour.shot, colour.jpeg, colour.bits, colour.blank))
    assert colour.jitter > 0
    assert narrow.colours == {}
    assert (geometry.wide_share, geometry.mosaic_zoom) == (0.0, 1.0)
    assert geometry.patch_px == recipe.geometry.patch_px
    assert (narrow.loop, narrow.augment) == (recipe.loop, "paper")


@pytest.mark.parametrize("name", RECIPES)
def test_the_short_augmentation_is_the_recipes_own(name):
    assert choose_augment(RECIPES[name], "short") == RECIPES[name]


def test_the_common_start_varies_what_unseen_sources_vary():
    recipe = RECIPES["cellpose_base"]
    assert set(recipe.colours) <= set(recipe.modalities)
    for colour in (recipe.colour, *recipe.colours.values()):
        assert min(colour.invert, colour.shot, colour.jpeg, colour.bits) > 0
    assert recipe.colours["fluorescence"].permute > recipe.colour.permute
    assert recipe.geometry.wide_share > 0


@pytest.mark.parametrize("name", ["cellpose_dic", "cdnet_fluorescence", "unet_brightfield"])
def test_the_recipes_of_the_paper_leave_the_wide_effects_off(name):
    colour = RECIPES[name].colour
    assert not any((colour.dropout, colour.stain, colour.shot, colour.jpeg, colour.bits))


@pytest.mark.parametrize(
    ("name", "wanted", "semi"),
    [
        ("cellpose_phase", "paper", "cycle"),
        ("cellpose_general", "paper", "cycle"),
        ("cdnet_fluorescence", "paper", "cross"),
        ("cellpose_brightfield", "paper", "none"),
        ("unet_brightfield", "paper", "none"),
        ("cdnet_fluorescence", "none", "none"),
        ("unet_brightfield", "cross", "cross"),
        ("cellpose_brightfield", "cycle", "cycle"),
    ],
)
def test_how_an_expert_learns_from_unlabelled_images(name, wanted, semi):
    assert choose_semi(name, RECIPES[name], wanted).semi == semi


def test_cellpose_has_no_masks_to_compare():
    with pytest.raises(DataError, match=r"cellpose_dic: .*--semi cycle"):
        choose_semi("cellpose_dic", RECIPES["cellpose_dic"], "cross")
