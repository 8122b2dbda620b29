"""Fit the size model of a Cellpose expert: style vector to cell diameter."""

import logging
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge

from models.cellpose_expert import NET_DIAMETER_PX
from models.cpnet import CellposeNet
from models.registry import open_runtime
from models.size_model import KERNEL, N_CENTRES
from models.size_view import STYLE_PX, resize_view
from training.cellpose_task import FIELD_DIAMETER_PX
from training.fields import Field
from training.intensity import vary_intensity
from training.patch_task import PatchTask
from training.sampling import FieldSampler

logger = logging.getLogger(__name__)

STYLE_OF = "cellpose_general"  # any expert whose network is CPnet
DIAMETERS_PX = (8.0, 100.0)  # range of apparent diameters it learns, at the window's scale
VARIED_SHARE = 0.5  # of the views are under other light
SEEN = 1.5  # of the window's side is cut from a field, so that a window without cells may move
RIDGE = 0.003  # penalty, in the unit of the kernel, which is 1 at most


def fit_size_model(model: CellposeNet, task: PatchTask, seed: int = 0) -> float:
    """Fit ``size_centres``, ``size_weight`` and ``size_bias`` of a network in place.

    Parameters
    ----------
    model : CellposeNet
        Trained network.
    task : PatchTask
        Its training fields, at a median diameter of 36 px, are drawn evenly from its own data
        sets, and from its guests in the share that they have.
    seed : int
        Draws fields, scales and intensities.

    Returns
    -------
    float
        Median ratio error on the held-out eleventh, as a factor (1.1 = 10 % off).

    Notes
    -----
    Kernel ridge regression of the logarithm of diameter over 30 px, see
    :class:`models.size_model.SizeModel`.
    """
    styles, targets = _draw_styles(model, task, np.random.default_rng(seed))
    n_fit = max(1, len(styles) * 10 // 11)
    bias = targets[:n_fit].mean()
    ridge = KernelRidge(alpha=RIDGE, kernel="rbf", gamma=KERNEL)
    ridge.fit(styles[:n_fit], targets[:n_fit] - bias)
    error = np.abs(ridge.predict(styles[n_fit:]) + bias - targets[n_fit:])
    ratio = float(np.exp(np.median(error)))
    logger.info("size model: median ratio error %.3f on held-out views", ratio)
    for kept, fitted in (
        (model.size_centres, styles[:n_fit]),
        (model.size_weight, ridge.dual_coef_),
    ):
        kept.zero_()
        kept[:n_fit] = torch.from_numpy(fitted.astype(np.float32))
    model.size_bias.fill_(float(bias))
    return ratio


def _draw_styles(
    model: CellposeNet, task: PatchTask, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw views of training fields: style vectors (N, 256), and the logarithms of their sizes."""
    state = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    runtime = open_runtime(STYLE_OF, state, str(next(model.parameters()).device))
    styles, targets = [], []
    sampler = FieldSampler(task.train, _even_emphasis(task.train), task.guests, task.guest_share)
    for _ in range(N_CENTRES * 11 // 10):
        field, _peers = sampler.draw(rng)
        diameter = np.exp(rng.uniform(*np.log(DIAMETERS_PX)))
        factor = min(diameter / FIELD_DIAMETER_PX, 1200 / max(field.labels.shape))
        window = resize_view(
            _cut(field, math.ceil(SEEN * STYLE_PX / factor), rng), factor, STYLE_PX
        )
        if rng.random() < VARIED_SHARE:
            window = vary_intensity(window, task.colour_of(field.modality), rng)
        (style,) = runtime.run("style", window[None])
        if np.isfinite(style).all():  # it is not where no feature responds
            styles.append(style)
            targets.append(np.log(factor * FIELD_DIAMETER_PX / NET_DIAMETER_PX))
    return np.array(styles), np.array(targets)


def _cut(field: Field, side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a square of the image (Y, X, 3), or all of it if it is smaller, anywhere."""
    y0, x0 = (int(rng.integers(0, max(1, n - side + 1))) for n in field.labels.shape)
    return field.image[y0 : y0 + side, x0 : x0 + side].astype(np.float32)


def _even_emphasis(fields: Sequence[Field]) -> dict[str, float]:
    """Make up for the number of fields in the share of a data set."""
    counts = Counter(field.dataset for field in fields)
    return {name: n**-0.5 for name, n in counts.items()}
