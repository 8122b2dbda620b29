"""The paper's U-Net with a VGG16 encoder, for brightfield images of small cells."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.mask_classes import decode_mask, mask_foreground
from models.segmenter import Segmenter, WindowSpec, fill_network
from models.vgg16 import DECODER, Vgg16UNet

N_MAPS = 3  # background, inside, boundary logits
WINDOWS = WindowSpec(tile_px=512, halo_px=64, object_px=256, n_maps=N_MAPS, normalisation="joint")


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


def decode_unet(maps: NDArray[np.float32]) -> NDArray[np.int32]:
    """Decode the U-Net's maps.

    Parameters
    ----------
    maps : (3, Y, X) ndarray of float32
        Class logits.

    Returns
    -------
    (Y, X) ndarray of int32
        Ids 1..N without gaps.
    """
    return decode_mask(maps)  # the largest logit is the largest probability


class UNetSegmenter(Segmenter):
    """The U-Net expert."""

    def decode(self, maps: NDArray[np.float32]) -> NDArray[np.int32]:
        """Turn raw maps (3, Y, X) into labels (Y, X)."""
        return decode_unet(maps)

    def foreground(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give a score (Y, X) above 0 where background does not win."""
        return mask_foreground(maps)


def load_unet(state: dict[str, torch.Tensor], device: str) -> UNetSegmenter:
    """Build the expert from its weights; ValueError if they do not fit."""
    network = fill_network(build_unet(), state)
    return UNetSegmenter(network, WINDOWS, device)
