"""The training loop: steps, averaged weights, validation, checkpoints that resume exactly."""

import copy
import csv
import logging
import math
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from models.segmenter import channels_last

logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class LoopSettings:
    """How one network is trained.

    Attributes
    ----------
    steps : int
        Optimiser steps in all.
    batch : int
        Crops a step.
    lr : float
        Largest learning rate.
    optimiser : {"adamw", "nadam", "sgd"}
        ``nadam`` is the paper's "Adam with Nesterov momentum", ``sgd`` its Cellpose one.
    momentum : float
        First beta of Adam, or SGD's momentum.
    schedule : {"cosine", "halving"}
        Cosine to 1 % of ``lr``; or halved every ``halve_every`` steps.
    halve_every : int
        In steps; only for ``halving``.
    warmup : int
        Steps in which the rate rises from 0.
    weight_decay : float
        Decoupled for AdamW.
    average : float
        Decay of the exponential average of the weights that is validated and exported.
    validate_every, checkpoint_every : int
        In steps.
    seed : int
        Seeds weights and crops; the crops of a step depend on it and the step alone.
    """

    steps: int
    batch: int = 8
    lr: float = 1e-3
    optimiser: Literal["adamw", "nadam", "sgd"] = "adamw"
    momentum: float = 0.9
    schedule: Literal["cosine", "halving"] = "cosine"
    halve_every: int = 1000
    warmup: int = 50
    weight_decay: float = 1e-4
    average: float = 0.99
    validate_every: int = 200
    checkpoint_every: int = 100
    seed: int = 0


class Task(Protocol):
    """What the loop needs to know of a network and its data."""

    def build(self) -> nn.Module:
        """Build the network with random weights."""

    def draw_batch(self, n: int, seed: tuple[int, int]) -> dict[str, np.ndarray]:
        """Draw n crops with their targets; the same for the same seed."""

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Compute the scalar loss of a batch."""

    def validate(self, model: nn.Module) -> float:
        """Compute the mean F1 at IoU 0.5 over the validation images, after decoding."""


@dataclass
class Progress:
    """Where a run stands; saved in its checkpoints.

    Attributes
    ----------
    step : int
        Steps done.
    seconds : float
        Training time so far, over all sittings, validation included.
    best_f1 : float
        Best validation F1, -1 before the first.
    best_step : int
        Step it was reached at.
    history : list of dict
        One row a validation.
    """

    step: int = 0
    seconds: float = 0.0
    best_f1: float = -1.0
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def build_optimiser(model: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """Build the optimiser over the weights that learn."""
    weights = [p for p in model.parameters() if p.requires_grad]
    rate, decay, beta = settings.lr, settings.weight_decay, settings.momentum
    if settings.optimiser == "sgd":
        return torch.optim.SGD(weights, rate, momentum=beta, weight_decay=decay, nesterov=True)
    if settings.optimiser == "nadam":
        return torch.optim.NAdam(weights, rate, betas=(beta, 0.999), weight_decay=decay)
    return torch.optim.AdamW(weights, rate, betas=(beta, 0.999), weight_decay=decay)


def learning_rate(step: int, settings: LoopSettings) -> float:
    """Compute the learning rate of a step (counted from 0)."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    if settings.schedule == "halving":
        return settings.lr * rise * 0.5 ** (step // settings.halve_every)
    done = step / max(1, settings.steps)
    return settings.lr * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the current ones; slower as the run goes on."""
    keep = min(decay, (1 + step) / (10 + step))
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name].to(value.dtype), 1.0 - keep)
        else:
            value.copy_(current[name])


class StopRequest:
    """Turns the first SIGTERM or SIGINT into a clean stop after the current step."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.is_set = True
        signal.signal(number, signal.SIG_DFL)


class Trainer:
    """One network in training.

    Parameters
    ----------
    task : Task
        Network, data and loss.
    settings : LoopSettings
        Optimisation.
    run_dir : Path
        Checkpoint and metrics live here; a checkpoint found here is resumed.
    device : str
        Torch device.
    """

    def __init__(self, task: Task, settings: LoopSettings, run_dir: Path, device: str) -> None:
        self.task, self.settings, self.run_dir, self.device = task, settings, run_dir, device
        torch.manual_seed(settings.seed)
        self.model = channels_last(task.build().to(device))
        self.average = copy.deepcopy(self.model)
        self.best: dict[str, torch.Tensor] = {}
        self.optimiser = build_optimiser(self.model, settings)
        self.progress = Progress()
        self.checkpoint = run_dir / "checkpoint.pt"
        run_dir.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.is_file():
            self._resume()

    def run(self, stop: StopRequest | None = None) -> bool:
        """Train to the last step, or until a stop is asked for.

        Returns
        -------
        bool
            True when the last step was done.
        """
        settings, progress = self.settings, self.progress
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(self._draw, progress.step)
            while progress.step < settings.steps:
                began = time.monotonic()
                batch = pending.result()
                pending = pool.submit(self._draw, progress.step + 1)
                loss = self._step(batch)
                progress.step += 1
                if progress.step % 25 == 0:
                    self._report(loss, time.monotonic() - began)
                last = progress.step == settings.steps
                if progress.step % settings.validate_every == 0 or last:
                    self._validate(loss)
                progress.seconds += time.monotonic() - began
                wanted = stop is not None and stop.is_set
                if progress.step % settings.checkpoint_every == 0 or last or wanted:
                    self._save()
                if wanted:
                    pending.cancel()
                    return last
        return True

    def best_state(self) -> dict[str, torch.Tensor]:
        """Give the averaged weights of the best validation, or the last ones without any."""
        return self.best or self.average.state_dict()

    def _draw(self, step: int) -> dict[str, np.ndarray]:
        return self.task.draw_batch(self.settings.batch, (self.settings.seed, step))

    def _step(self, arrays: dict[str, np.ndarray]) -> float:
        batch = {name: torch.from_numpy(a).to(self.device) for name, a in arrays.items()}
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.progress.step, self.settings)
        self.model.train()
        with torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16):
            loss = self.task.loss(self.model, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        update_average(self.average, self.model, self.settings.average, self.progress.step)
        return float(loss.detach())

    def _validate(self, loss: float) -> None:
        self.average.eval()
        f1 = self.task.validate(self.average)
        progress = self.progress
        progress.history.append({"step": progress.step, "loss": loss, "val_f1": f1})
        logger.info("step %d: validation F1 %.4f", progress.step, f1)
        if f1 > progress.best_f1:
            progress.best_f1, progress.best_step = f1, progress.step
            state = self.average.state_dict()
            self.best = {name: value.detach().cpu().clone() for name, value in state.items()}
        with (self.run_dir / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "loss", "val_f1"])
            writer.writeheader()
            writer.writerows(progress.history)

    def _report(self, loss: float, step_s: float) -> None:
        left = (self.settings.steps - self.progress.step) * step_s / 60
        logger.info(
            "step %d/%d  loss %.4f  %.2f s a step  about %.0f min left",
            self.progress.step, self.settings.steps, loss, step_s, left,
        )  # fmt: skip

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = state["best"]
        self.progress = Progress(**state["progress"])
        logger.info("resumed at step %d", self.progress.step)
