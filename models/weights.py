"""Weight files: safetensors in half precision where it holds, verified before they are read."""

from pathlib import Path

import torch
from safetensors.torch import load, save

from manifest import WeightsError, verified_path


def read_weights(name: str, weights_dir: Path) -> dict[str, torch.Tensor]:
    """Read a verified weight file.

    Parameters
    ----------
    name : str
        File name as the manifest lists it.
    weights_dir : Path
        Folder of the weights.

    Returns
    -------
    dict of str to Tensor
        Floating-point tensors as float32, on the CPU.

    Raises
    ------
    WeightsError
        If the file is missing, tampered with, or holds something else than tensors.
    """
    path = verified_path(name, weights_dir)
    try:
        state = load(path.read_bytes())
    except Exception as error:  # safetensors raises its own untyped errors
        raise WeightsError(f"{path}: not a safetensors file ({error}); restore it") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def write_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Write a network's state in half precision, complete or not at all.

    A tensor with a value beyond half precision (a batch norm's variance, say) stays float32.

    Parameters
    ----------
    path : Path
        Where to; its folder is made.
    state : dict of str to Tensor
        From ``state_dict()``.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    halved = {}
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds values that are not finite; the training diverged")
        half = tensor.half() if tensor.is_floating_point() else tensor
        halved[name] = half if bool(torch.isfinite(half).all()) else tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(halved))  # save_file would make it readable for its owner only
    partial.replace(path)
