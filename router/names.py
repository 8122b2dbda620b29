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
EXPERTS = (*EXPERT_OF.values(), *BRIGHTFIELD_EXPERTS, GENERAL_EXPERT, "cellpose_fluorescence")

# An expert that finds fewer cells may have got an image of another modality. Ten is the paper's
# (section 2.3); a brightfield image may well show a single cell, but hardly none.
FEWEST_CELLS = {
    "cellpose_phase": 10,
    "cellpose_dic": 10,
    "cellpose_brightfield": 1,
    "unet_brightfield": 1,
}


def stand_ins(choice: str) -> dict[str, str]:
    """Tell which expert stands in for which.

    Parameters
    ----------
    choice : str
        A name in :data:`EXPERT_TABLES`, or in :data:`EXPERTS`: that one for all.

    Returns
    -------
    dict of str to str
        The expert that labels, by the one that the router, or a second opinion, asks for.

    Raises
    ------
    KeyError
        If it is neither.
    """
    if choice in EXPERTS:
        return dict.fromkeys(EXPERTS, choice)
    return EXPERT_TABLES[choice]


def second_opinion(expert: str, n_cells: int) -> str | None:
    """Name the expert to ask too where the first has found so few cells; None for no other."""
    return GENERAL_EXPERT if n_cells < FEWEST_CELLS.get(expert, 0) else None
