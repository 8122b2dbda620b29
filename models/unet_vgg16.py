"""The paper's U-Net with a VGG16 encoder, for brightfield images of small cells."""

import torch
from torch import nn

from models.unet_expert import N_MAPS
from models.vgg16 import DECODER, Vgg16UNet


class UNet(nn.Module):
    """VGG16 U-Net with a three-class head (20.27 M parameters, paper, Table 2).

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.body = Vgg16UNet(in_channels)
        self.head = nn.Conv2d(DECODER[-1], N_MAPS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute class logits (N, 3, Y, X) of normalised images (N, C, Y, X)."""
        logits: torch.Tensor = self.head(self.body(x))
        return logits


def build_unet(in_channels: int = 3) -> UNet:
    """Build the network with random weights, on the CPU."""
    return UNet(in_channels)
