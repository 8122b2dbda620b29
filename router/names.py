"""The modalities and the experts that the router chooses from; imports nothing heavy."""

MODALITIES = ("brightfield", "phase", "dic", "fluorescence")
BRIGHTFIELD_EXPERTS = ("cellpose_brightfield", "unet_brightfield")
EXPERT_OF = {
    "phase": "cellpose_phase",
    "dic": "cellpose_dic",
    "fluorescence": "cdnet_fluorescence",
}

SEVERAL_DYES_EXPERT = "cellpose_fluorescence"  # not of the paper

# Experts that are not of the paper, and the paper's own for the same images: it stands in where
# the paper's table is asked for.
PAPER_TABLE = {SEVERAL_DYES_EXPERT: EXPERT_OF["fluorescence"]}
EXPERT_TABLES = ("best", "paper")

FEW_CELLS = 10  # fewer make a wrong modality likely (the paper's section 2.3)
GENERAL_EXPERT = "cellpose_general"
MAY_ASK_GENERAL = ("cellpose_phase", "cellpose_dic")


def second_opinion(expert: str, n_cells: int) -> str | None:
    """Name the expert to ask too where the first has found so few cells; None for no other."""
    return GENERAL_EXPERT if expert in MAY_ASK_GENERAL and n_cells < FEW_CELLS else None
