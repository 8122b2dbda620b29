"""Cellpose's network (CPnet of the package ``cellpose``, version 3)."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from cellpose.resnet_torch import CPnet
from numpy.typing import NDArray
from torch import nn

from models.flows import decode_flows
from models.segmenter import Segmenter, WindowSpec, fill_network

FloatArray = NDArray[np.float32]

WIDTHS = (32, 64, 128, 256)  # channels of the four resolutions (Cellpose's nbase)
N_MAPS = 3  # flow y, flow x, cell logit
NET_DIAMETER_PX = 30.0  # median cell diameter that the network is trained at (diam_mean)
WINDOWS = WindowSpec(tile_px=512, halo_px=64, object_px=256, n_maps=N_MAPS, normalisation="joint")
SIZE_VIEW_PX = 384  # side of the window that the size is estimated on, in network pixels
MIN_VIEW_PX = 64
N_ROUNDS = 3  # estimates from the style vector, each at the scale the last one gave
SCALE_RANGE = (1 / 16, 4.0)  # cells of 480 px down to 7.5 px


class CellposeNet(nn.Module):
    """CPnet that takes three channels and gives raw maps.

    Parameters
    ----------
    in_channels : int
        Channels of the input.

    Notes
    -----
    ``size_weight`` and ``size_bias`` hold the linear size model on the style vector
    (Stringer et al. 2021): the natural logarithm of the cell diameter over 30 px. They are
    buffers so that one file carries the expert whole.
    """

    size_weight: torch.Tensor
    size_bias: torch.Tensor

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.net = CPnet([in_channels, *WIDTHS], nout=N_MAPS, sz=3)
        self.register_buffer("size_weight", torch.zeros(WIDTHS[-1]))
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


def resize_view(view: FloatArray, factor: float) -> FloatArray:
    """Resample a view and cut or mirror its middle to a window the network takes.

    Parameters
    ----------
    view : (Y, X, 3) ndarray of float32
        Normalised pixels.
    factor : float
        Window pixels a view pixel.

    Returns
    -------
    (Y', X', 3) ndarray of float32
        Sides multiples of 32 from 64 to 384.
    """
    height, width = (max(2, round(side * factor)) for side in view.shape[:2])
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = cv2.resize(view, (width, height), interpolation=smooth)
    y0, x0 = (max(0, (side - SIZE_VIEW_PX) // 2) for side in (height, width))
    small = small[y0 : y0 + SIZE_VIEW_PX, x0 : x0 + SIZE_VIEW_PX]
    pad = [(0, max(MIN_VIEW_PX - side, -side % 32)) for side in small.shape[:2]]
    return np.pad(small, (*pad, (0, 0)), mode="symmetric")


class CellposeSegmenter(Segmenter):
    """A Cellpose expert: estimates the cell size, and sees cells at 30 px."""

    network: CellposeNet

    def choose_scale(self, views: Sequence[FloatArray]) -> float:
        """Choose network pixels a native pixel so that the median cell is 30 px wide.

        Parameters
        ----------
        views : sequence of (Y, X, 3) ndarray of float32
            Normalised native crops of the image.

        Returns
        -------
        float
            Within 1/16 and 4.

        Notes
        -----
        The style vector gives a first estimate, repeated at its own scale; the cells found
        there give the second (Stringer et al. 2021, "size model").
        """
        scales = [self.refine_scale(view, self.style_scale(view)) for view in views]
        return float(np.exp(np.median(np.log(scales)))) if scales else 1.0

    @torch.inference_mode()
    def style_scale(self, view: FloatArray) -> float:
        """Estimate the scale of one view from its style vector alone."""
        scale = min(1.0, SIZE_VIEW_PX / max(view.shape[:2]))
        for _ in range(N_ROUNDS):
            x = self.to_tensor(resize_view(view, scale)[None])
            with self.autocast():
                style = self.network.style(x)
            log_ratio = style.float() @ self.network.size_weight + self.network.size_bias
            step = float(np.exp(-float(log_ratio)))
            scale = float(np.clip(scale * step, *SCALE_RANGE))
            if abs(step - 1.0) < 0.05:
                break
        return scale

    def refine_scale(self, view: FloatArray, scale: float) -> float:
        """Correct a scale by the median diameter of the cells found at it; same if none."""
        window = resize_view(view, scale)
        labels = decode_flows(self.forward(window[None])[0], self.device, max_flow_error=0.0)
        areas = np.bincount(labels.ravel())[1:]
        if areas.size == 0:
            return scale
        diameter = float(np.median(np.sqrt(areas * 4.0 / np.pi)))
        return float(np.clip(scale * NET_DIAMETER_PX / diameter, *SCALE_RANGE))

    def decode(self, maps: FloatArray) -> NDArray[np.int32]:
        """Turn raw maps (3, Y, X) into labels (Y, X)."""
        return decode_flows(maps, self.device)

    def foreground(self, maps: FloatArray) -> FloatArray:
        """Give the cell logit (Y, X)."""
        return maps[2]


def load_cellpose(state: dict[str, torch.Tensor], device: str) -> CellposeSegmenter:
    """Build a Cellpose expert from its weights; ValueError if they do not fit."""
    network = fill_network(build_cpnet(), state)
    return CellposeSegmenter(network, WINDOWS, device)
