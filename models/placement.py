"""Maps to the device that decodes them, and labels back."""

import importlib

import numpy as np

from models.arrays import Array


def send(maps: Array, device: str) -> Array:
    """Make a tensor of an ndarray that another device is to decode.

    Parameters
    ----------
    maps : ndarray or tensor
    device : str
        Torch device.

    Returns
    -------
    ndarray or tensor
        The maps themselves if they are a tensor, which is decoded where it lies, or if the device
        is ``"cpu"``, which needs no torch.
    """
    if not isinstance(maps, np.ndarray) or device == "cpu":
        return maps
    return importlib.import_module("torch").from_numpy(np.ascontiguousarray(maps)).to(device)


def come_back(labels: Array, maps: Array) -> Array:
    """Make labels an ndarray if the maps were one.

    Parameters
    ----------
    labels : ndarray or tensor
        What was made of the maps that :func:`send` gave.
    maps : ndarray or tensor
        What it was given.

    Returns
    -------
    ndarray or tensor
    """
    was_sent = isinstance(maps, np.ndarray) and not isinstance(labels, np.ndarray)
    return labels.cpu().numpy() if was_sent else labels
