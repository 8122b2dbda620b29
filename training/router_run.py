"""The router's place in a training of everything: fitted once, found by whoever needs it."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from manifest import (
    MANIFEST_NAME,
    WEIGHTS_DIR,
    WeightsError,
    read_manifest,
    sha256_of,
    verified_path,
    write_entry,
)
from router.router import MODALITIES, ROUTER_NAME, Router, load_router
from training.data import list_records
from training.experts import Workplace
from training.ledger import Ledger, digest_records
from training.router import (
    RECORD_NAME,
    FitSettings,
    fit_router,
    measure_samples,
    validate,
    write_router,
)

logger = logging.getLogger(__name__)


def train_router(data_dir: Path, place: Workplace, leave_out: Sequence[str] = ()) -> None:
    """Fit and validate the router on all but the test images, or skip it if that was done.

    Parameters
    ----------
    data_dir : Path
        With an index that names modalities. Without (the challenge's own layout names none), the
        router at hand is taken over into the weights folder.
    place : Workplace
        Receives ``router.joblib``.
    leave_out : sequence of str
        Data sets that it does not see.

    Raises
    ------
    training.data.DataError
        If the images do not allow a fit.
    WeightsError
        If there is no modality to learn and no router to take over.
    """
    records = [r for r in list_records(data_dir) if r.split != "test"]
    records = [r for r in records if r.dataset not in leave_out]
    if not any(record.modality for record in records):
        adopt_router(place.weights)
        return
    records = [record for record in records if record.modality in ("", *MODALITIES)]
    settings, ledger = FitSettings(), Ledger(place.runs / "router")
    plan = {"settings": asdict(settings), "images": digest_records(records)}
    if ledger.is_finished(plan, _proof(place.weights)):
        logger.info("router: fitted already; remove %s to fit it anew", ledger.path.parent)
        return
    ledger.begin(plan)
    logger.info("router: measuring %d images", len(records))
    samples = measure_samples(records)
    validation = validate(samples, settings)
    logger.info("router: right on validation images: %s", validation)
    router, record = fit_router(samples, settings)
    write_router(place.weights, router, record | {"validation": validation})
    ledger.finish(plan, _proof(place.weights))


def find_router(weights_dir: Path) -> Router:
    """Load the router of a weights folder, or the shipped one if it has none."""
    try:
        return load_router(weights_dir)
    except WeightsError:
        if weights_dir.resolve() == WEIGHTS_DIR.resolve():
            raise
        logger.info("%s has no router; the shipped one names the modalities", weights_dir)
        return load_router(WEIGHTS_DIR)


def adopt_router(weights_dir: Path) -> None:
    """Copy the shipped router into a weights folder without one, so that the folder is whole."""
    if (weights_dir / MANIFEST_NAME).is_file() and ROUTER_NAME in read_manifest(weights_dir):
        return
    source = verified_path(ROUTER_NAME, WEIGHTS_DIR)
    weights_dir.mkdir(parents=True, exist_ok=True)
    for path in (source, source.with_name(RECORD_NAME)):
        (weights_dir / path.name).write_bytes(path.read_bytes())
    write_entry(weights_dir, ROUTER_NAME, read_manifest(WEIGHTS_DIR)[ROUTER_NAME])
    logger.info("router: no modalities to learn from, the shipped one is taken over")


def _proof(weights_dir: Path) -> str:
    """Give the SHA-256 of the router at hand."""
    try:
        return sha256_of(verified_path(ROUTER_NAME, weights_dir))
    except WeightsError:
        return "missing"
