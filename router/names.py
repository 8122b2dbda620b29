"""The modalities and the experts that the router chooses from; imports nothing heavy."""

MODALITIES = ("brightfield", "phase", "dic", "fluorescence")
BRIGHTFIELD_EXPERTS = ("cellpose_brightfield", "unet_brightfield")
EXPERT_OF = {
    "phase": "cellpose_phase",
    "dic": "cellpose_dic",
    "fluorescence": "cdnet_fluorescence",
}

# Which expert stands in for one of the paper's: those that measured best on validation images
# (eval/results/experts.md), or none.
EXPERT_TABLES: dict[str, dict[str, str]] = {
    "best": {
        "cellpose_dic": "cellpose_general",
        "unet_brightfield": "cellpose_brightfield",
        "cdnet_fluorescence": "cellpose_fluorescence",
    },
    "paper": {},
}

GENERAL_EXPERT = "cellpose_general"
# An expert that finds fewer cells may have got an image of another modality. Ten is the paper's
# (section 2.3); a brightfield image may well show a single cell, but hardly none.
FEWEST_CELLS = {
    "cellpose_phase": 10,
    "cellpose_dic": 10,
    "cellpose_brightfield": 1,
    "unet_brightfield": 1,
}


def second_opinion(expert: str, n_cells: int) -> str | None:
    """Name the expert to ask too where the first has found so few cells; None for no other."""
    return GENERAL_EXPERT if n_cells < FEWEST_CELLS.get(expert, 0) else None
