"""Print parameters and FLOPs of every expert: ``python -m training.describe``.

The columns are those of the paper's Table 2. Nothing is computed and no weights are read: networks
and images are shapes only (PyTorch's meta device). A multiplication and an addition are two FLOPs;
activations and batch norms are not counted. The paper does not say how it counted: its figures for
the same numbers of parameters are 1.95 and 1.97 times these.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.cdnet import build_cdnet
from models.cpnet import build_cpnet
from models.registry import SPECS
from models.unet_vgg16 import build_unet
from training.recipes import RECIPES, Recipe, paper_protocol

N_CHANNELS = 3
WINDOW_PX = {"cpnet": 512, "unet": 512, "cdnet": 256}  # Table 2; Cellpose's "whole image" has none
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "cpnet": build_cpnet,
    "unet": build_unet,
    "cdnet": build_cdnet,
}
PAPER = {"cpnet": "N/A, N/A", "unet": "20.27M, 377440.17M", "cdnet": "20.47M, 148073.35M"}


@dataclass(frozen=True)
class Description:
    """One row of the table.

    Attributes
    ----------
    expert, network : str
    n_parameters : int
        Weights and biases that are learnt.
    window_px : int
        Side of the input.
    n_flops : int
        Of one window.
    """

    expert: str
    network: str
    n_parameters: int
    window_px: int
    n_flops: int


def describe(expert: str, recipe: Recipe, window_px: int) -> Description:
    """Count the parameters and the FLOPs of an expert.

    Parameters
    ----------
    expert : str
        Its name.
    recipe : Recipe
        Names its network.
    window_px : int
        Side of the input, a multiple of 32.

    Returns
    -------
    Description
    """
    with torch.device("meta"), torch.no_grad():
        network = BUILDERS[recipe.network]().eval()
        counter = FlopCounterMode(display=False)
        with counter:
            network(torch.zeros(1, N_CHANNELS, window_px, window_px))
    n_parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Description(expert, recipe.network, n_parameters, window_px, counter.get_total_flops())


def format_table(rows: Sequence[Description]) -> str:
    """Write the descriptions as a Markdown table, the paper's figures and protocol beside them."""
    lines = [
        "| expert | network | input | parameters | FLOPs | Table 2 | optimiser (paper protocol) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        recipe = paper_protocol(RECIPES[row.expert], n_images=1)
        loop = recipe.loop
        lines.append(
            f"| {row.expert} | {row.network} | {N_CHANNELS} x {row.window_px} x {row.window_px} "
            f"| {row.n_parameters / 1e6:.2f}M | {row.n_flops / 1e6:.2f}M | {PAPER[row.network]} "
            f"| {loop.optimiser} {loop.lr:g}, momentum {loop.momentum:g}, batch {loop.batch} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 0."""
    parser = argparse.ArgumentParser(prog="python -m training.describe", description=__doc__)
    parser.add_argument("--window", type=int, metavar="PX", help="instead of Table 2's sizes")
    args = parser.parse_args(argv)
    if args.window is not None and (args.window < 32 or args.window % 32):
        parser.error(f"--window must be a multiple of 32, got {args.window}")
    rows: list[Description] = []
    counted: dict[str, Description] = {}  # experts on one network differ by their weights alone
    for name in SPECS:
        network = RECIPES[name].network
        if network not in counted:
            window_px = args.window or WINDOW_PX[network]
            counted[network] = describe(name, RECIPES[name], window_px)
        rows.append(replace(counted[network], expert=name))
    sys.stdout.write(format_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
