"""Weight files: safetensors in half precision where it holds, verified before they are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from manifest import WeightsError, verified_bytes

if TYPE_CHECKING:
    import torch

KEPT_WHOLE = ("size_weight",)  # thousands of terms of both signs are summed: halved, they are noise


def read_weights(name: str, weights_dir: Path) -> dict[str, NDArray[Any]]:
    """Read a verified weight file.

    Parameters
    ----------
    name : str
        File name as the manifest lists it.
    weights_dir : Path
        Folder of the weights.

    Returns
    -------
    dict of str to ndarray
        Tensors in the types of the file, float16 most of them.

    Raises
    ------
    WeightsError
        If the file is missing, tampered with, or holds something else than tensors.
    """
    content = verified_bytes(name, weights_dir)
    try:
        return dict(load(content))
    except Exception as error:  # safetensors raises its own untyped errors
        path = weights_dir / name
        raise WeightsError(f"{path}: not a safetensors file ({error}); restore it") from error


def write_weights(path: Path, state: "dict[str, torch.Tensor]") -> None:
    """Write a network's state in half precision, complete or not at all.

    A tensor with a value beyond half precision (a batch norm's variance, say) stays float32, and so
    do those of :data:`KEPT_WHOLE`.

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
    for name, tensor in state.items():
        values = np.ascontiguousarray(tensor.detach().cpu().numpy())
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are not finite; the training diverged")
        kept = values if name in KEPT_WHOLE else _halved(values)
        halved[name] = kept.reshape(tensor.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(halved))  # save_file would make it readable for its owner only
    partial.replace(path)


def _halved(values: NDArray[Any]) -> NDArray[Any]:
    """Round floating-point values to float16 if all of them fit."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(over="ignore"):  # too large ones become infinite, which is looked for
        half = values.astype(np.float16)
    return half if np.isfinite(half).all() else values
