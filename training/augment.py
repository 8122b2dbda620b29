"""Augmentation: geometry of image and targets together, then intensities."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.fields import Field

FloatArray = NDArray[np.float32]


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
    """

    patch_px: int
    scale: tuple[float, float] = (0.7, 1.4)
    rotate: bool = True
    mosaic: float = 0.9


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
    zoom = float(np.exp(rng.uniform(*np.log(settings.scale))))
    reach = settings.patch_px / zoom
    if max(field.labels.shape) < reach and len(peers) > 1 and rng.random() < settings.mosaic:
        field = lay_mosaic(field, peers, round(1.3 * reach), rng)
    height, width = field.labels.shape
    angle = rng.uniform(0, 2 * np.pi) if settings.rotate else rng.integers(4) * np.pi / 2
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    # forward map of (x, y): rotate, mirror x, zoom
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    focus = _draw_focus(field, reach, rng)
    matrix = np.zeros((2, 3))
    matrix[:, :2] = zoom * turn
    matrix[:, 2] = settings.patch_px / 2 - zoom * (turn @ focus)
    size = (settings.patch_px, settings.patch_px)
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
    if field.flow.shape[1:] == (height, width):
        warped = cv2.warpAffine(
            field.flow.transpose(1, 2, 0).astype(np.float32), matrix, size, **nearest
        )
        xy = warped[:, :, ::-1] @ turn.T.astype(np.float32)
        flow = np.ascontiguousarray(xy[:, :, ::-1].transpose(2, 0, 1))
    return Patch(image, labels.astype(np.int32), flow, trusted)


def _draw_focus(field: Field, reach: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the (x, y) of the field that comes to the middle of the crop."""
    focus = []
    for side in (field.labels.shape[1], field.labels.shape[0]):
        slack = max(0.0, side - 0.8 * reach)
        focus.append(side / 2 + rng.uniform(-0.5, 0.5) * slack)
    return np.array(focus)


def lay_mosaic(
    first: Field, peers: Sequence[Field], side_px: int, rng: np.random.Generator
) -> Field:
    """Fill a square with small fields of one data set, each turned and flipped.

    Parameters
    ----------
    first : Field
        Stands in the mosaic at least once.
    peers : sequence of Field
        The others to draw from, with replacement.
    side_px : int
        Side of the square.
    rng : Generator
        Order, turns and flips.

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


@dataclass(frozen=True)
class ColourSettings:
    """How strongly intensities vary.

    Attributes
    ----------
    invert : float
        Probability of a contrast inversion.
    permute : float
        Probability of a channel permutation.
    jitter : float
        Standard deviation of each channel's gain.
    grey : float
        Probability that colour is dropped.
    gain : float
        Standard deviation of the logarithm of the common gain.
    blank : float
        Probability of an empty noise image without cells.
    """

    invert: float = 0.0
    permute: float = 0.0
    jitter: float = 0.0
    grey: float = 0.0
    gain: float = 0.2
    blank: float = 0.01


def vary_intensity(
    image: FloatArray, settings: ColourSettings, rng: np.random.Generator
) -> FloatArray:
    """Change brightness, contrast, gamma, colour, sharpness and noise at random.

    Parameters
    ----------
    image : (Y, X, 3) ndarray of float32
        Normalised, about [0, 1].
    settings : ColourSettings
        Probabilities and strengths.
    rng : Generator
        All randomness.

    Returns
    -------
    (Y, X, 3) ndarray of float32
        A new array in the range that normalised images have.
    """
    image = image.copy()
    if rng.random() < settings.permute:
        image = image[:, :, rng.permutation(3)]
    if settings.jitter:
        image *= np.exp(rng.normal(0, settings.jitter, 3)).astype(np.float32)
    if rng.random() < settings.grey:
        image = np.repeat(image.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < settings.invert:
        image = 1.0 - image
    if rng.random() < 0.5:
        image = np.sign(image) * np.abs(image) ** np.float32(np.exp(rng.normal(0, 0.3)))
    gain = np.float32(np.exp(rng.normal(0, settings.gain)))
    image = image * gain + np.float32(rng.normal(0, 0.08))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))
    if rng.random() < 0.4:
        sigma = rng.uniform(0.01, 0.08)
        noise = rng.normal(0, sigma, (*image.shape[:2], 1)).astype(np.float32)
        image = image + noise
    return np.clip(image, -0.5, 2.0).astype(np.float32)


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
