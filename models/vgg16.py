"""U-Net body with a VGG16 encoder, shared by the U-Net expert and CDNet."""

import torch
from torch import nn

ENCODER = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DECODER = (256, 128, 64, 32, 16)
STRIDE = 32  # sides of the input are multiples of it


def conv_bn_relu(n_in: int, n_out: int) -> list[nn.Module]:
    """Build a 3 x 3 convolution, batch norm and ReLU."""
    return [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]


class Upward(nn.Module):
    """One decoder stage: double the resolution, join the skip, convolve.

    Parameters
    ----------
    n_in, n_skip, n_out : int
        Channels from below, of the skip connection, and out.
    """

    def __init__(self, n_in: int, n_skip: int, n_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)
        self.join = nn.Sequential(*conv_bn_relu(n_out + n_skip, n_out))

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Compute (N, n_out, 2 Y, 2 X) from (N, n_in, Y, X) and (N, n_skip, 2 Y, 2 X)."""
        joined: torch.Tensor = self.join(torch.cat([self.up(x), skip], 1))
        return joined


class Vgg16UNet(nn.Module):
    """VGG16 with batch norm (14.72 M parameters) and a five-stage decoder (5.54 M).

    Parameters
    ----------
    in_channels : int
        Channels of the input.

    References
    ----------
    .. [1] Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015 (encoder).
    .. [2] Ronneberger et al., U-Net, MICCAI 2015 (skips).
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        blocks, n_in = [], in_channels
        for widths in ENCODER:
            layers: list[nn.Module] = []
            for width in widths:
                layers += conv_bn_relu(n_in, width)
                n_in = width
            blocks.append(nn.Sequential(*layers))
        self.encoder = nn.ModuleList(blocks)
        self.pool = nn.MaxPool2d(2)
        stages = []
        for widths, n_out in zip(reversed(ENCODER), DECODER, strict=True):
            stages.append(Upward(n_in, widths[-1], n_out))
            n_in = n_out
        self.decoder = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute features at full resolution.

        Parameters
        ----------
        x : (N, C, Y, X) float tensor
            Y and X multiples of 32.

        Returns
        -------
        (N, 16, Y, X) float tensor
        """
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            x = stage(x, skip)
        return x
