"""Augmentation of geometry, image and targets together; intensities are another file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.fields import Field

FloatArray = NDArray[np.float32]

REACH_MARGIN_PX = 8.0  # around a crop, for the blur before it is reduced
MARGIN_REACH_PX = 448.0  # reach up to which that is enough; the blur grows with the reach


@dataclass(frozen=True)
class Patch:
    """One training crop.

    Attributes
    ----------
    image : (Y, X, 3) ndarray of float32
    labels : (Y, X) ndarray of int32
        Ids may have gaps.
    flow : (2, Y, X) ndarray of float32
        Unit vectors, 0 outside cells; zeros where the fields carry none.
    trusted : (Y, X) ndarray of bool
        Pixels that count in the loss.
    """

    image: FloatArray
    labels: NDArray[np.int32]
    flow: FloatArray
    trusted: NDArray[np.bool_]


@dataclass(frozen=True)
class GeometrySettings:
    """Ranges of the random affine transform.

    Attributes
    ----------
    patch_px : int
        Side of the crop.
    scale : (float, float)
        Range of the zoom, drawn evenly in its logarithm.
    rotate : bool
        Any angle, or multiples of 90 degrees only.
    mosaic : float
        Probability that a field smaller than the crop is laid beside others of its data set.
    wide_share : float
        Probability that the zoom comes from ``wide_scale`` instead of ``scale``.
    wide_scale : (float, float)
        Range of the zooms of unseen microscopes, drawn evenly in its logarithm.
    mosaic_zoom : float
        Pieces of a mosaic are each magnified or reduced by up to this factor; 1 for none.
    on_cells : float
        Probability that the middle of the crop lies on a cell, each as likely as the others,
        instead of anywhere: fields of few cells give empty crops else.
    """

    patch_px: int
    scale: tuple[float, float] = (0.7, 1.4)
    rotate: bool = True
    mosaic: float = 0.9
    wide_share: float = 0.0
    wide_scale: tuple[float, float] = (0.25, 4.0)
    mosaic_zoom: float = 1.0
    on_cells: float = 0.0


def draw_patch(
    field: Field, peers: Sequence[Field], settings: GeometrySettings, rng: np.random.Generator
) -> Patch:
    """Cut one randomly turned, flipped and zoomed crop.

    Parameters
    ----------
    field : Field
        Where the crop comes from.
    peers : sequence of Field
        Fields of the same data set that may stand beside a small one.
    settings : GeometrySettings
        Ranges.
    rng : Generator
        All randomness.

    Returns
    -------
    Patch
        Outside of the field the image is mirrored and nothing is trusted.
    """
    zoom = draw_zoom(settings, rng)
    reach = settings.patch_px / zoom
    if max(field.labels.shape) < reach and len(peers) > 1 and rng.random() < settings.mosaic:
        field = lay_mosaic(field, peers, round(1.3 * reach), rng, settings.mosaic_zoom)
    angle = rng.uniform(0, 2 * np.pi) if settings.rotate else rng.integers(4) * np.pi / 2
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    # forward map of (x, y): rotate, mirror x, zoom
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    focus = _draw_focus(field, reach, settings.on_cells, rng)
    field, corner = _cut_around(field, focus, reach)
    matrix = np.zeros((2, 3))
    matrix[:, :2] = zoom * turn
    matrix[:, 2] = settings.patch_px / 2 - zoom * (turn @ (focus - corner))
    return _warp(field, matrix, turn.astype(np.float32), (settings.patch_px, settings.patch_px))


def draw_zoom(settings: GeometrySettings, rng: np.random.Generator) -> float:
    """Draw the zoom of a crop."""
    is_wide = settings.wide_share and rng.random() < settings.wide_share
    scale = settings.wide_scale if is_wide else settings.scale
    return float(np.exp(rng.uniform(*np.log(scale))))


def _cut_around(
    field: Field, focus: NDArray[np.float64], reach: float
) -> tuple[Field, NDArray[np.float64]]:
    """Cut what a crop around ``focus`` (x, y) can see, turned anyhow; also its (x, y) corner."""
    radius = reach * np.sqrt(0.5) + REACH_MARGIN_PX * max(1.0, reach / MARGIN_REACH_PX)
    (height, width), (x, y) = field.labels.shape, focus
    y0, x0 = max(0, int(y - radius)), max(0, int(x - radius))
    y1, x1 = min(height, int(y + radius) + 1), min(width, int(x + radius) + 1)
    box = (slice(y0, y1), slice(x0, x1))
    flow = field.flow[:, *box] if field.flow.size else field.flow
    seen = replace(
        field,
        image=field.image[box],
        labels=field.labels[box],
        trusted=field.trusted[box],
        flow=flow,
    )
    return seen, np.array([x0, y0], np.float64)


def _warp(
    field: Field, matrix: NDArray[np.float64], turn: FloatArray, size: tuple[int, int]
) -> Patch:
    """Apply an affine map (its rotation and mirror alone are ``turn``) to a field."""
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    # warpAffine has no area mode: shrink first where it would alias
    image = field.image.astype(np.float32)
    if zoom < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), 0.35 / zoom)
    image = cv2.warpAffine(
        image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    nearest = {"flags": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_CONSTANT}
    labels = cv2.warpAffine(field.labels.astype(np.float32), matrix, size, **nearest)
    trusted = cv2.warpAffine(field.trusted.astype(np.uint8), matrix, size, **nearest) > 0
    flow = np.zeros((2, *size), np.float32)
    if field.flow.shape[1:] == field.labels.shape:
        warped = cv2.warpAffine(
            field.flow.transpose(1, 2, 0).astype(np.float32), matrix, size, **nearest
        )
        xy = warped[:, :, ::-1] @ turn.T
        flow = np.ascontiguousarray(xy[:, :, ::-1].transpose(2, 0, 1))
    return Patch(image, labels.astype(np.int32), flow, trusted)


def _draw_focus(
    field: Field, reach: float, on_cells: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the (x, y) of the field that comes to the middle of the crop."""
    if on_cells and rng.random() < on_cells and field.labels.any():
        cell = rng.choice(np.unique(field.labels[field.labels > 0]))
        rows, columns = np.nonzero(field.labels == cell)
        place = rng.integers(rows.size)
        return np.array([columns[place], rows[place]], np.float64)
    focus = []
    for side in (field.labels.shape[1], field.labels.shape[0]):
        slack = max(0.0, side - 0.8 * reach)
        focus.append(side / 2 + rng.uniform(-0.5, 0.5) * slack)
    return np.array(focus)


def lay_mosaic(
    first: Field,
    peers: Sequence[Field],
    side_px: int,
    rng: np.random.Generator,
    zoom: float = 1.0,
) -> Field:
    """Fill a square with small fields of one data set, each turned, flipped and zoomed.

    Parameters
    ----------
    first : Field
        Stands in the mosaic at least once.
    peers : sequence of Field
        The others to draw from, with replacement.
    side_px : int
        Side of the square.
    rng : Generator
        Order, turns, flips and zooms.
    zoom : float
        Largest factor by which a piece is magnified or reduced, drawn evenly in its logarithm.

    Returns
    -------
    Field
        Ids are unique over the mosaic; a field that sticks out is cut.
    """
    image = np.zeros((side_px, side_px, 3), np.float16)
    labels = np.zeros((side_px, side_px), np.int32)
    trusted = np.zeros((side_px, side_px), bool)
    flow = np.zeros((2, side_px, side_px), np.float16)
    with_flow = first.flow.size > 0
    next_field, n_ids, y = first, 0, 0
    while y < side_px:
        x, row = 0, 0
        while x < side_px:
            piece = turn_field(next_field, int(rng.integers(4)), bool(rng.integers(2)))
            if zoom > 1.0:
                piece = zoom_field(piece, float(np.exp(rng.uniform(-1, 1) * np.log(zoom))))
            height = min(piece.labels.shape[0], side_px - y)
            width = min(piece.labels.shape[1], side_px - x)
            box = (slice(y, y + height), slice(x, x + width))
            image[box] = piece.image[:height, :width]
            own = piece.labels[:height, :width]
            labels[box] = np.where(own > 0, own + n_ids, 0)
            trusted[box] = piece.trusted[:height, :width]
            if with_flow:
                flow[:, *box] = piece.flow[:, :height, :width]
            n_ids += int(piece.labels.max(initial=0))
            x, row = x + width, max(row, height)
            next_field = peers[rng.integers(len(peers))]
        y += row if row > 8 else 8
    flow = flow if with_flow else np.zeros((2, 0, 0), np.float16)
    return Field(image, labels, flow, trusted, first.dataset, first.modality, "mosaic", 1.0)


def turn_field(field: Field, n_quarters: int, mirror: bool) -> Field:
    """Turn a field by quarters and mirror it, flow vectors included."""
    image, labels, trusted, flow = field.image, field.labels, field.trusted, field.flow
    if mirror:
        image, labels, trusted = image[:, ::-1], labels[:, ::-1], trusted[:, ::-1]
        flow = flow[:, :, ::-1] * np.array([1, -1], np.float16)[:, None, None]
    for _ in range(n_quarters):
        # np.rot90 turns counter-clockwise: new y axis is -x, new x axis is y
        image, labels, trusted = np.rot90(image), np.rot90(labels), np.rot90(trusted)
        flow = np.rot90(np.stack([-flow[1], flow[0]]), axes=(1, 2))
    return Field(
        image, labels, flow, trusted, field.dataset, field.modality, field.name, field.scale
    )


def zoom_field(field: Field, factor: float) -> Field:
    """Magnify or reduce a field by one factor: image smoothly, the rest by nearest pixels."""
    height, width = (max(8, round(side * factor)) for side in field.labels.shape)
    size = (width, height)
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    nearest = cv2.INTER_NEAREST_EXACT
    flow = field.flow
    if flow.size:  # directions do not change with the size
        stacked = np.ascontiguousarray(flow.transpose(1, 2, 0)).astype(np.float32)
        flow = cv2.resize(stacked, size, interpolation=nearest).transpose(2, 0, 1)
    image = np.ascontiguousarray(field.image).astype(np.float32)
    labels = np.ascontiguousarray(field.labels).astype(np.float32)
    trusted = np.ascontiguousarray(field.trusted).astype(np.uint8)
    return replace(
        field,
        image=cv2.resize(image, size, interpolation=smooth).astype(np.float16),
        labels=cv2.resize(labels, size, interpolation=nearest).astype(np.int32),
        trusted=cv2.resize(trusted, size, interpolation=nearest) > 0,
        flow=flow.astype(np.float16),
        scale=field.scale * factor,
    )


def blank_patch(patch_px: int, rng: np.random.Generator) -> Patch:
    """Make an image of nothing but camera noise, stretched as a blank image would be."""
    level, sigma = rng.uniform(0.1, 0.7), rng.uniform(0.02, 0.2)
    image = rng.normal(level, sigma, (patch_px, patch_px, 1)).astype(np.float32)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0))[:, :, None] * 2
    empty = np.zeros((patch_px, patch_px), np.int32)
    return Patch(
        np.repeat(np.clip(image, -0.5, 2.0), 3, axis=2),
        empty,
        np.zeros((2, patch_px, patch_px), np.float32),
        np.ones((patch_px, patch_px), bool),
    )
