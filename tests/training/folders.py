"""Data folders with an index, and fields in memory, for the tests of training."""

import csv
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tifffile

from models.flows import encode_flows, renumber
from router.router import BRIGHTFIELD_EXPERTS
from synthetic import make_image
from training.data import Record
from training.fields import Field

COLUMNS = (
    "image", "label", "modality", "expert", "dataset", "split", "height", "width", "channels",
    "cells", "median_diameter_px", "annotated",
)  # fmt: skip


def write_index(folder, rows):
    """Write ``index.csv``; columns that a row does not give stay empty."""
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_synthetic_data(folder, kinds, n_each=4, shape=(64, 72)):
    """Write small synthetic images of some kinds with their labels and an index."""
    rows = []
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for i in range(n_each):
            made = make_image(kind, shape, n_cells=6, seed=i, diameter_px=16)
            image, label = f"{kind}/{'abcdefgh'[i]}.png", f"{kind}/{'abcdefgh'[i]}_label.tiff"
            iio.imwrite(folder / image, made.image.squeeze())
            tifffile.imwrite(folder / label, made.labels.astype(np.uint16))
            expert = BRIGHTFIELD_EXPERTS[i % 2] if kind == "brightfield" else ""
            facts = {"modality": made.modality, "dataset": f"{kind}_set", "split": "train"}
            facts["expert"] = expert
            rows.append({"image": image, "label": label, "annotated": "all", **facts})
    write_index(folder, rows)
    return folder


def add_unlabelled(folder, kind, n_images=2):
    """Add unlabelled synthetic images of a kind to a folder that has an index."""
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for i in range(n_images):
        made = make_image(kind, (64, 72), n_cells=6, seed=100 + i, diameter_px=16)
        image = f"{kind}_more_{i}.png"
        iio.imwrite(folder / image, made.image.squeeze())
        facts = {"modality": made.modality, "dataset": f"{kind}_more", "split": "unlabelled"}
        rows.append({"image": image, "annotated": "", **facts})
    write_index(folder, rows)


def write_record(folder, labels, name="a", image=None, **facts):
    """Write one image (the cells, bright on dark, by default) and its labels as a record."""
    paths = folder / f"{name}.tif", folder / f"{name}_label.tiff"
    if image is None:
        image = np.where(labels > 0, 200, 20).astype(np.uint8)
    tifffile.imwrite(paths[0], image)
    tifffile.imwrite(paths[1], labels.astype(np.uint16))
    known = {"modality": "phase", "expert": "", "dataset": "discs", "split": "train"}
    return Record(*paths, **(known | facts))


def make_field(labels, with_flow=True, **changes):
    """Make a field whose image is 1 in cells and 0 outside."""
    labels = renumber(labels)
    values = {
        "image": np.repeat((labels > 0)[:, :, None], 3, axis=2).astype(np.float16),
        "labels": labels,
        "flow": encode_flows(labels).astype(np.float16) if with_flow else np.zeros((2, 0, 0), "f2"),
        "trusted": np.ones(labels.shape, bool),
        "dataset": "discs",
        "modality": "phase",
        "name": "a",
        "scale": 1.0,
    }
    return Field(**(values | changes))


def names_of(records):
    """List the file names of records."""
    return [Path(record.image).name for record in records]
