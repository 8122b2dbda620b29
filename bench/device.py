"""Where the networks of a benchmark compute: the CPU, or the first GPU that CUDA may see."""

import importlib
import os
from typing import Any

from eval.usage import Gpu, find_visible_gpu, open_gpu
from models.openvino_runtime import cpu_settings
from models.registry import resolve_device

DEVICES = ("cpu", "cuda")
HELP = "that networks compute on: cpu (default) or cuda, whose memory is measured too"


def prepare_device(name: str) -> str:
    """Check that a device is there, before anything is measured on it.

    Parameters
    ----------
    name : str
        One of :data:`DEVICES`.

    Returns
    -------
    str
        The name itself.

    Raises
    ------
    DeviceError
        If CUDA is asked for and missing.

    Notes
    -----
    For CUDA this process, and what it starts, count GPUs in the order in which NVML does: the GPU
    whose memory is measured is the one that computes.
    """
    if name != "cpu":
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return resolve_device(name)


def find_gpu(device: str) -> Gpu | None:
    """Open the GPU whose memory is measured; None on the CPU, or where NVML cannot be asked."""
    return None if device == "cpu" else open_gpu(find_visible_gpu())


def synchronise(device: str) -> None:
    """Wait until a GPU has done all it was given; the CPU is never behind."""
    if device != "cpu":
        _torch().cuda.synchronize(device)


def name_gpu(device: str) -> str:
    """Give the maker's name of the GPU that computes; empty on the CPU."""
    return "" if device == "cpu" else str(_torch().cuda.get_device_name(device))


def name_precision(device: str) -> str:
    """Name the floating-point type of the networks on a device, ``"bf16"`` or ``"f32"``."""
    if device == "cpu":
        return str(cpu_settings()["INFERENCE_PRECISION_HINT"])
    half_type = importlib.import_module("models.torch_runtime").half_type(device)
    return "f32" if half_type is None else "bf16"


def _torch() -> Any:
    """Import PyTorch, which only a GPU needs here."""
    return importlib.import_module("torch")
