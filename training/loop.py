"""The training loop: steps, averaged weights, validation, checkpoints that resume exactly."""

import copy
import logging
import math
import os
import signal
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from models.torch_runtime import half_type, lay_out, memory_layout
from training.monitor import Monitor

logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]
REPORT_EVERY = 25  # steps that one row of the losses is the mean of
MAX_NORM = 5.0  # of the gradient


class DivergedError(Exception):
    """A loss or a gradient is not a number; the last checkpoint is kept."""


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

    def name_batch(self, n: int, seed: tuple[int, int]) -> list[str]:
        """Name what the crops of a batch were drawn from, for messages."""

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Compute the scalar loss of a batch."""

    def validate(self, model: nn.Module) -> float:
        """Compute the mean F1 at IoU 0.5 over the validation images, after decoding.

        What it leaves in the network's buffers is kept with the best weights.
        """


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
    losses : list of dict
        One row every 25 steps: their mean loss, and the learning rate.
    recent : list of float
        Losses since the last of these rows.
    """

    step: int = 0
    seconds: float = 0.0
    best_f1: float = -1.0
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)


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


class Stop(Protocol):
    """Something that may ask a run to stop."""

    @property
    def is_set(self) -> bool:
        """Whether it asks."""


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
        Torch device. On a GPU convolutions are asked to be deterministic, so that a seed gives
        the same weights on the same machine.
    """

    def __init__(self, task: Task, settings: LoopSettings, run_dir: Path, device: str) -> None:
        self.task, self.settings, self.run_dir, self.device = task, settings, run_dir, device
        self.half_type = half_type(device)
        torch.manual_seed(settings.seed)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        self.layout = memory_layout(device)
        self.model = lay_out(task.build().to(device), self.layout)
        self.average = copy.deepcopy(self.model)
        self.best: dict[str, torch.Tensor] = {}
        self.optimiser = build_optimiser(self.model, settings)
        self.progress = Progress()
        self.monitor = Monitor(run_dir)
        self.checkpoint = run_dir / "checkpoint.pt"
        run_dir.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.is_file():
            self._resume()

    def run(self, stop: Stop | None = None) -> bool:
        """Train to the last step, or until a stop is asked for.

        Returns
        -------
        bool
            True when the last step was done.
        """
        settings, progress = self.settings, self.progress
        self._began, self._first = time.monotonic(), progress.step
        n_ahead = max(1, min(8, (os.cpu_count() or 1) // 2))  # batches drawn while one is learnt
        pending: deque[Future[dict[str, np.ndarray]]] = deque()
        with self.monitor, ThreadPoolExecutor(n_ahead) as pool:
            while progress.step < settings.steps:
                began = time.monotonic()
                while len(pending) < min(n_ahead + 1, settings.steps - progress.step):
                    pending.append(pool.submit(self._draw, progress.step + len(pending)))
                loss = self._step(pending.popleft().result())
                progress.step += 1
                progress.recent.append(loss)
                if progress.step % REPORT_EVERY == 0:
                    self._report()
                last = progress.step == settings.steps
                if progress.step % settings.validate_every == 0 or last:
                    self._validate(loss)
                progress.seconds += time.monotonic() - began
                wanted = stop is not None and stop.is_set
                if progress.step % settings.checkpoint_every == 0 or last or wanted:
                    self._save()
                if wanted:
                    for drawn in pending:
                        drawn.cancel()
                    return last
        return True

    def best_state(self) -> dict[str, torch.Tensor]:
        """Give the averaged weights of the best validation, or the last ones without any."""
        return self.best or self.average.state_dict()

    def _draw(self, step: int) -> dict[str, np.ndarray]:
        return self.task.draw_batch(self.settings.batch, (self.settings.seed, step))

    def _step(self, arrays: dict[str, np.ndarray]) -> float:
        batch = {name: torch.from_numpy(a).to(self.device) for name, a in arrays.items()}
        for name, value in batch.items():
            if value.ndim == 4:
                batch[name] = value.contiguous(memory_format=self.layout)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.progress.step, self.settings)
        self.model.train()
        with torch.autocast(
            self.device.split(":")[0], dtype=self.half_type, enabled=self.half_type is not None
        ):
            loss = self.task.loss(self.model, batch)
        loss_value = float(loss.detach())
        self._check_finite("loss", loss_value)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self._check_finite("gradient", float(norm))
        self.optimiser.step()
        update_average(self.average, self.model, self.settings.average, self.progress.step)
        return loss_value

    def _check_finite(self, what: str, value: float) -> None:
        """Stop before a step that would spoil the weights."""
        if math.isfinite(value):
            return
        step = self.progress.step
        names = self.task.name_batch(self.settings.batch, (self.settings.seed, step))
        kept = f"{self.checkpoint} keeps" if self.checkpoint.is_file() else "no checkpoint keeps"
        raise DivergedError(
            f"the {what} of step {step + 1} is {value}, in a batch of {', '.join(names)}; "
            f"{kept} the steps before; look at these images, or give a lower learning rate"
        )

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
        self.monitor.note_validation(progress.history, progress.losses)

    def _report(self) -> None:
        progress = self.progress
        row = {
            "step": progress.step,
            "loss": float(np.mean(progress.recent)),
            "lr": self.optimiser.param_groups[0]["lr"],
        }
        progress.losses.append(row)
        progress.recent = []
        self.monitor.note_loss(progress.losses)
        step_s = (time.monotonic() - self._began) / (progress.step - self._first)
        logger.info(
            "step %d/%d  loss %.4f  %.2f s a step  about %.0f min left", progress.step,
            self.settings.steps, row["loss"], step_s,
            (self.settings.steps - progress.step) * step_s / 60,
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
        logger.info("%s: resumed at step %d", self.run_dir.name, self.progress.step)
