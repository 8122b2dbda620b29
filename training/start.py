"""Weights to start from: of an earlier run, of this project's files, or of an official Cellpose 3.

An official checkpoint is the state of CPnet for two channels: the cells, and optionally nuclei.
Here the network sees three. Its first layers are changed so that a grey image, which fills all
three alike, gets the answer that Cellpose gives the same image beside an empty second channel: each
channel takes a third of the first channel's weights, and what an empty second channel adds to every
pixel goes into the bias (exact but for the outermost pixel, where Cellpose pads).
"""

import hashlib
import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_safetensors

from manifest import sha256_of
from training.data import DataError

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]

FIRST_LAYERS = {  # batch norm and convolution of CPnet's two ways in, and whether a ReLU is between
    "downsample.down.res_down_0.conv.conv_0": ("0", "2", True),
    "downsample.down.res_down_0.proj": ("0", "1", False),
}
CPNET_MARK = "downsample.down.res_down_0.proj.1.weight"
UNUSED = ("diam_mean", "diam_labels")  # Cellpose's sizes; the size model here is fitted anew
BATCH_NORM_EPS = 1e-5  # CPnet's
N_CHANNELS = 3
PAIR = ("first.", "second.")  # networks of a cross-supervised pair; the buffer says which is better
PAIR_MARK = "better"


@dataclass(frozen=True)
class Start:
    """Weights that a network starts from.

    Attributes
    ----------
    state : dict of str to Tensor
        By the names of the network's own state.
    name : str
        Where they came from, for the manifest and for messages.
    facts : mapping of str to object
        What they were trained on, and how, where that is known.
    """

    state: State
    name: str
    facts: Mapping[str, object] = field(default_factory=dict)

    def digest(self) -> str:
        """Digest names and values as 12 hexadecimal digits."""
        digest = hashlib.sha256()
        for key, value in sorted(self.state.items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]


def read_start(path: Path) -> Start:
    """Read a weight file, verified by no manifest.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file of this project, a checkpoint of a run, or an official Cellpose 3
        checkpoint.

    Returns
    -------
    Start
        Floating-point tensors as float32, on the CPU; named by file and SHA-256.

    Raises
    ------
    DataError
        If the file is missing or holds no weights.
    """
    if not path.is_file():
        raise DataError(f"{path}: not there; give --init a weight file")
    try:
        state = _as_state(_read_tensors(path))
    except (ValueError, TypeError, RuntimeError, EOFError, KeyError, pickle.PickleError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: no weights that can be read ({reason}); give a .safetensors file, "
            "a checkpoint.pt or an official Cellpose 3 checkpoint"
        ) from error
    floats = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return Start(floats, f"{path.name} (sha256 {sha256_of(path)[:12]})")


def read_best(run_dir: Path) -> Start:
    """Read the best averaged weights of an earlier run, named by it.

    Raises
    ------
    DataError
        If the run has no checkpoint.
    """
    shipped, checkpoint = run_dir / "best.pt", run_dir / "checkpoint.pt"
    path = shipped if shipped.is_file() else checkpoint
    if not path.is_file():
        raise DataError(f"{checkpoint}: not there; train {run_dir.name} first")
    state = torch.load(path, map_location="cpu", weights_only=True)
    told = run_dir / "best.json"
    facts = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    return Start(_as_state(state), run_dir.name, facts)


def fit_start(own: Mapping[str, torch.Tensor], start: Start) -> State:
    """Choose the tensors that a network can take over.

    Parameters
    ----------
    own : mapping of str to Tensor
        The network's state.
    start : Start
        What is offered.

    Returns
    -------
    dict of str to Tensor
        Those of the same name and shape.

    Raises
    ------
    ValueError
        If no convolution fits.
    """
    fitting = {k: v for k, v in start.state.items() if k in own and v.shape == own[k].shape}
    if not any(v.ndim == 4 for v in fitting.values()):
        raise ValueError(f"{start.name}: no weight of it fits this network; start from another")
    logger.info("starts from %s: %d of %d tensors", start.name, len(fitting), len(own))
    return fitting


def pick_better(state: State) -> State:
    """Take the better network of a pair's state; any other state as it is."""
    if PAIR_MARK not in state:
        return state
    prefix = PAIR[int(state[PAIR_MARK])]
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def adapt_cellpose(state: State) -> State:
    """Turn an official CPnet state into one of this project's three-channel network.

    Parameters
    ----------
    state : dict of str to Tensor
        CPnet's own names, with two input channels (or three already).

    Returns
    -------
    dict of str to Tensor
        Names below ``net.``; without Cellpose's diameters.

    Raises
    ------
    ValueError
        If the network sees neither two nor three channels.
    """
    n_channels = state[CPNET_MARK].shape[1]
    if n_channels not in (2, N_CHANNELS):
        raise ValueError(f"wanted a CPnet of 2 or {N_CHANNELS} channels, got {n_channels}")
    adapted = {k: v for k, v in state.items() if k not in UNUSED}
    if n_channels == 2:
        for layer, (norm, conv, has_relu) in FIRST_LAYERS.items():
            adapted |= _widen(state, f"{layer}.{norm}.", f"{layer}.{conv}.", has_relu)
    return {f"net.{name}": value for name, value in adapted.items()}


def _widen(state: State, norm: str, conv: str, has_relu: bool) -> State:
    """Let three equal channels stand for Cellpose's first one, and none for its second."""
    weight, bias = state[conv + "weight"].float(), state[conv + "bias"].float()
    scale, shift, mean, variance = (
        state[norm + key].float() for key in ("weight", "bias", "running_mean", "running_var")
    )
    empty = shift[1] - mean[1] * scale[1] / torch.sqrt(variance[1] + BATCH_NORM_EPS)
    empty = empty.clamp(min=0.0) if has_relu else empty
    wide = {
        norm + key: state[norm + key][:1].repeat(N_CHANNELS)
        for key in ("weight", "bias", "running_mean", "running_var")
    }
    wide[conv + "weight"] = weight[:, :1].repeat(1, N_CHANNELS, 1, 1) / N_CHANNELS
    wide[conv + "bias"] = bias + empty * weight[:, 1].sum((1, 2))
    return wide


def _read_tensors(path: Path) -> object:
    """Read what a file holds, code never."""
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(path.read_bytes())
        except safetensors.SafetensorError as error:
            raise ValueError(str(error)) from error
    return torch.load(path, map_location="cpu", weights_only=True)


def _as_state(content: object) -> State:
    """Find the network's state in what a file holds; ValueError if there is none."""
    if isinstance(content, dict) and "average" in content and "best" in content:
        content = content["best"] or content["average"]  # a checkpoint of training.loop
    if not isinstance(content, dict) or not content:
        raise ValueError("not a dictionary of tensors")
    state = {str(name).removeprefix("module."): value for name, value in content.items()}
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError("not a dictionary of tensors")
    state = pick_better(state)
    return adapt_cellpose(state) if CPNET_MARK in state else state
