"""What each expert learns from and how: the defaults of ``train.py``."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from imaging.normalise import Mode
from training.augment import GeometrySettings
from training.data import DataError, Record
from training.intensity import ColourSettings
from training.loop import LoopSettings

GREY = ColourSettings(invert=0.25)
STAIN = ColourSettings(jitter=0.08, grey=0.05)
DYES = ColourSettings(permute=0.5, jitter=0.15, grey=0.1, gain=0.5, blank=0.02)

# Red cells are cells in bbbc041seg_bccd and background everywhere else, so it is left out;
# segpc2021_512 annotates plasma cells only, so it is drawn rarely.
NOT_LEARNT = ("bbbc041seg_bccd",)

Semi = Literal["none", "cycle", "cross"]
Augment = Literal["paper", "short", "wide"]


@dataclass(frozen=True)
class Recipe:
    """The training of one expert.

    Attributes
    ----------
    network : {"cpnet", "unet", "cdnet"}
        Which task trains it.
    modalities : tuple of str
        Whose records it learns from.
    loop : LoopSettings
        Optimisation.
    colour : ColourSettings
        Intensity augmentation.
    geometry : GeometrySettings
        Spatial augmentation.
    emphasis : dict of str to float
        Factor on how often a data set is drawn.
    colours : dict of str to ColourSettings
        Intensity augmentation of single modalities, instead of ``colour``.
    also : tuple of str
        Data sets of other modalities whose images the router takes for these.
    starts_from : str
        Run whose weights it starts from; empty for random weights.
    simulated : tuple of str
        Contrasts rendered from quantitative phase records.
    semi : {"none", "cycle", "cross"}
        How the paper learns from unlabelled images: by a cycle of pseudo-masks (its section 2.3),
        by cross supervision (section 2.5), or not at all, as on brightfield (section 4.1).
    augment : {"paper", "short", "wide"}
        Name of the augmentation; ``paper`` is :func:`narrow`'s, ``wide`` :func:`widen`'s.
    guests : tuple of str
        Modalities whose images the router may send here by mistake. They are learnt too, but the
        expert is not chosen by them.
    guest_share : float
        Of the crops that are guests'.
    crowd : float
        Probability that a fluorescence crop gets the cells of another one of its image.
    touching_weight : float
        Of the pixels between touching cells in the loss (after U-Net's weight map); 1 for none.
    sees : {"grey", "joint", "per_channel"} or None
        Normalisation of all images, as the expert will see them; None for what is usual in the
        modality of each.
    """

    network: Literal["cpnet", "unet", "cdnet"]
    modalities: tuple[str, ...]
    loop: LoopSettings
    colour: ColourSettings
    geometry: GeometrySettings
    emphasis: dict[str, float] = field(default_factory=dict)
    colours: dict[str, ColourSettings] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    starts_from: str = ""
    simulated: tuple[str, ...] = ()
    semi: Semi = "none"
    augment: Augment = "short"
    guests: tuple[str, ...] = ()
    guest_share: float = 0.3
    crowd: float = 0.0
    touching_weight: float = 1.0
    sees: Mode | None = None

    def accepts(self, record: Record) -> bool:
        """Whether the expert learns from a record."""
        if record.dataset in NOT_LEARNT:
            return False
        if record.modality == "qpi":
            return bool(self.simulated)
        return self._is_own(record) or record.modality in self.guests

    def is_guest(self, record: Record) -> bool:
        """Whether the expert learns from a record, but is not judged by it."""
        return self.accepts(record) and record.modality != "qpi" and not self._is_own(record)

    def _is_own(self, record: Record) -> bool:
        return record.modality in self.modalities or record.dataset in self.also

    def renders(self, record: Record) -> Sequence[str]:
        """Name the contrasts a record is prepared in; ``""`` is the image itself."""
        return self.simulated if record.modality == "qpi" else ("",)


_CPNET_CROP = GeometrySettings(224, scale=(0.55, 1.3))


def _fine_tuning(steps: int) -> LoopSettings:
    """Train on from the common start, validated half way and at the end."""
    return LoopSettings(steps=steps, lr=4e-4, warmup=20, validate_every=steps // 2)


_PHASE_EMPHASIS = {
    "deepcell_covert_phase": 2.0,
    "omnipose_docs_bact_phase": 2.0,
    "usiigaci_nih3t3": 1.5,
    "vicar_qpi_as_phase": 0.5,
}
_STAIN_EMPHASIS = {"segpc2021_512": 0.3, "dsb2018_stained_nuclei": 1.5, "gbm40_he_nuclei": 1.5}

# Bright field without colour is phase contrast to the router, and yeast without a stain is near it.
_GREY_BRIGHTFIELD = ("cellstar_yeast_bf", "yeast_phone_bf")

# Of the common start, which learns all modalities at once and is to hold on images of
# laboratories that it never saw.
_UNSEEN_GREY = ColourSettings(
    invert=0.3, jitter=0.06, grey=0.15, shot=0.15, jpeg=0.15, bits=0.1, blank=0.01
)
_UNSEEN_STAIN = replace(_UNSEEN_GREY, invert=0.1, permute=0.1, jitter=0.1, stain=0.2)
_UNSEEN_DYES = replace(DYES, invert=0.05, dropout=0.15, shot=0.2, jpeg=0.15, bits=0.1)
_BASE_CROP = GeometrySettings(
    160, scale=(0.6, 1.35), wide_share=0.2, wide_scale=(0.3, 2.2), mosaic_zoom=1.6
)
_START_CROP = replace(_BASE_CROP, patch_px=192)
# About 35 % brightfield, 35 % fluorescence, 22 % phase and 8 % DIC: single white cells, which
# make up most of the images, are drawn seldom; what is hard or rare often.
_BASE_EMPHASIS = {
    **dict.fromkeys(
        (
            "allidb2_wbc",
            "herlev_papsmear",
            "krd_wbc",
            "raabin_wbc",
            "sigtuple_wbc",
            "tecom_wbc",
            "segpc2021_512",
        ),
        0.3,
    ),
    **dict.fromkeys(
        (
            "yeast_phone_bf",
            "cellstar_yeast_bf",
            "gbm40_he_nuclei",
            "aitslab_u2os_cells",
            "dense_tcells_if",
        ),
        2.0,
    ),
    "cellpose_subset_scellseg": 2.5,
    "dsb2018_stained_nuclei": 3.0,
    "covertlab_deepcell2016": 1.5,
    "ctc_fluo_n2dl_hela_st": 1.5,
    "dsb2018_stage1_fluo": 1.2,
    "deepcell_covert_phase": 3.0,
    "omnipose_docs_bact_phase": 2.5,
    "usiigaci_nih3t3": 1.5,
    "vicar_qpi_as_phase": 0.7,
    "ctc_dic_hela": 3.0,
}

RECIPES: dict[str, Recipe] = {
    # the common start of the four Cellpose experts; not an expert itself
    "cellpose_base": Recipe(
        network="cpnet",
        modalities=("phase", "dic", "brightfield", "fluorescence"),
        loop=LoopSettings(steps=2800, lr=8e-4, validate_every=700, average=0.995),
        colour=_UNSEEN_GREY,
        geometry=_START_CROP,
        emphasis=_BASE_EMPHASIS,
        colours={"brightfield": _UNSEEN_STAIN, "fluorescence": _UNSEEN_DYES},
        simulated=("phase", "dic"),
    ),
    "cellpose_phase": Recipe(
        network="cpnet",
        modalities=("phase",),
        loop=LoopSettings(steps=1000, lr=6e-4, validate_every=500),
        colour=_UNSEEN_GREY,
        geometry=replace(_BASE_CROP, wide_share=0.1),
        emphasis={**_BASE_EMPHASIS, **_PHASE_EMPHASIS},
        also=_GREY_BRIGHTFIELD,
        starts_from="cellpose_base",
        simulated=("phase",),
        semi="cycle",
        guests=("dic", "brightfield", "fluorescence"),
        guest_share=0.15,
        sees="grey",
    ),
    # the router sends 12 of the 82 phase images to train on here, so they are learnt here too
    "cellpose_dic": Recipe(
        network="cpnet",
        modalities=("dic", "phase"),
        loop=_fine_tuning(100),
        colour=GREY,
        geometry=_CPNET_CROP,
        emphasis={"ctc_dic_hela": 3.0},
        starts_from="cellpose_base",
        simulated=("dic",),
        semi="cycle",
    ),
    "cellpose_general": Recipe(
        network="cpnet",
        modalities=("phase", "dic"),
        loop=_fine_tuning(300),
        colour=_UNSEEN_GREY,
        geometry=_BASE_CROP,
        emphasis={**_BASE_EMPHASIS, **_PHASE_EMPHASIS},
        starts_from="cellpose_base",
        simulated=("phase", "dic"),
        semi="cycle",
        guests=("brightfield", "fluorescence"),
        sees="grey",
    ),
    # the router takes phase contrast for brightfield where light or medium is coloured
    "cellpose_brightfield": Recipe(
        network="cpnet",
        modalities=("brightfield",),
        loop=_fine_tuning(300),
        colour=_UNSEEN_STAIN,
        geometry=_BASE_CROP,
        emphasis=_BASE_EMPHASIS,
        starts_from="cellpose_base",
        colours={"phase": replace(_UNSEEN_GREY, tint=0.5), "fluorescence": _UNSEEN_DYES},
        guests=("phase", "dic", "fluorescence"),
        sees="joint",
    ),
    # not of the paper: CPnet on fluorescence, to be weighed against CDNet
    "cellpose_fluorescence": Recipe(
        network="cpnet",
        modalities=("fluorescence",),
        loop=LoopSettings(steps=2000, lr=8e-4, validate_every=500),
        colour=_UNSEEN_DYES,
        geometry=replace(_BASE_CROP, on_cells=0.5, wide_share=0.1),
        emphasis={**_BASE_EMPHASIS, "dsb2018_stage1_fluo": 2.2},
        starts_from="cellpose_base",
        colours={"phase": _UNSEEN_GREY, "dic": _UNSEEN_GREY, "brightfield": _UNSEEN_STAIN},
        semi="cycle",
        guests=("phase", "dic", "brightfield"),
        guest_share=0.15,
        crowd=0.3,
        touching_weight=5.0,
        sees="per_channel",
    ),
    "cdnet_fluorescence": Recipe(
        network="cdnet",
        modalities=("fluorescence",),
        loop=LoopSettings(steps=1100, lr=1e-3, validate_every=100),
        colour=DYES,
        geometry=GeometrySettings(192, scale=(0.6, 1.5)),
        emphasis={"dsb2018_stage1_fluo": 2.0, "ctc_fluo_n2dh_sim": 0.7},
        semi="cross",
        touching_weight=5.0,
    ),
    "unet_brightfield": Recipe(
        network="unet",
        modalities=("brightfield",),
        loop=LoopSettings(steps=300, lr=1e-3, validate_every=150),
        colour=STAIN,
        geometry=GeometrySettings(224, scale=(0.4, 1.3)),
        emphasis=_STAIN_EMPHASIS,
        starts_from="cdnet_fluorescence",
    ),
}

PAPER_COLOURS = ColourSettings(jitter=0.1, blank=0.0)
PAPER_SCALE = (0.8, 1.25)


def narrow(recipe: Recipe) -> Recipe:
    """Vary no more than the paper does, to see what the rest brings.

    Parameters
    ----------
    recipe : Recipe
        With its own augmentation.

    Returns
    -------
    Recipe
        Affine transform, flips, blur and colour jitter as the paper names them (ranges are ours,
        it gives none), with the gamma and Gaussian noise that all recipes have; small fields stand
        in mosaics still.
    """
    return replace(
        recipe,
        colour=PAPER_COLOURS,
        colours={},
        geometry=replace(recipe.geometry, scale=PAPER_SCALE, wide_share=0.0, mosaic_zoom=1.0),
        crowd=0.0,
        augment="paper",
    )


def choose_augment(recipe: Recipe, wanted: Augment) -> Recipe:
    """Give a recipe the augmentation with a name; ``short`` is its own."""
    return {"paper": narrow, "short": lambda same: same, "wide": widen}[wanted](recipe)


WIDE_SCALE = (0.25, 4.0)
WIDE_SHARE = 0.35  # of the crops zoomed anywhere in 0.25 to 4; the others keep the recipe's zoom


def widen(recipe: Recipe) -> Recipe:
    """Vary more, for images of laboratories, stains, microscopes and cameras not seen yet.

    Parameters
    ----------
    recipe : Recipe
        With its own augmentation.

    Returns
    -------
    Recipe
        A third of the crops is zoomed by 0.25 to 4; pieces of a mosaic differ in scale by up to
        1.6; contrast inverted, channels permuted and darkened, shot noise, coarser bit depth and
        JPEG artefacts at the probabilities below; stains vary on brightfield. What the recipe
        varies more already stays. Gamma, gain, blur and Gaussian noise are the recipe's.
    """
    return replace(
        recipe,
        colour=_vary_more(recipe.colour, recipe.modalities),
        colours={name: _vary_more(colour, (name,)) for name, colour in recipe.colours.items()},
        geometry=replace(
            recipe.geometry, wide_share=WIDE_SHARE, wide_scale=WIDE_SCALE, mosaic_zoom=1.6
        ),
        augment="wide",
    )


def _vary_more(colour: ColourSettings, modalities: Sequence[str]) -> ColourSettings:
    """Raise what varies less than images of unseen sources do."""
    least = {
        "invert": 0.25,
        "permute": 0.3,
        "jitter": 0.1,
        "grey": 0.15,
        "gain": 0.3,
        "dropout": 0.2 if "fluorescence" in modalities else 0.05,
        "stain": 0.2 if "brightfield" in modalities else 0.0,
        "shot": 0.2,
        "jpeg": 0.2,
        "bits": 0.1,
    }
    return replace(colour, **{k: max(v, getattr(colour, k)) for k, v in least.items()})


def choose_semi(name: str, recipe: Recipe, wanted: str) -> Recipe:
    """Decide how an expert learns from unlabelled images.

    Parameters
    ----------
    name : str
        The expert, for the message.
    recipe : Recipe
        Names the paper's method.
    wanted : {"none", "paper", "cycle", "cross"}
        ``paper`` takes the recipe's.

    Returns
    -------
    Recipe

    Raises
    ------
    DataError
        If the method does not suit the network.
    """
    if wanted == "cross" and recipe.network == "cpnet":
        raise DataError(
            f"{name}: cross supervision compares masks, which CPnet has none of; "
            "give --semi cycle or --semi paper"
        )
    methods: dict[str, Semi] = {"none": "none", "cycle": "cycle", "cross": "cross"}
    return replace(recipe, semi=recipe.semi if wanted == "paper" else methods[wanted])


PAPER_EPOCHS = 20  # also the epochs after which the learning rate is halved


def paper_protocol(recipe: Recipe, n_images: int) -> Recipe:
    """Replace a recipe's optimisation by the paper's (Table 2).

    Parameters
    ----------
    recipe : Recipe
        Data and augmentation stay.
    n_images : int
        Training images: an epoch draws as many crops.

    Returns
    -------
    Recipe
        U-Net: batch 8, crops of 512; CDNet: batch 16, crops of 256; both from random weights
        by NAdam ("Adam with Nesterov momentum", 0.99) at 0.0005. Cellpose: batch 8, SGD at
        0.01. All for 20 epochs, the rate halved every 20.

    Notes
    -----
    Cellpose sees crops of 224 px where the paper names the whole image: images differ in
    size, and Cellpose's own training crops them too.
    """
    batch = 16 if recipe.network == "cdnet" else 8
    steps = PAPER_EPOCHS * max(1, -(-n_images // batch))
    loop = LoopSettings(
        steps=steps,
        batch=batch,
        schedule="halving",
        halve_every=steps,
        validate_every=max(1, steps // PAPER_EPOCHS),
    )
    if recipe.network == "cpnet":
        crop = replace(recipe.geometry, patch_px=224)
        return replace(recipe, loop=replace(loop, optimiser="sgd", lr=0.01), geometry=crop)
    return replace(
        recipe,
        loop=replace(loop, optimiser="nadam", lr=5e-4, momentum=0.99),
        geometry=replace(recipe.geometry, patch_px=512 if recipe.network == "unet" else 256),
        starts_from="",
    )
