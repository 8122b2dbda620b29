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
        "unet_brightfield": "cellpose_brightfield",
        "cdnet_fluorescence": "cellpose_fluorescence",
    },
    "paper": {},
}

FEW_CELLS = 10  # fewer make a wrong modality likely (the paper's section 2.3)
GENERAL_EXPERT = "cellpose_general"
MAY_ASK_GENERAL = ("cellpose_phase", "cellpose_dic")


def second_opinion(expert: str, n_cells: int) -> str | None:
    """Name the expert to ask too where the first has found so few cells; None for no other."""
    return GENERAL_EXPERT if expert in MAY_ASK_GENERAL and n_cells < FEW_CELLS else None
