"""Ship a trained expert: half-precision weights, and what they were trained on."""

import subprocess
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

from manifest import write_entry
from models.cpnet import CellposeNet
from models.weights import write_weights
from training.loop import Trainer
from training.patch_task import PatchTask
from training.recipes import Recipe
from training.size import fit_size_model


def export_expert(
    name: str,
    recipe: Recipe,
    task: PatchTask,
    trainer: Trainer,
    weights_dir: Path,
) -> Path:
    """Write the best weights of a run and its manifest entry.

    Parameters
    ----------
    name : str
        The expert.
    recipe : Recipe
        How it was trained.
    task : PatchTask
        Its fields.
    trainer : Trainer
        The run.
    weights_dir : Path
        Where the weights go.

    Returns
    -------
    Path
        The weight file.

    Raises
    ------
    ValueError
        If a weight is not finite.
    OSError
        If the folder cannot be written.
    """
    model = task.build().to(trainer.device)
    model.load_state_dict(trainer.best_state())
    facts: dict[str, object] = {}
    if isinstance(model, CellposeNet):
        facts["size_ratio_error"] = round(fit_size_model(model, task.train), 3)
    path = weights_dir / f"{name}.safetensors"
    write_weights(path, model.state_dict())
    progress = trainer.progress
    facts |= {
        "network": recipe.network,
        "parameters": sum(p.numel() for p in model.parameters()),
        "started_from": recipe.starts_from or "random weights",
        "trained_on": dict(sorted(Counter(field.dataset for field in task.train).items())),
        "validated_on": dict(sorted(Counter(field.dataset for field in task.validation).items())),
        "validation_f1": round(progress.best_f1, 4),
        "best_step": progress.best_step,
        "steps": progress.step,
        "hours": round(progress.seconds / 3600, 3),
        "device": trainer.device,
        "torch": torch.__version__,
        "settings": asdict(recipe.loop) | {"crop_px": recipe.geometry.patch_px},
        "commit": current_commit(),
    }
    write_entry(weights_dir, path.name, facts)
    return path


def current_commit() -> str:
    """Name the commit of the working tree, or ``unknown`` outside of git."""
    folder = Path(__file__).resolve().parent
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
