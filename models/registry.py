"""The experts by name; a network is imported and read from disk on first use only."""

import ctypes
import functools
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifest import WEIGHTS_DIR, WeightsError
from stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.segmenter import Runtime, Segmenter

RUNTIMES = ("torch", "openvino")


class DeviceError(Exception):
    """The device or the runtime asked for is not there."""


@dataclass(frozen=True)
class ExpertSpec:
    """Where an expert's code and weights are; functions are written ``module:function``.

    Attributes
    ----------
    expert : str
        Builds the segmenter from its runtime and weights.
    network : str
        Builds the PyTorch network without weights.
    graphs : str
        Builds the OpenVINO graphs from the weights.
    weights : str
        File in the weights folder.
    """

    expert: str
    network: str
    graphs: str
    weights: str


def _cellpose(name: str, build: str = "build_expert") -> ExpertSpec:
    """Describe one of the experts on CPnet."""
    return ExpertSpec(
        f"models.cellpose_expert:{build}",
        "models.cpnet:build_cpnet",
        "models.graphs.cpnet:build_graphs",
        f"{name}.safetensors",
    )


SPECS: dict[str, ExpertSpec] = {
    "cellpose_phase": _cellpose("cellpose_phase", "build_grey_expert"),
    "cellpose_dic": _cellpose("cellpose_dic", "build_grey_expert"),
    "cellpose_general": _cellpose("cellpose_general", "build_grey_expert"),
    "cellpose_brightfield": _cellpose("cellpose_brightfield"),
    "cellpose_fluorescence": _cellpose("cellpose_fluorescence", "build_dye_expert"),
    "unet_brightfield": ExpertSpec(
        "models.unet_expert:build_expert",
        "models.unet_vgg16:build_unet",
        "models.graphs.vgg16:build_unet_graphs",
        "unet_brightfield.safetensors",
    ),
    "cdnet_fluorescence": ExpertSpec(
        "models.cdnet_expert:build_expert",
        "models.cdnet:build_cdnet",
        "models.graphs.vgg16:build_cdnet_graphs",
        "cdnet_fluorescence.safetensors",
    ),
}
EXPERTS = tuple(SPECS)


@functools.cache
def load_segmenter(
    expert: str,
    device: str,
    weights_dir: Path = WEIGHTS_DIR,
    runtime: str = "auto",
    watch: Stopwatch | None = None,
) -> "Segmenter":
    """Load one expert; later calls give the same object.

    Parameters
    ----------
    expert : str
        One of :data:`EXPERTS`.
    device : str
        From :func:`resolve_device`.
    weights_dir : Path
        Folder of the weights.
    runtime : {"auto", "torch", "openvino"}
        Library that computes the network, as :func:`resolve_runtime` takes it.
    watch : Stopwatch, optional
        Counts the seconds of imports, weights, network and decoding.

    Returns
    -------
    Segmenter
        Network in evaluation mode on the device.

    Raises
    ------
    ValueError
        If the expert is unknown.
    DeviceError
        If the runtime is not there or does not run on the device.
    WeightsError
        If its weights are missing, tampered with, or of another network.
    """
    if expert not in SPECS:
        raise ValueError(f"unknown expert {expert!r}, known: {', '.join(EXPERTS)}")
    spec, watch = SPECS[expert], watch or Stopwatch()
    runtime = resolve_runtime(runtime, device)
    with watch.stage("imports"):
        from models.weights import read_weights

        build_expert = _function(spec.expert)
        build = _function(spec.graphs if runtime == "openvino" else spec.network)
    with watch.stage("weights"):
        state = read_weights(spec.weights, weights_dir)
        try:
            engine = _build_runtime(runtime, build, state, device)
            segmenter: Segmenter = build_expert(engine, state, watch)
        except ValueError as error:
            path = weights_dir / spec.weights
            raise WeightsError(f"{path}: {_what_is_wrong(state)}") from error
    return segmenter


def open_runtime(expert: str, state: dict[str, Any], device: str) -> "Runtime":
    """Compute a network whose weights are in no file, as :func:`load_segmenter` would.

    Parameters
    ----------
    expert : str
        One of :data:`EXPERTS`, for the network that it is.
    state : dict of str to ndarray
        The network's weights.
    device : str
        From :func:`resolve_device`.

    Returns
    -------
    Runtime

    Raises
    ------
    ValueError
        If the weights are those of another network.
    """
    spec, runtime = SPECS[expert], resolve_runtime("auto", device)
    build = _function(spec.graphs if runtime == "openvino" else spec.network)
    return _build_runtime(runtime, build, state, device)


def _what_is_wrong(state: "Mapping[str, Any]") -> str:
    """Tell why weights that are intact do not fit their expert, and what to do."""
    from models.size_model import is_earlier_version

    if is_earlier_version(state):
        return "the size model is of an earlier version; fit it by python -m training.refit"
    return "weights of another network; restore the file"


def _build_runtime(runtime: str, build: Any, state: dict[str, Any], device: str) -> "Runtime":
    """Give the network to the library that computes it; ValueError if the weights do not fit."""
    if runtime == "openvino":
        from models.openvino_runtime import OpenvinoRuntime

        return OpenvinoRuntime(build, state)
    from models.torch_runtime import TorchRuntime, fill_network

    return TorchRuntime(fill_network(build(), state), device)


def _function(where: str) -> Any:
    """Import what ``module:function`` names."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def resolve_runtime(name: str, device: str) -> str:
    """Choose the library that computes the networks.

    Parameters
    ----------
    name : {"auto", "torch", "openvino"}
        ``auto`` takes OpenVINO on the CPU where it is installed, else PyTorch.
    device : str
        From :func:`resolve_device`.

    Returns
    -------
    str
        One of :data:`RUNTIMES`.

    Raises
    ------
    DeviceError
        If OpenVINO is asked for on a GPU, or the library asked for is not installed.
    """
    if name == "auto":
        return "openvino" if device == "cpu" and is_installed("openvino") else "torch"
    if name == "openvino" and device != "cpu":
        raise DeviceError("OpenVINO runs on the CPU here; take --device cpu or --runtime torch")
    if not is_installed(name):
        raise DeviceError(f"{name} is not installed; install requirements.txt or omit --runtime")
    return name


def is_installed(package: str) -> bool:
    """Tell whether a package could be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def resolve_device(name: str) -> str:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device that is there.

    Parameters
    ----------
    name : str
        ``auto`` takes the GPU where there is one.

    Returns
    -------
    str
        Torch device.

    Raises
    ------
    DeviceError
        If CUDA is asked for and missing.

    Notes
    -----
    PyTorch is asked only where NVIDIA's driver has found a GPU: importing it takes longer than
    labelling a small image.
    """
    if name == "cpu":
        return name
    if count_gpus():
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if name == "cuda":
        raise DeviceError(
            "no CUDA device found; run with --device cpu, or start the container with --gpus all"
        )
    return "cpu"


def count_gpus() -> int:
    """Count the GPUs that NVIDIA's driver shows this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
