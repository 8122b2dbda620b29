"""Arrays to a GPU and back through page-locked memory, which it reads and writes by itself."""

import numpy as np
import torch

from models.segmenter import FloatArray


def send_pinned(batch: FloatArray, device: str) -> torch.Tensor:
    """Copy an array to a GPU, and do not wait for it.

    Parameters
    ----------
    batch : ndarray of float32
        Of any strides; may be changed at once.
    device : str
        CUDA device.

    Returns
    -------
    Tensor
        On the device; what is asked of it next comes after the copy.
    """
    staged = _make_pinned(batch.shape, torch.float32)
    np.copyto(staged.numpy(), batch)
    return staged.to(device, non_blocking=True)


def fetch_pinned(result: torch.Tensor) -> FloatArray:
    """Copy a tensor from a GPU as float32.

    Parameters
    ----------
    result : Tensor of float32, bfloat16 or float16
        On a CUDA device; its 16 bits become 32 on the host, where they cost no transfer.

    Returns
    -------
    ndarray of float32
        Contiguous, in ordinary memory: page-locked memory is scarce, and maps are kept for long.
    """
    staged = _make_pinned(result.shape, result.dtype)
    staged.copy_(result, non_blocking=True)
    _wait(result.device)
    array: FloatArray = staged.to(torch.float32, copy=True).numpy()
    return array


def _make_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Take page-locked memory; PyTorch keeps it for the next time when it is let go."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def _wait(device: torch.device) -> None:
    """Wait until the GPU has done all that was asked of it so far."""
    torch.cuda.current_stream(device).synchronize()
