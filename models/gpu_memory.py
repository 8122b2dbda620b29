"""A limit of the memory that this process takes of a GPU, and what to do where it ran out."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

GIB = 2**30


def limit_gpu_memory(device: str, limit_gib: float) -> float:
    """Let PyTorch take no more than an amount of a GPU's memory.

    Parameters
    ----------
    device : str
        Torch device; nothing is done for the CPU.
    limit_gib : float
        GiB, positive. CUDA's own context, some 0.5 GiB, comes on top.

    Returns
    -------
    float
        Share of the GPU's memory that was allowed, at most 1; 0 for the CPU.

    Notes
    -----
    Beyond the limit PyTorch says that memory ran out, and the tiling goes on with smaller batches.
    """
    if not device.startswith("cuda"):
        return 0.0
    index = int(device.partition(":")[2] or torch.cuda.current_device())
    total = torch.cuda.get_device_properties(index).total_memory
    share = min(1.0, limit_gib * GIB / total)
    torch.cuda.set_per_process_memory_fraction(share, index)
    return share


def retry_with_free_memory(compute: Callable[[], T]) -> T:
    """Compute something on a GPU, and once more if memory ran out.

    Parameters
    ----------
    compute : callable
        May be called twice.

    Returns
    -------
    object
        What it gives.

    Raises
    ------
    RuntimeError
        PyTorch's own, if memory ran out twice.

    Notes
    -----
    PyTorch keeps the memory of tensors that are gone for its own next ones. cuDNN and cuBLAS take
    theirs from the GPU itself, and find none that PyTorch keeps: it is given back before the second
    time, and with it what the first time had left.
    """
    try:
        return compute()
    except RuntimeError as error:
        if not is_gpu_full(error):
            raise
    torch.cuda.empty_cache()  # not before the error is gone, which holds on to tensors
    return compute()


def is_gpu_full(error: RuntimeError) -> bool:
    """Tell whether PyTorch, or cuDNN or cuBLAS under it, found no memory on a GPU.

    Parameters
    ----------
    error : RuntimeError
    """
    return isinstance(error, torch.OutOfMemoryError) or "_ALLOC_FAILED" in str(error)
