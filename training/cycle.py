"""The Cellpose experts' cycle on unlabelled images (paper, section 2.3).

One cycle: the current expert makes pseudo-masks; its network learns from these alone; the result is
fine-tuned on the labelled images. The best validated network of all, the supervised one included,
is the outcome: a cycle that does not help does not ship.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from manifest import WeightsError, verified_path, write_entry
from models.registry import SPECS, load_segmenter
from models.weights import write_weights
from training.data import Record
from training.export import Outcome, outcome_of, ready_network
from training.fields import Field, FieldSettings
from training.loop import LoopSettings, Stop, Trainer
from training.patch_task import PatchTask
from training.pseudo import PseudoSettings, prepare_pseudo
from training.start import Start, State

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CycleSettings:
    """How often and how long.

    Attributes
    ----------
    n_cycles : int
    steps_share : float
        Steps of each of a cycle's two trainings, as a share of the recipe's.
    pseudo : PseudoSettings
        Which pseudo-masks count.
    """

    n_cycles: int = 1
    steps_share: float = 0.5
    pseudo: PseudoSettings = PseudoSettings()


@dataclass(frozen=True)
class CycleJob:
    """What the cycles of one expert need.

    Attributes
    ----------
    name : str
        The expert.
    task : PatchTask
        Its supervised task.
    loop : LoopSettings
        Of the supervised training.
    unlabelled : sequence of Record
        Images that can be opened.
    fields : FieldSettings
        What its network needs.
    run_dir : Path
        Of the supervised run; ``cycle1-DIGEST/`` and so on, by teacher, come below it.
    device : str
        Torch device.
    settings : CycleSettings
    """

    name: str
    task: PatchTask
    loop: LoopSettings
    unlabelled: Sequence[Record]
    fields: FieldSettings
    run_dir: Path
    device: str
    settings: CycleSettings


def run_cycles(job: CycleJob, supervised: Outcome, stop: Stop) -> Outcome | None:
    """Run the cycles from a supervised outcome.

    Parameters
    ----------
    job : CycleJob
    supervised : Outcome
        Where the first cycle starts.
    stop : StopRequest
        Heeded after each image and each step.

    Returns
    -------
    Outcome or None
        The best validated one, with the steps and hours of all; None when stopped, to be
        resumed by another call.
    """
    best = current = supervised
    learnt: Counter[str] = Counter()
    for number in range(1, job.settings.n_cycles + 1):
        teacher = Start(current.state, current.stage).digest()
        folder = job.run_dir / f"cycle{number}-{teacher}"  # what another teacher made stays apart
        fields = _pseudo_fields(job, current.state, folder, stop)
        if fields is None:
            return None
        if not fields:
            logger.warning("%s: no pseudo-mask is sure enough; no cycle from here", job.name)
            break
        learnt.update(field.dataset for field in fields)
        taught = _train(job, folder / "pseudo", _taught(job.task, fields, current), number, stop)
        if taught is None:
            return None
        tuned_task = replace(job.task, init=Start(taught.state, f"{job.name}, cycle {number}"))
        tuned = _train(job, folder / "labelled", tuned_task, number, stop)
        if tuned is None:
            return None
        seconds = current.seconds + taught.seconds + tuned.seconds
        steps = current.steps + taught.steps + tuned.steps
        current = replace(tuned, seconds=seconds, steps=steps, stage=f"cycle {number}")
        if current.validation_f1 > best.validation_f1:
            best = current
    facts = {
        "semi_supervision": "cycle",
        "unlabelled": dict(sorted(learnt.items())),
        "supervised_f1": round(supervised.validation_f1, 4),
    }
    return replace(best, seconds=current.seconds, steps=current.steps, facts=facts)


def _pseudo_fields(job: CycleJob, state: State, folder: Path, stop: Stop) -> list[Field] | None:
    """Ship the current weights to a folder of their own, load them as a user would, segment."""
    weights_dir, file = folder / "weights", SPECS[job.name].weights
    try:
        verified_path(file, weights_dir)
    except WeightsError:
        network, _ = ready_network(job.task, state, job.device)
        write_weights(weights_dir / file, network.state_dict())
        write_entry(weights_dir, file, {"stage": f"teacher of {folder.name}"})
    segmenter = load_segmenter(job.name, job.device, weights_dir)
    settings = (job.fields, job.settings.pseudo)
    return prepare_pseudo(
        job.unlabelled, segmenter, settings, folder / "masks", lambda: stop.is_set
    )


def _taught(task: PatchTask, fields: Sequence[Field], current: Outcome) -> PatchTask:
    """Set up the training on pseudo-masks; validation stays on labelled images."""
    return replace(task, train=fields, emphasis={}, init=Start(current.state, current.stage))


def _train(
    job: CycleJob, run_dir: Path, task: PatchTask, number: int, stop: Stop
) -> Outcome | None:
    """Run one of a cycle's trainings; None when stopped."""
    steps = max(1, round(job.loop.steps * job.settings.steps_share))
    every = min(job.loop.validate_every, steps)
    loop = replace(job.loop, steps=steps, validate_every=every, seed=job.loop.seed + number)
    trainer = Trainer(task, loop, run_dir, job.device)
    return outcome_of(trainer, run_dir.name) if trainer.run(stop) else None
