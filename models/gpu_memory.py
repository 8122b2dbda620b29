"""A limit of the memory that this process takes of a GPU."""

import torch

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
