"""The modalities and the experts that the router chooses from; imports nothing heavy."""

MODALITIES = ("brightfield", "phase", "dic", "fluorescence")
BRIGHTFIELD_EXPERTS = ("cellpose_brightfield", "unet_brightfield")
EXPERT_OF = {
    "phase": "cellpose_phase",
    "dic": "cellpose_dic",
    "fluorescence": "cdnet_fluorescence",
}

# An expert of the paper that loses to another on validation and on test images, and that other:
# it segments in its place, unless the paper's own table is asked for (see README).
BETTER: dict[str, str] = {}
EXPERT_TABLES = ("best", "paper")
