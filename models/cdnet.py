"""CDNet: point, direction and mask heads on a VGG16 U-Net, for fluorescence.

He et al., CDNet: Centripetal Direction Network for Nuclear Instance Segmentation, ICCV 2021.
"""

import torch
from torch import nn

from models.cdnet_decoding import N_MASK
from models.directions import N_DIRECTIONS
from models.vgg16 import DECODER, Vgg16UNet

WIDTH = 64  # channels of the residual blocks before the heads


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a 1 x 1 skip.

    Parameters
    ----------
    n_in, n_out : int
        Channels in and out.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1),
            nn.BatchNorm2d(n_out),
        )
        self.skip = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute (N, n_out, Y, X) from (N, n_in, Y, X)."""
        return torch.relu(self.body(x) + self.skip(x))


class CDNet(nn.Module):
    """The network of 20.47 M parameters (paper, Table 2).

    Parameters
    ----------
    in_channels : int
        Channels of the input.

    Notes
    -----
    The heads stand in a row: the point map gates the direction features, the directions gate
    the mask features, each gate being 1 + sigmoid of a 1 x 1 convolution.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.body = Vgg16UNet(in_channels)
        self.mask_features = Residual(DECODER[-1], WIDTH)
        self.direction_features = Residual(WIDTH, WIDTH)
        self.point_features = Residual(WIDTH, WIDTH)
        self.point = nn.Conv2d(WIDTH, 1, 1)
        self.direction = nn.Conv2d(WIDTH, N_DIRECTIONS + 1, 1)
        self.mask = nn.Conv2d(WIDTH, N_MASK, 1)
        self.point_gate = nn.Conv2d(1, 1, 1)
        self.direction_gate = nn.Conv2d(N_DIRECTIONS + 1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the raw maps of a batch.

        Parameters
        ----------
        x : (N, C, Y, X) float tensor
            Normalised images; Y and X multiples of 32.

        Returns
        -------
        (N, 13, Y, X) float tensor
            Mask logits (3), point map (1), direction logits (9).
        """
        f1 = self.mask_features(self.body(x))
        f2 = self.direction_features(f1)
        point = self.point(self.point_features(f2))
        direction = self.direction(f2 * (1 + torch.sigmoid(self.point_gate(point))))
        mask = self.mask(f1 * (1 + torch.sigmoid(self.direction_gate(direction))))
        return torch.cat([mask, point, direction], 1)


def build_cdnet(in_channels: int = 3) -> CDNet:
    """Build the network with random weights, on the CPU."""
    return CDNet(in_channels)
