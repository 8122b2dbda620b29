"""Fit the size model of a Cellpose expert: style vector to cell diameter."""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import Ridge

from models.cellpose_expert import NET_DIAMETER_PX
from models.cpnet import CellposeNet
from models.size_view import WIDE_PX, resize_view
from models.torch_runtime import half_type
from training.cellpose_task import FIELD_DIAMETER_PX
from training.fields import Field
from training.intensity import vary_intensity
from training.patch_task import PatchTask
from training.sampling import FieldSampler

logger = logging.getLogger(__name__)

DIAMETERS_PX = (8.0, 100.0)  # range of apparent diameters it learns, at the window's scale
N_DRAWS = 900  # views it learns from; phase validation views were 20 % off with 900, 24 % with 360
VARIED_SHARE = 0.5  # of them under other light; sources not learnt from: 1.44 off, 1.48 without
RIDGE = 1e-2  # penalty; styles are unit vectors, so coefficients are in natural log units


@torch.inference_mode()
def fit_size_model(model: CellposeNet, task: PatchTask, seed: int = 0) -> float:
    """Fit ``size_weight`` and ``size_bias`` of a network in place.

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
        Median ratio error on a held-out tenth, as a factor (1.1 = 10 % off).

    Notes
    -----
    Ridge regression of the logarithm of diameter over 30 px (Stringer et al. 2021).
    """
    rng = np.random.default_rng(seed)
    device = next(model.parameters()).device
    dtype = half_type(str(device))
    model.eval()
    styles, targets = [], []
    sampler = FieldSampler(task.train, _even_emphasis(task.train), task.guests, task.guest_share)
    for _ in range(N_DRAWS):
        field, _peers = sampler.draw(rng)
        diameter = np.exp(rng.uniform(*np.log(DIAMETERS_PX)))
        factor = min(diameter / FIELD_DIAMETER_PX, 1200 / max(field.labels.shape))
        window = resize_view(field.image.astype(np.float32), factor, WIDE_PX)
        if rng.random() < VARIED_SHARE:
            window = vary_intensity(window, task.colour_of(field.modality), rng)
        x = torch.from_numpy(window.transpose(2, 0, 1)[None].copy()).to(device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            style = model.style(x)[0].float().cpu().numpy()
        if np.isfinite(style).all():  # it is not where no feature responds
            styles.append(style)
            targets.append(np.log(factor * FIELD_DIAMETER_PX / NET_DIAMETER_PX))
    n_fit = len(styles) * 9 // 10
    x_all, y_all = np.array(styles), np.array(targets)
    ridge = Ridge(alpha=RIDGE).fit(x_all[:n_fit], y_all[:n_fit])
    error = np.abs(ridge.predict(x_all[n_fit:]) - y_all[n_fit:])
    ratio = float(np.exp(np.median(error)))
    logger.info("size model: median ratio error %.3f on held-out views", ratio)
    model.size_weight.copy_(torch.from_numpy(ridge.coef_.astype(np.float32)))
    model.size_bias.copy_(torch.tensor([float(ridge.intercept_)]))
    return ratio


def _even_emphasis(fields: Sequence[Field]) -> dict[str, float]:
    """Make up for the number of fields in the share of a data set."""
    counts = Counter(field.dataset for field in fields)
    return {name: n**-0.5 for name, n in counts.items()}
