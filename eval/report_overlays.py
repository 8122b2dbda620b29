"""Pictures with true and predicted outlines and the errors, as layers that can be switched."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy.ndimage import find_objects

from eval.label_files import read_label_image
from eval.overlaps import Labels
from eval.report_examples import Example, Files, Verdicts, judge_instances
from eval.report_markup import Attributes, Content, Node, element
from eval.run_file import Run
from imaging.normalise import Mode, fit_normaliser
from imaging.reading import Box, open_image
from tiling.survey import survey_image

SIDE_PX = 640  # longest side of a shown part
WEBP_QUALITY = 82
GRID_PX = 16  # step in which the shown part is placed
SMALL = 16  # outlines shorter than this many times the tolerance keep their corners
TOLERANCE = 1.5  # of a simplified outline, in half pixels: smooths the stairs of pixels away
# What is filled in the layer of errors, and on which side its outline is taken.
FILLS = (
    ("true", "matched"),
    ("true", "missed"),
    ("pred", "invented"),
    ("true", "split"),
    ("pred", "merged"),
)
# As attributes: rules of the style sheet do not reach what is drawn by reference.
PATH = {"transform": "translate(.25 .25) scale(.5)", "vector-effect": "non-scaling-stroke"}
HATCHES = {  # in squares of 16 px; every kind has its direction, so that none needs its colour
    "missed": "M-4 4L4 -4M0 16L16 0M12 20L20 12",
    "invented": "M-4 12L4 20M0 0L16 16M12 -4L20 4",
    "split": "M8 0V16",
    "merged": "M0 8H16",
}


@dataclass(frozen=True)
class Overlay:
    """A drawn example.

    Attributes
    ----------
    drawing : Element
        The layers.
    box : (y0, x0, y1, x1)
        The part of the image that is shown.
    shape : (int, int)
        Size of the whole image.
    counts : mapping of str to int
        Instances of the whole image by kind: matched, missed, invented, split, merged.
    """

    drawing: Node
    box: Box
    shape: tuple[int, int]
    counts: Mapping[str, int]

    @property
    def is_whole(self) -> bool:
        """Whether all of the image is shown."""
        return self.box == (0, 0, *self.shape)


def draw_example(example: Example, files: Files | None, run: Run, identifier: str) -> Overlay:
    """Draw an example from its files.

    Parameters
    ----------
    example : Example
        What to draw.
    files : Files or None
        Its files.
    run : Run
        For its rules and first threshold.
    identifier : str
        Unique on the page.

    Returns
    -------
    Overlay
        At most 640 x 640 px of the image: where most of the errors are or, without any, most
        of the cells.

    Raises
    ------
    ValueError
        If a file is missing, or sizes do not fit; one line says which.
    imaging.reading.ImageError
        If a file cannot be read.
    """
    image_path, truth, prediction = _need(files)
    labels_true, labels_pred = read_label_image(truth), read_label_image(prediction)
    verdicts = judge_instances(labels_true, labels_pred, run.rules.border_px, run.thresholds[0])
    with open_image(image_path) as image:
        if image.shape[:2] != labels_true.shape:
            raise ValueError(
                f"{image_path.name} is {image.shape[0]} x {image.shape[1]} px, its labels are "
                f"{labels_true.shape[0]} x {labels_true.shape[1]}"
            )
        box = _choose_part(labels_true, labels_pred, verdicts)
        mode: Mode = "per_channel" if example.image.modality == "fluorescence" else "joint"
        normaliser = fit_normaliser(survey_image(image).fields, mode)
        pixels = normaliser.apply(image.read(box))
    y0, x0, y1, x1 = box
    outlines = {
        ("true", kind): trace_outlines(labels_true[y0:y1, x0:x1], ids)
        for kind, ids in verdicts.true.items()
    } | {
        ("pred", kind): trace_outlines(labels_pred[y0:y1, x0:x1], ids)
        for kind, ids in verdicts.pred.items()
    }
    drawing = _draw_layers(identifier, _describe(example), encode_picture(pixels), outlines)
    counts = {kind: len(getattr(verdicts, side)[kind]) for side, kind in FILLS}
    return Overlay(drawing, box, (labels_true.shape[0], labels_true.shape[1]), counts)


def encode_picture(pixels: NDArray[np.floating]) -> tuple[str, int, int]:
    """Encode a picture for the page.

    Parameters
    ----------
    pixels : (Y, X, 3) ndarray of float
        0 is black, 1 is white.

    Returns
    -------
    str, int, int
        A data URL (WebP), width and height.
    """
    shown = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(shown).save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/webp;base64,{code}", shown.shape[1], shown.shape[0]


def trace_outlines(labels: Labels, ids: Iterable[int]) -> str:
    """Trace the outlines of some instances as one path of vector graphics.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.
    ids : iterable of int
        Instances to trace; those that are not in the image are passed over.

    Returns
    -------
    str
        Path data in half pixels, simplified to 0.75 px; empty without instances. Holes are left
        out.
    """
    inside = np.isin(labels, list(ids))
    if not inside.any():
        return ""
    present, index = np.unique(labels[inside], return_inverse=True)
    numbered = np.zeros(labels.shape, np.int32)
    numbered[inside] = index + 1
    parts = []
    for number, (rows, columns) in enumerate(find_objects(numbered, present.size), start=1):
        mask = (numbered[rows, columns] == number).astype(np.uint8)
        doubled = np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)
        contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for contour in contours:
            tolerance = min(TOLERANCE, len(contour) / SMALL)
            points = cv2.approxPolyDP(contour, tolerance, closed=True)[:, 0]
            parts.append(_write_path(points + np.array([2 * columns.start, 2 * rows.start])))
    return "".join(parts)


def _need(files: Files | None) -> tuple[Path, Path, Path]:
    """Give the three files, or say which is missing."""
    if files is None:
        raise ValueError("its files were not found, or several bear its name")
    missing = [
        word
        for word, path in (
            ("the image", files.image),
            ("the true labels", files.truth),
            ("the predicted labels", files.prediction),
        )
        if path is None
    ]
    if files.image is None or files.truth is None or files.prediction is None:
        raise ValueError(f"not found: {' and '.join(missing)}")
    return files.image, files.truth, files.prediction


def _choose_part(labels_true: Labels, labels_pred: Labels, verdicts: Verdicts) -> Box:
    """Choose the part with most pixels of errors or, without errors, of cells."""
    height, width = labels_true.shape
    if max(height, width) <= SIDE_PX:
        return (0, 0, height, width)
    wrong_true = [i for kind in ("missed", "split", "swallowed") for i in verdicts.true[kind]]
    wrong_pred = [i for kind in ("invented", "merged", "fragment") for i in verdicts.pred[kind]]
    wrong = np.isin(labels_true, wrong_true) | np.isin(labels_pred, wrong_pred)
    if not wrong.any():
        wrong = (labels_true > 0) | (labels_pred > 0)
    rows, columns = np.arange(0, height, GRID_PX), np.arange(0, width, GRID_PX)
    blocks = np.add.reduceat(np.add.reduceat(wrong, rows, axis=0, dtype=np.int64), columns, axis=1)
    sums = np.pad(blocks.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    n = SIDE_PX // GRID_PX
    tall, wide = min(n, blocks.shape[0]), min(n, blocks.shape[1])
    inside = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    y0 = max(0, min(int(y) * GRID_PX, height - SIDE_PX))
    x0 = max(0, min(int(x) * GRID_PX, width - SIDE_PX))
    return (y0, x0, min(y0 + SIDE_PX, height), min(x0 + SIDE_PX, width))


def _write_path(points: NDArray[np.int32]) -> str:
    """Write a closed polygon (x, y) with steps relative to its first point, which are short."""
    first, steps = points[0], np.diff(points, axis=0)
    moves = "".join(f"{dx} {dy} " for dx, dy in steps.tolist()).rstrip()
    return f"M{first[0]} {first[1]}l{moves}z"


def _describe(example: Example) -> str:
    """Say what a picture shows, for those who do not see it."""
    return f"{example.image.key.lstrip('/')}: F1 {example.f1:.3f}"


def _draw_layers(
    identifier: str,
    title: str,
    picture: tuple[str, int, int],
    outlines: Mapping[tuple[str, str], str],
) -> Node:
    """Lay picture, errors, true and predicted outlines over one another."""
    url, width, height = picture
    known = {key: data for key, data in outlines.items() if data}
    names = {key: f"{identifier}-{key[0]}-{key[1]}" for key in known}
    paths = [element("path", {"id": names[key], "d": data, **PATH}) for key, data in known.items()]
    hatches = [_hatch(identifier, kind, max(width, height)) for kind in HATCHES]
    fills = [
        element("use", {"href": f"#{names[side, kind]}", **style})
        for side, kind in FILLS
        if (side, kind) in known
        for style in _fills(identifier, kind)
    ]
    size = {"width": width, "height": height}
    return element(
        "svg",
        {
            "class": "overlay",
            "role": "img",
            "viewBox": f"0 0 {width} {height}",
            "preserveAspectRatio": "xMinYMin meet",
            "aria-labelledby": f"{identifier}-t",
        },
        element("title", {"id": f"{identifier}-t"}, title),
        element("defs", {}, *hatches, *paths),
        element("rect", {"class": "ground", **size}),
        element("image", {"class": "layer-image", "href": url, **size}),
        element("g", {"class": "layer-errors"}, *fills),
        *(_draw_lines(side, names) for side in ("true", "pred")),
    )


def _draw_lines(side: str, names: Mapping[tuple[str, str], str]) -> Node:
    """Draw the outlines of one side, each over a dark one that lifts it off a bright image."""
    lines: list[Content] = []
    for key in (key for key in names if key[0] == side):
        group = f"line {side}{' unscored' if key[1] == 'unscored' else ''}"
        lines += [
            element("use", {"href": f"#{names[key]}", "class": name}) for name in ("halo", group)
        ]
    return element("g", {"class": f"layer-{side}"}, *lines)


def _hatch(identifier: str, kind: str, side_px: int) -> Node:
    """Draw a hatch whose lines are as far apart on the screen whatever the size of the part."""
    scale = side_px / SIDE_PX
    return element(
        "pattern",
        {
            "id": f"{identifier}-{kind}",
            "width": 16,
            "height": 16,
            "patternUnits": "userSpaceOnUse",
            "patternTransform": f"scale({scale:.3f})",
        },
        element("path", {"d": HATCHES[kind], "class": f"hatch {kind}"}),
    )


def _fills(identifier: str, kind: str) -> list[Attributes]:
    """Fill a kind with its tint and its hatch; what is right gets no hatch."""
    tint: Attributes = {"class": f"tint {kind}"}
    return [tint, {"fill": f"url(#{identifier}-{kind})"}] if kind in HATCHES else [tint]
