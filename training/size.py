"""Fit the size model of a Cellpose expert: spread vector to cell diameter."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge

from models.cellpose_expert import NET_DIAMETER_PX
from models.cpnet import CellposeNet
from models.registry import open_runtime
from models.size_model import KERNEL, N_CENTRES
from models.size_view import SPREAD_PX, resize_view
from training.cellpose_task import FIELD_DIAMETER_PX
from training.fields import Field
from training.intensity import vary_intensity
from training.patch_task import PatchTask
from training.sampling import FieldSampler

logger = logging.getLogger(__name__)

SPREAD_OF = "cellpose_general"  # any expert whose network is CPnet
DIAMETERS_PX = (4.0, 128.0)  # apparent diameters it learns, in pixels of the window
VARIED_SHARE = 0.5  # of the views are under other light
SEEN = 1.5  # of the window's side is cut from a field, so that a window without cells may move
RIDGE = 0.1  # penalty, in the unit of the kernel, which is 1 at most


@dataclass(frozen=True)
class SizeErrors:
    """How far the answers of a size model are off, as factors (1.1 = 10 %), each a median.

    Attributes
    ----------
    held_out : float
        On the eleventh of the views that it was not fitted to.
    unseen : float
        On the views of a data set that a fit to all others has not seen: the mean over the data
        sets, of logarithms. The network has seen them. NaN for a single data set.
    """

    held_out: float
    unseen: float


def fit_size_model(model: CellposeNet, task: PatchTask, seed: int = 0) -> SizeErrors:
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
    SizeErrors

    Notes
    -----
    Kernel ridge regression of the logarithm of diameter over 30 px, see
    :class:`models.size_model.SizeModel`.
    """
    views = _draw_views(model, task, np.random.default_rng(seed))
    n_fit = max(1, len(views.targets) * 10 // 11)
    fitted = views.take(slice(n_fit))
    ridge, bias = _fit(fitted)
    unseen = [
        _median_error(_fit(views.take(~is_own)), views.take(is_own))
        for is_own in (views.sources == name for name in np.unique(views.sources))
        if not is_own.all()
    ]
    errors = SizeErrors(
        float(np.exp(_median_error((ridge, bias), views.take(slice(n_fit, None))))),
        float(np.exp(np.mean(unseen))) if unseen else float("nan"),
    )
    logger.info("size model: off by %.3f, by %.3f on unseen sources", *astuple(errors))
    for kept, values in (
        (model.size_centres, fitted.spreads),
        (model.size_weight, ridge.dual_coef_),
    ):
        kept.zero_()
        kept[:n_fit] = torch.from_numpy(values.astype(np.float32))
    model.size_bias.fill_(bias)
    return errors


@dataclass(frozen=True, eq=False)
class _Views:
    """Views of training fields: spread vectors (N, 384), logarithms of sizes and data sets (N,)."""

    spreads: NDArray[np.float32]
    targets: NDArray[np.float64]
    sources: NDArray[np.str_]

    def take(self, which: slice | NDArray[np.bool_]) -> "_Views":
        """Give some of them."""
        return _Views(self.spreads[which], self.targets[which], self.sources[which])


def _fit(views: _Views) -> tuple[KernelRidge, float]:
    """Fit a regression, and the bias that its answers lack."""
    bias = float(views.targets.mean())
    ridge = KernelRidge(alpha=RIDGE, kernel="rbf", gamma=KERNEL)
    return ridge.fit(views.spreads, views.targets - bias), bias


def _median_error(fit: tuple[KernelRidge, float], views: _Views) -> float:
    """Give the median error of a fit's answers for views, of logarithms."""
    ridge, bias = fit
    return float(np.median(np.abs(ridge.predict(views.spreads) + bias - views.targets)))


def _draw_views(model: CellposeNet, task: PatchTask, rng: np.random.Generator) -> _Views:
    """Draw views of training fields."""
    state = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    runtime = open_runtime(SPREAD_OF, state, str(next(model.parameters()).device))
    spreads, targets, sources = [], [], []
    sampler = FieldSampler(task.train, _even_emphasis(task.train), task.guests, task.guest_share)
    for _ in range(N_CENTRES * 11 // 10):
        field, _peers = sampler.draw(rng)
        diameter = np.exp(rng.uniform(*np.log(DIAMETERS_PX)))
        factor = min(diameter / FIELD_DIAMETER_PX, 1200 / max(field.labels.shape))
        window = resize_view(
            _cut(field, math.ceil(SEEN * SPREAD_PX / factor), rng), factor, SPREAD_PX
        )
        if rng.random() < VARIED_SHARE:
            window = vary_intensity(window, task.colour_of(field.modality), rng)
        (spread,) = runtime.run("spread", window[None])
        if np.isfinite(spread).all():  # it is not where no feature varies
            spreads.append(spread)
            targets.append(np.log(factor * FIELD_DIAMETER_PX / NET_DIAMETER_PX))
            sources.append(field.dataset)
    return _Views(np.array(spreads), np.array(targets), np.array(sources))


def _cut(field: Field, side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a square of the image (Y, X, 3), or all of it if it is smaller, anywhere."""
    y0, x0 = (int(rng.integers(0, max(1, n - side + 1))) for n in field.labels.shape)
    return field.image[y0 : y0 + side, x0 : x0 + side].astype(np.float32)


def _even_emphasis(fields: Sequence[Field]) -> dict[str, float]:
    """Make up for the number of fields in the share of a data set."""
    counts = Counter(field.dataset for field in fields)
    return {name: n**-0.5 for name, n in counts.items()}
