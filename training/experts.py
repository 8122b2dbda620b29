"""Train one expert from a list of records: recipe, fields, runs, weights."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from manifest import WEIGHTS_DIR, WeightsError, sha256_of, verified_path
from training.cellpose_task import FIELD_DIAMETER_PX, CellposeTask
from training.cross_task import CrossTask
from training.cycle import CycleJob, CycleSettings, run_cycles
from training.data import DataError, Record, split_validation
from training.export import Outcome, describe_training, export_expert, outcome_of
from training.fields import Field, FieldSettings, prepare_fields
from training.ledger import Ledger, digest_records
from training.loop import Stop, Trainer
from training.mask_task import CDNetTask, UNetTask
from training.patch_task import PatchTask
from training.pseudo import PseudoSettings, prepare_unlabelled
from training.recipes import Augment, Recipe, choose_augment, choose_semi, paper_protocol
from training.start import Start, read_best, read_start

logger = logging.getLogger(__name__)

BASE = "cellpose_base"  # a start for others, not shipped
TASKS: dict[str, type[PatchTask]] = {
    "cpnet": CellposeTask,
    "unet": UNetTask,
    "cdnet": CDNetTask,
}
FIELD_SETTINGS = {
    "cpnet": FieldSettings(
        mode="joint",
        diameter_px=FIELD_DIAMETER_PX,
        with_flow=True,
        per_channel=("fluorescence",),
    ),
    "unet": FieldSettings(mode="joint", max_diameter_px=100.0),
    "cdnet": FieldSettings(mode="per_channel"),
}
N_VALIDATION = 3  # validation fields a data set that are segmented at each validation


@dataclass(frozen=True)
class Choices:
    """What a user changes of the recipes.

    Attributes
    ----------
    protocol : {"short", "paper"}
        The recipe's optimisation, or Table 2's.
    augment : {"paper", "short", "wide"}
        The recipe's augmentation, less (the paper's), or more (for unseen sources).
    semi : {"none", "paper", "cycle", "cross"}
        How unlabelled images teach.
    n_cycles : int
        Of the pseudo-mask cycle.
    steps, batch, seed : int or None
        Instead of the recipe's.
    init : Path or None
        Weight file to start from, instead of the recipe's start.
    """

    protocol: Literal["short", "paper"] = "short"
    augment: Augment = "short"
    semi: Literal["none", "paper", "cycle", "cross"] = "none"
    n_cycles: int = 1
    steps: int | None = None
    batch: int | None = None
    seed: int | None = None
    init: Path | None = None


@dataclass(frozen=True)
class Workplace:
    """Where training happens.

    Attributes
    ----------
    runs : Path
        Checkpoints and caches.
    weights : Path
        Receives the weights.
    device : str
        Torch device.
    """

    runs: Path = Path("runs")
    weights: Path = WEIGHTS_DIR
    device: str = "cpu"


@dataclass(frozen=True)
class Commission:
    """One expert to be trained.

    Attributes
    ----------
    name : str
    recipe : Recipe
        With the user's choices in it.
    labelled, unlabelled : sequence of Record
        Those it learns from; unlabelled ones only if it learns from such.
    init : Path or None
        Weight file to start from.
    cycle : CycleSettings
    """

    name: str
    recipe: Recipe
    labelled: Sequence[Record]
    unlabelled: Sequence[Record]
    init: Path | None = None
    cycle: CycleSettings = CycleSettings()


def plan_expert(
    name: str, recipe: Recipe, records: Sequence[Record], choices: Choices
) -> Commission:
    """Put together what training an expert takes, and refuse what cannot work.

    Parameters
    ----------
    name : str
        The expert.
    recipe : Recipe
        Its defaults.
    records : sequence of Record
        All records with a modality; ``train`` and ``unlabelled`` ones are used.
    choices : Choices
        Changes.

    Returns
    -------
    Commission

    Raises
    ------
    DataError
        If there are too few images, or a method does not suit the network.
    """
    accepted = [record for record in records if recipe.accepts(record)]
    labelled = [r for r in accepted if r.split == "train" and r.label is not None]
    train, validation = split_validation(labelled)
    validation = [record for record in validation if not recipe.is_guest(record)]
    modalities = " or ".join(recipe.modalities)
    if all(recipe.is_guest(record) for record in train):
        raise DataError(f"{name}: no labelled training images of {modalities}; check --data")
    if not few_each(validation):
        raise DataError(
            f"{name}: {len(labelled)} labelled images of {modalities}, none is left to validate "
            "on; two with all cells labelled are the least"
        )
    if choices.protocol == "paper":
        recipe = paper_protocol(recipe, len(train))
    recipe = choose_augment(recipe, choices.augment)
    recipe = choose_semi(name, recipe, "none" if name == BASE else choices.semi)
    changes = {key: getattr(choices, key) for key in ("steps", "batch", "seed")}
    changes = {key: value for key, value in changes.items() if value is not None}
    recipe = replace(recipe, loop=replace(recipe.loop, **changes))
    if len(train) < recipe.loop.batch:
        logger.warning(
            "%s: %d images for batches of %d crops, so a batch holds several crops of an image",
            name, len(train), recipe.loop.batch,
        )  # fmt: skip
    if recipe.loop.steps == 0 and not (recipe.starts_from or choices.init):
        raise DataError(f"{name}: starts from random weights, which 0 steps leave as they are")
    unlabelled = [r for r in accepted if r.split == "unlabelled" and not recipe.is_guest(r)]
    if recipe.semi != "none" and not unlabelled:
        raise DataError(f"{name}: no unlabelled images of {modalities} for --semi {recipe.semi}")
    return Commission(
        name,
        recipe,
        labelled,
        unlabelled if recipe.semi != "none" else [],
        choices.init,
        CycleSettings(n_cycles=choices.n_cycles),
    )


def train_expert(job: Commission, place: Workplace, stop: Stop) -> bool:
    """Train and export one expert, or go on with it, or skip it if that was done.

    Parameters
    ----------
    job : Commission
        From :func:`plan_expert`.
    place : Workplace
        Folders and device.
    stop : StopRequest
        Heeded after each step and each pseudo-mask.

    Returns
    -------
    bool
        False if a stop was asked for before the end.

    Raises
    ------
    DataError
        If the run it starts from was not trained yet, or the file to start from has no weights.
    ValueError
        If no weight to start from fits, or no image holds a cell.
    training.loop.DivergedError
        If a loss is not a number.
    """
    run_dir = place.runs / job.name
    start = choose_start(job, place.runs)
    plan = describe_plan(job, start)
    ledger = Ledger(run_dir)
    if ledger.is_finished(plan, shipped_proof(job.name, place)):
        logger.info("%s: trained already; remove %s to train it anew", job.name, run_dir)
        return True
    ledger.begin(plan)
    task = build_task(job, start, place.runs)
    outcome = run_trainings(job, task, place, stop)
    if outcome is None:
        return False
    outcome = replace(outcome, facts={**outcome.facts, "data_digest": plan["labelled"]})
    save_best(run_dir, outcome, describe_training(job.recipe, task, outcome, place.device))
    if job.name != BASE:
        export_expert(job.name, job.recipe, task, outcome, place.weights, place.device)
        logger.info("%s: validation F1 %.4f", job.name, outcome.validation_f1)
    ledger.finish(plan, shipped_proof(job.name, place))
    return True


def run_trainings(job: Commission, task: PatchTask, place: Workplace, stop: Stop) -> Outcome | None:
    """Run the supervised training, and what unlabelled images add; None when stopped."""
    if job.recipe.loop.steps == 0:
        return take_over(task, place.device)
    run_dir, semi = place.runs / job.name, job.recipe.semi
    pseudo, fields = job.cycle.pseudo, field_settings(job.recipe)
    crossed = None
    if semi == "cross":
        crossed = CrossTask(task, prepare_unlabelled(job.unlabelled, fields, pseudo))
    # a pair's checkpoint is none of one network
    folder = run_dir / "cross" if crossed else run_dir
    trainer = Trainer(crossed or task, job.recipe.loop, folder, place.device)
    if not trainer.run(stop):
        return None
    outcome = outcome_of(trainer)
    if crossed:
        counts = {"semi_supervision": "cross", "unlabelled": count_sets(crossed.unlabelled)}
        return replace(outcome, facts=counts)
    if semi == "cycle":
        cycles = CycleJob(
            job.name, task, job.recipe.loop, job.unlabelled, fields, run_dir, place.device,
            job.cycle,
        )  # fmt: skip
        return run_cycles(cycles, outcome, stop)
    return outcome


def take_over(task: PatchTask, device: str) -> Outcome:
    """Validate the weights that an expert starts from and leave them as they are."""
    network = task.build().to(device).eval()
    f1 = task.validate(network)
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    return Outcome(state, f1, best_step=0, steps=0, seconds=0.0, stage="start, not fine-tuned")


def choose_start(job: Commission, runs_dir: Path) -> Start | None:
    """Read the weights an expert starts from; None for random ones."""
    if job.init is not None:
        return read_start(job.init)
    return read_best(runs_dir / job.recipe.starts_from) if job.recipe.starts_from else None


def build_task(job: Commission, start: Start | None, runs_dir: Path) -> PatchTask:
    """Prepare the fields of an expert and put its task together.

    Raises
    ------
    ValueError
        If no label image holds a cell.
    """
    train, validation = split_validation(job.labelled)
    recipe, cache = job.recipe, runs_dir / "cache"
    judges = few_each([record for record in validation if not recipe.is_guest(record)])
    settings = field_settings(recipe)
    return TASKS[recipe.network](
        usable(prepare_fields(train, settings, cache, recipe.renders)),
        usable(prepare_fields(judges, settings, cache, recipe.renders)),
        recipe.emphasis,
        recipe.geometry,
        recipe.colour,
        start,
        recipe.colours,
        guests={record.dataset for record in train if recipe.is_guest(record)},
        guest_share=recipe.guest_share,
        crowd=recipe.crowd,
        touching_weight=recipe.touching_weight,
    )


def field_settings(recipe: Recipe) -> FieldSettings:
    """Tell how the fields of a recipe are prepared."""
    settings = FIELD_SETTINGS[recipe.network]
    return replace(settings, mode=recipe.sees, per_channel=()) if recipe.sees else settings


def describe_plan(job: Commission, start: Start | None) -> dict[str, object]:
    """Describe all that decides what a run comes to."""
    plan: dict[str, object] = {
        "recipe": asdict(job.recipe),
        "labelled": digest_records(job.labelled),
        "start": f"{start.name} {start.digest()}" if start else "random weights",
    }
    if job.unlabelled:
        plan["unlabelled"] = digest_records(job.unlabelled)
        plan["cycle"] = asdict(job.cycle)
        plan["pseudo"] = asdict(PseudoSettings())
    return plan


def shipped_proof(name: str, place: Workplace) -> str:
    """Give the SHA-256 of what a run made: the weight file, or for the base its weights."""
    if name == BASE:
        path = place.runs / name / "best.pt"
        return sha256_of(path) if path.is_file() else "missing"
    try:
        return sha256_of(verified_path(f"{name}.safetensors", place.weights))
    except WeightsError:
        return "missing"


def save_best(run_dir: Path, outcome: Outcome, facts: Mapping[str, object]) -> None:
    """Keep the weights that others start from, in full precision, and how they were trained."""
    partial = run_dir / "best.partial"
    torch.save(dict(outcome.state), partial)
    partial.replace(run_dir / "best.pt")
    (run_dir / "best.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def count_sets(fields: Sequence[Field]) -> Mapping[str, int]:
    """Count the fields of each data set."""
    names = [field.dataset for field in fields]
    return {name: names.count(name) for name in sorted(set(names))}


def few_each(records: Sequence[Record]) -> list[Record]:
    """Keep the first records of each data set, completely annotated ones only."""
    kept: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if not record.is_partial and len(kept[record.dataset]) < N_VALIDATION:
            kept[record.dataset].append(record)
    return [record for group in kept.values() for record in group]


def usable(fields: Sequence[Field]) -> list[Field]:
    """Leave out fields without any cell."""
    return [field for field in fields if field.labels.any()]
