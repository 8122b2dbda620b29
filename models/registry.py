"""The six experts by name; a network is imported and read from disk on first use only."""

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manifest import WEIGHTS_DIR, WeightsError

if TYPE_CHECKING:
    from models.segmenter import Segmenter


class DeviceError(Exception):
    """The device asked for is not there."""


@dataclass(frozen=True)
class ExpertSpec:
    """Where an expert's code and weights are.

    Attributes
    ----------
    factory : str
        ``module:function`` that builds the segmenter from weights and device.
    weights : str
        File in the weights folder.
    """

    factory: str
    weights: str


def _cellpose(name: str) -> ExpertSpec:
    """Describe one of the four experts on CPnet."""
    return ExpertSpec("models.cpnet:load_cellpose", f"{name}.safetensors")


SPECS: dict[str, ExpertSpec] = {
    "cellpose_phase": _cellpose("cellpose_phase"),
    "cellpose_dic": _cellpose("cellpose_dic"),
    "cellpose_general": _cellpose("cellpose_general"),
    "cellpose_brightfield": _cellpose("cellpose_brightfield"),
    "unet_brightfield": ExpertSpec("models.unet_vgg16:load_unet", "unet_brightfield.safetensors"),
    "cdnet_fluorescence": ExpertSpec("models.cdnet:load_cdnet", "cdnet_fluorescence.safetensors"),
}
EXPERTS = tuple(SPECS)


@functools.cache
def load_segmenter(expert: str, device: str, weights_dir: Path = WEIGHTS_DIR) -> "Segmenter":
    """Load one expert; later calls give the same object.

    Parameters
    ----------
    expert : str
        One of :data:`EXPERTS`.
    device : str
        Torch device, from :func:`resolve_device`.
    weights_dir : Path
        Folder of the weights.

    Returns
    -------
    Segmenter
        Network in evaluation mode on the device.

    Raises
    ------
    ValueError
        If the expert is unknown.
    WeightsError
        If its weights are missing, tampered with, or of another network.
    """
    if expert not in SPECS:
        raise ValueError(f"unknown expert {expert!r}, known: {', '.join(EXPERTS)}")
    spec = SPECS[expert]
    from models.weights import read_weights

    state = read_weights(spec.weights, weights_dir)
    module, _, function = spec.factory.partition(":")
    try:
        segmenter: Segmenter = getattr(importlib.import_module(module), function)(state, device)
    except ValueError as error:
        path = weights_dir / spec.weights
        raise WeightsError(f"{path}: weights of another network; restore the file") from error
    return segmenter


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
    """
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise DeviceError(
            "no CUDA device found; run with --device cpu, or start the container with --gpus all"
        )
    return "cpu"
