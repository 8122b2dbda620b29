"""An expert ready to run: a network on a device, behind NumPy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int32]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class WindowSpec:
    """What tiling needs to know of an expert; lengths in network pixels.

    Attributes
    ----------
    tile_px : int
        Side of a window, a multiple of 32.
    halo_px : int
        Context on each side of a window whose output is not used.
    object_px : int
        Longest cell that a block must be able to hold around its core.
    n_maps : int
        Channels of the output.
    normalisation : {"joint", "per_channel"}
        How the image's channels are normalised.
    """

    tile_px: int
    halo_px: int
    object_px: int
    n_maps: int
    normalisation: Literal["joint", "per_channel"]


class Segmenter:
    """Base of the experts: runs the network; decoding is the subclass's.

    Parameters
    ----------
    network : Module
        On the CPU, weights loaded.
    spec : WindowSpec
        Its windows.
    device : str
        Torch device that runs it.
    """

    def __init__(self, network: nn.Module, spec: WindowSpec, device: str) -> None:
        self.spec, self.device = spec, device
        self.network = channels_last(network.to(device)).eval()
        self.half_type = half_type(device)

    @property
    def tile_px(self) -> int:
        """Side of a window in network pixels."""
        return self.spec.tile_px

    @property
    def halo_px(self) -> int:
        """Context thrown away on each side of a window."""
        return self.spec.halo_px

    @property
    def object_px(self) -> int:
        """Longest cell that a block must hold around its core."""
        return self.spec.object_px

    @property
    def n_maps(self) -> int:
        """Channels of the output."""
        return self.spec.n_maps

    @property
    def normalisation(self) -> Literal["joint", "per_channel"]:
        """How the image's channels are normalised."""
        return self.spec.normalisation

    def to_tensor(self, batch: FloatArray) -> torch.Tensor:
        """Move (N, Y, X, C) pixels to the device as (N, C, Y, X), channels last in memory."""
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        return x.permute(0, 3, 1, 2)  # a channels-last tensor without a copy

    def autocast(self) -> torch.autocast:
        """Give the mixed-precision context of the device."""
        return torch.autocast(
            self.device.split(":")[0], dtype=self.half_type, enabled=self.half_type is not None
        )

    @torch.inference_mode()
    def forward(self, batch: FloatArray) -> FloatArray:
        """Run the network over a batch of windows.

        Parameters
        ----------
        batch : (N, Y, X, 3) ndarray of float32
            Normalised windows, sides multiples of 32.

        Returns
        -------
        (N, K, Y, X) ndarray of float32
            Raw maps.
        """
        with self.autocast():
            maps = self.network(self.to_tensor(batch))
        array: FloatArray = maps.float().cpu().numpy()
        return array

    def choose_scale(self, views: Sequence[FloatArray]) -> float:
        """Choose network pixels a native pixel; 1 for the networks that see native pixels.

        Parameters
        ----------
        views : sequence of (Y, X, 3) ndarray of float32
            Normalised native crops of the image.

        Returns
        -------
        float
            Positive.
        """
        del views
        return 1.0

    def decode(self, maps: FloatArray) -> LabelArray:
        """Turn raw maps (K, Y, X) into labels (Y, X), ids 1..N without gaps."""
        raise NotImplementedError

    def foreground(self, maps: FloatArray) -> FloatArray:
        """Give a smooth score (Y, X) that is above 0 inside cells, from raw maps (K, Y, X)."""
        raise NotImplementedError


def fill_network(network: NetworkT, state: dict[str, torch.Tensor]) -> NetworkT:
    """Give a network its weights.

    Raises
    ------
    ValueError
        If names or shapes do not match.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:  # torch's word for that, which running out of memory shares
        raise ValueError(f"weights of another network: {error}") from error
    return network


def channels_last(network: nn.Module) -> nn.Module:
    """Lay the weights out channels last, which convolutions in 16 bits are fastest with."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def half_type(device: str) -> torch.dtype | None:
    """Choose the 16-bit type that a device computes fast in; None for float32.

    Parameters
    ----------
    device : str
        Torch device.

    Returns
    -------
    dtype or None
        bfloat16 on GPUs and processors that have it in hardware (Ampere and newer; AMX or
        AVX-512), where the networks run about three times faster with it. Never float16:
        deep features of the VGG16 networks come near its largest value.
    """
    if device.startswith("cuda"):
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_it else None
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    has_bfloat16 = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if has_bfloat16 else None
