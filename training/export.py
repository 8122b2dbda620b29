"""Ship a trained expert: half-precision weights, and what they were trained on."""

import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from manifest import sha256_of, write_entry
from models.cpnet import CellposeNet
from models.weights import write_weights
from training.loop import Trainer
from training.patch_task import PatchTask
from training.recipes import Recipe
from training.size import fit_size_model
from training.start import State, pick_better


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes
    ----------
    state : dict of str to Tensor
        The averaged weights of the best validation, of one network.
    validation_f1 : float
        Mean F1 of that validation.
    best_step : int
        Step of that validation, in its stage.
    steps : int
        Optimiser steps in all.
    seconds : float
        Training time in all.
    stage : str
        Which of several trainings the weights come from.
    facts : mapping of str to object
        Further facts for the manifest.
    """

    state: State
    validation_f1: float
    best_step: int
    steps: int
    seconds: float
    stage: str = "supervised"
    facts: Mapping[str, object] = field(default_factory=dict)


def outcome_of(trainer: Trainer, stage: str = "supervised") -> Outcome:
    """Sum a finished run up; of a cross-supervised pair the better network."""
    progress = trainer.progress
    return Outcome(
        state=pick_better(trainer.best_state()),
        validation_f1=progress.best_f1,
        best_step=progress.best_step,
        steps=progress.step,
        seconds=progress.seconds,
        stage=stage,
    )


def ready_network(
    task: PatchTask, state: State, device: str
) -> tuple[nn.Module, dict[str, object]]:
    """Build the network that predicts: weights, and for Cellpose the size model fitted to them.

    Returns
    -------
    network : Module
        On the device.
    facts : dict
        For Cellpose the errors of the size model.
    """
    network = task.network().to(device)
    network.load_state_dict(state)
    if not isinstance(network, CellposeNet):
        return network, {}
    errors = fit_size_model(network, task)
    facts: dict[str, object] = {"size_ratio_error": round(errors.held_out, 3)}
    if np.isfinite(errors.unseen):
        facts["size_ratio_error_unseen"] = round(errors.unseen, 3)
    return network, facts


def export_expert(
    name: str, recipe: Recipe, task: PatchTask, outcome: Outcome, weights_dir: Path, device: str
) -> str:
    """Write the best weights of a training and their manifest entry.

    Parameters
    ----------
    name : str
        The expert.
    recipe : Recipe
        How it was trained.
    task : PatchTask
        Its labelled fields, and what it started from.
    outcome : Outcome
        What came of it.
    weights_dir : Path
        Where the weights go.
    device : str
        Torch device it was trained on.

    Returns
    -------
    str
        SHA-256 of the weight file.

    Raises
    ------
    ValueError
        If a weight is not finite.
    OSError
        If the folder cannot be written.
    """
    network, facts = ready_network(task, outcome.state, device)
    path = weights_dir / f"{name}.safetensors"
    write_weights(path, network.state_dict())
    facts["parameters"] = sum(p.numel() for p in network.parameters())
    write_entry(
        weights_dir, path.name, {**facts, **describe_training(recipe, task, outcome, device)}
    )
    return sha256_of(path)


def describe_training(
    recipe: Recipe, task: PatchTask, outcome: Outcome, device: str
) -> dict[str, object]:
    """Say what weights were trained on, how and for how long; JSON-ready.

    What they started from is told in the same way, if it is known.
    """
    start = task.init
    facts: dict[str, object] = {
        "network": recipe.network,
        "started_from": start.name if start else "random weights",
        "trained_on": dict(sorted(Counter(f.dataset for f in task.train).items())),
        "validated_on": dict(sorted(Counter(f.dataset for f in task.validation).items())),
        "validation_f1": round(outcome.validation_f1, 4),
        "best_step": outcome.best_step,
        "stage": outcome.stage,
        "steps": outcome.steps,
        "hours": round(outcome.seconds / 3600, 3),
        "device": describe_device(device),
        "torch": torch.__version__,
        "settings": asdict(recipe.loop)
        | {"crop_px": recipe.geometry.patch_px, "augment": recipe.augment},
        "commit": current_commit(),
        **outcome.facts,
    }
    return facts | ({"start": dict(start.facts)} if start and start.facts else {})


def describe_device(device: str) -> str:
    """Name a torch device: the GPU's model, or ``cpu``."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(device)
    return device


def current_commit() -> str:
    """Name the commit of the working tree, or ``unknown`` outside of git."""
    folder = Path(__file__).resolve().parent
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
