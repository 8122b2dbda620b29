"""Cellpose's network (CPnet of the package ``cellpose``, version 3)."""

import torch
from cellpose.resnet_torch import CPnet
from torch import nn

from models.cellpose_expert import N_MAPS
from models.size_model import N_CENTRES

WIDTHS = (32, 64, 128, 256)  # channels of the four resolutions (Cellpose's nbase)


class CellposeNet(nn.Module):
    """CPnet that takes three channels and gives raw maps.

    Parameters
    ----------
    in_channels : int
        Channels of the input.

    Notes
    -----
    ``size_centres``, ``size_weight`` and ``size_bias`` hold the size model
    (:class:`models.size_model.SizeModel`). They are buffers so that one file carries the expert
    whole.
    """

    size_centres: torch.Tensor
    size_weight: torch.Tensor
    size_bias: torch.Tensor

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.net = CPnet([in_channels, *WIDTHS], nout=N_MAPS, sz=3)
        self.register_buffer("size_centres", torch.zeros(N_CENTRES, WIDTHS[-1]))
        self.register_buffer("size_weight", torch.zeros(N_CENTRES))
        self.register_buffer("size_bias", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the raw maps of a batch.

        Parameters
        ----------
        x : (N, C, Y, X) float tensor
            Normalised image; Y and X multiples of 8.

        Returns
        -------
        (N, 3, Y, X) float tensor
            5 x flow y, 5 x flow x, cell logit.
        """
        maps: torch.Tensor = self.net(x)[0]
        return maps

    def style(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the style vector of a batch, without the decoder.

        Parameters
        ----------
        x : (N, C, Y, X) float tensor
            Normalised image; Y and X multiples of 8.

        Returns
        -------
        (N, 256) float tensor
            Unit vectors: the mean of the deepest features over the window.
        """
        vector: torch.Tensor = self.net.make_style(self.net.downsample(x)[-1])
        return vector


def build_cpnet(in_channels: int = 3) -> CellposeNet:
    """Build the network with random weights (6.6 M parameters), on the CPU."""
    return CellposeNet(in_channels)
