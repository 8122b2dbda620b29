"""Cellpose's network (CPnet of the package ``cellpose``, version 3)."""

import torch
from cellpose.resnet_torch import CPnet
from torch import nn

from models.cellpose_expert import N_MAPS
from models.size_model import N_CENTRES, SPREAD_LEVELS

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
        self.register_buffer(
            "size_centres", torch.zeros(N_CENTRES, sum(WIDTHS[k] for k in SPREAD_LEVELS))
        )
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

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the spread vector of a batch, without the decoder.

        Parameters
        ----------
        x : (N, C, Y, X) float tensor
            Normalised image; Y and X multiples of 8.

        Returns
        -------
        (N, 384) float tensor
            How much each feature of the two deepest resolutions varies over the window: standard
            deviations, those of a resolution divided by their root sum of squares.
        """
        levels = self.net.downsample(x)
        deviations = [levels[k].float().std((2, 3), correction=0) for k in SPREAD_LEVELS]
        lengths = [torch.linalg.vector_norm(std, dim=1, keepdim=True) for std in deviations]
        parts = [std / length for std, length in zip(deviations, lengths, strict=True)]
        return torch.cat(parts, dim=1)


def build_cpnet(in_channels: int = 3) -> CellposeNet:
    """Build the network with random weights (6.6 M parameters), on the CPU."""
    return CellposeNet(in_channels)
