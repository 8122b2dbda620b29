"""Prepare labelled images once for training: normalised, rescaled, with their targets."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.normalise import Mode, fit_normaliser
from models.flows import encode_flows, renumber
from models.size_view import median_diameter
from training.data import Record, read_image, read_labels
from training.optics import simulate_dic, simulate_phase

logger = logging.getLogger(__name__)

CACHE_VERSION = 2  # raise it when what a field holds changes
RING_PX = 9  # background that is trusted around a partially annotated cell


@dataclass(frozen=True)
class Field:
    """One prepared image.

    Attributes
    ----------
    image : (Y, X, 3) ndarray of float16
        Normalised pixels.
    labels : (Y, X) ndarray of int32
        Ids 1..N without gaps, 0 = background.
    flow : (2, Y, X) ndarray of float16
        Unit vectors to the centres; (2, 0, 0) where not asked for.
    trusted : (Y, X) ndarray of bool
        Where the labels say the truth; False far from partially annotated cells.
    dataset, modality, name : str
        Where it came from.
    scale : float
        Pixels of the field a pixel of the file.
    """

    image: NDArray[np.float16]
    labels: NDArray[np.int32]
    flow: NDArray[np.float16]
    trusted: NDArray[np.bool_]
    dataset: str
    modality: str
    name: str
    scale: float


@dataclass(frozen=True)
class FieldSettings:
    """How fields are prepared.

    Attributes
    ----------
    mode : {"joint", "per_channel"}
        Normalisation of the channels.
    diameter_px : float
        Median cell diameter after rescaling; 0 keeps the file's own pixels.
    max_diameter_px : float
        Images of larger cells are reduced to it (only without ``diameter_px``); 0 for none.
    with_flow : bool
        Whether flow targets are computed.
    max_side_px : int
        Larger images are reduced to it (only without ``diameter_px``).
    per_channel : tuple of str
        Modalities whose channels are normalised one by one whatever ``mode`` says.
    """

    mode: Mode = "joint"
    diameter_px: float = 0.0
    max_diameter_px: float = 0.0
    with_flow: bool = False
    max_side_px: int = 2048
    per_channel: tuple[str, ...] = ()

    def mode_for(self, modality: str) -> Mode:
        """Give the normalisation of a modality's images."""
        return "per_channel" if modality in self.per_channel else self.mode


def prepare_field(record: Record, settings: FieldSettings, render: str = "") -> Field:
    """Read, normalise, rescale and encode one labelled record.

    Parameters
    ----------
    record : Record
        With a label file.
    settings : FieldSettings
        What the expert needs.
    render : {"", "phase", "dic"}
        Simulate this contrast from a quantitative phase image first.

    Returns
    -------
    Field

    Raises
    ------
    ValueError
        If the record has no label, or image and label differ in size.
    """
    if record.label is None:
        raise ValueError(f"{record.image}: has no labels to prepare")
    pixels, labels = read_image(record), renumber(read_labels(record.label))
    if pixels.shape[:2] != labels.shape:
        raise ValueError(f"{record.image}: {pixels.shape[:2]} px, its labels {labels.shape} px")
    if render:
        rng = np.random.default_rng(
            int(hashlib.sha256(record.image.name.encode()).hexdigest()[:8], 16)
        )
        simulate = simulate_phase if render == "phase" else simulate_dic
        pixels = simulate(pixels[:, :, 0].astype(np.float32), rng)[:, :, None]
        dataset = f"{record.dataset}_as_{render}"
        record = replace(record, modality=render, dataset=dataset)
    return encode_field(record, pixels, labels, None, settings)


def encode_field(
    record: Record,
    pixels: NDArray[np.generic],
    labels: NDArray[np.int32],
    trusted: NDArray[np.bool_] | None,
    settings: FieldSettings,
) -> Field:
    """Normalise and rescale pixels with their labels, and encode the targets.

    Parameters
    ----------
    record : Record
        Where the pixels come from.
    pixels : (Y, X, C) ndarray
        In the file's own unit.
    labels : (Y, X) ndarray of int32
        Ids 1..N without gaps, 0 = background.
    trusted : (Y, X) ndarray of bool or None
        Where the labels say the truth; None for everywhere, or for a partially annotated record
        near its cells.
    settings : FieldSettings
        What the expert needs.

    Returns
    -------
    Field
    """
    image = fit_normaliser(pixels, settings.mode_for(record.modality)).apply(pixels)
    diameter = median_diameter(labels)
    scale = min(1.0, settings.max_side_px / max(labels.shape))
    if settings.diameter_px and np.isfinite(diameter):
        scale = settings.diameter_px / diameter
    elif settings.max_diameter_px and diameter > settings.max_diameter_px:
        scale = min(scale, settings.max_diameter_px / diameter)
    image, labels = rescale(image, labels, scale)
    if trusted is not None:
        size = (labels.shape[1], labels.shape[0])
        known = cv2.resize(trusted.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
        trusted = known > 0
    elif record.is_partial:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RING_PX + 1,) * 2)
        trusted = cv2.dilate((labels > 0).astype(np.uint8), disc) > 0
    else:
        trusted = np.ones(labels.shape, bool)
    flow = encode_flows(labels) if settings.with_flow else np.zeros((2, 0, 0), np.float32)
    return Field(
        image=image.astype(np.float16),
        labels=labels,
        flow=flow.astype(np.float16),
        trusted=trusted,
        dataset=record.dataset,
        modality=record.modality,
        name=record.image.stem,
        scale=scale,
    )


def rescale(
    image: NDArray[np.float32], labels: NDArray[np.int32], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Resample an image (area or bilinear) and its labels (nearest) by one factor."""
    if abs(scale - 1.0) < 0.02:
        return image, labels
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=smooth)
    # OpenCV resamples float32 exactly up to 2**24, so ids survive
    ids = cv2.resize(labels.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return small, renumber(ids.astype(np.int32))


def prepare_fields(
    records: Sequence[Record],
    settings: FieldSettings,
    cache_dir: Path | None = None,
    renders: Callable[[Record], Sequence[str]] | None = None,
) -> list[Field]:
    """Prepare many records on all cores, keeping the results by content.

    Parameters
    ----------
    records : sequence of Record
        With label files.
    settings : FieldSettings
        What the expert needs.
    cache_dir : Path, optional
        Where prepared fields are kept between runs; None keeps nothing.
    renders : callable, optional
        Which contrasts each record is rendered in; ``""``, the default, is the image itself.

    Returns
    -------
    list of Field
        In the order of the records.
    """
    jobs = [
        (record, render)
        for record in records
        for render in (renders(record) if renders is not None else ("",))
    ]

    def run(job: tuple[Record, str]) -> Field:
        return _cached_field(*job, settings, cache_dir)

    with ThreadPoolExecutor() as pool:
        fields = list(pool.map(run, jobs))
    logger.info("%d fields prepared", len(fields))
    return fields


def _cached_field(
    record: Record, render: str, settings: FieldSettings, cache_dir: Path | None
) -> Field:
    """Take a field from the cache, or prepare and keep it."""
    if cache_dir is None or record.label is None:
        return prepare_field(record, settings, render)
    # a rendering draws its noise by the file's name
    name = record.image.name if render else ""
    mode = settings.mode_for(render or record.modality)
    recipe = repr((CACHE_VERSION, settings, mode, render, name, record.is_partial)).encode()
    content = hashlib.sha256(record.image.read_bytes() + record.label.read_bytes() + recipe)
    path = cache_dir / f"{content.hexdigest()[:32]}.npz"
    if path.is_file():
        with np.load(path) as saved:
            field = Field(
                image=saved["image"],
                labels=saved["labels"].astype(np.int32),
                flow=saved["flow"],
                trusted=saved["trusted"],
                dataset="",
                modality="",
                name=record.image.stem,
                scale=float(saved["scale"]),
            )
        dataset = record.dataset + (f"_as_{render}" if render else "")
        return replace(field, dataset=dataset, modality=render or record.modality)
    field = prepare_field(record, settings, render)
    cache_dir.mkdir(parents=True, exist_ok=True)
    # copies of an image may be prepared at once, by other threads or other runs
    partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial.npz")
    np.savez(
        partial,
        image=field.image,
        labels=field.labels.astype(np.uint16 if field.labels.max() < 2**16 else np.int32),
        flow=field.flow,
        trusted=field.trusted,
        scale=field.scale,
    )
    partial.replace(path)
    return field
