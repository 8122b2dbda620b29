"""Networks computed by PyTorch: on CUDA, and on the CPU where OpenVINO is not installed."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.folding import fold_batch_norms
from models.gpu_memory import retry_with_free_memory
from models.pinned import fetch_pinned, send_pinned
from models.segmenter import FloatArray, Output

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class TorchRuntime:
    """A PyTorch module behind NumPy arrays.

    Parameters
    ----------
    network : Module
        On the CPU, weights loaded; computes the maps, and by its method of that name any other
        output. It is changed, and only infers from now on.
    device : str
        Torch device that runs it.

    Notes
    -----
    On CUDA batch norms are folded, and arrays come and go through page-locked memory.
    """

    def __init__(self, network: nn.Module, device: str) -> None:
        self.device, self.on_gpu = device, device.startswith("cuda")
        self.layout = memory_layout(device)
        ready = fold_batch_norms(network.eval()) if self.on_gpu else network.eval()
        self.network = lay_out(ready.to(device), self.layout)
        self.half_type = half_type(device)

    def run(self, output: Output, batch: FloatArray) -> FloatArray:
        """Compute an output of the network; see :class:`models.segmenter.Runtime`."""
        return retry_with_free_memory(lambda: self._run(output, batch))

    @torch.inference_mode()
    def _run(self, output: Output, batch: FloatArray) -> FloatArray:
        """Compute an output of the network."""
        compute = self.network if output == "maps" else getattr(self.network, output)
        with torch.autocast(
            self.device.split(":")[0], dtype=self.half_type, enabled=self.half_type is not None
        ):
            result = compute(self._to_tensor(batch))
        if self.on_gpu:
            return fetch_pinned(result)
        array: FloatArray = result.float().cpu().numpy()
        return array

    def _to_tensor(self, batch: FloatArray) -> torch.Tensor:
        """Move (N, Y, X, C) pixels to the device as (N, C, Y, X), in the network's layout."""
        if self.on_gpu:
            pixels = send_pinned(batch, self.device)
        else:
            pixels = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        x = pixels.permute(0, 3, 1, 2)
        return x.contiguous(memory_format=self.layout)  # no copy where that is channels last


def fill_network(network: NetworkT, state: Mapping[str, NDArray[Any]]) -> NetworkT:
    """Give a network its weights.

    Parameters
    ----------
    network : Module
        On the CPU.
    state : mapping of str to ndarray
        Tensors by name; float16 becomes float32.

    Returns
    -------
    Module
        The network itself.

    Raises
    ------
    ValueError
        If names or shapes do not match.
    """
    tensors = {
        name: torch.from_numpy(v.astype(np.float32 if v.dtype.kind == "f" else v.dtype))
        for name, v in state.items()
    }
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:  # torch's word for that, which running out of memory shares
        raise ValueError(f"weights of another network: {error}") from error
    return network


def memory_layout(device: str) -> torch.memory_format:
    """Choose the order of axes in memory that convolutions are fastest in.

    Parameters
    ----------
    device : str
        Torch device.

    Returns
    -------
    memory_format
        Channels last where the network runs in 16 bits. In float32 on a processor the gradients
        of weights take up to twice as long in it as in (N, C, Y, X).
    """
    return torch.contiguous_format if half_type(device) is None else torch.channels_last


def lay_out(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Order the weights of a network in memory."""
    return network.to(memory_format=layout)  # type: ignore[call-overload]


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
