"""The size model of the Cellpose experts: how large cells are, by a window's style vector."""

from dataclasses import dataclass

import numpy as np

from models.segmenter import FloatArray

KERNEL = 0.5  # wide: narrower ones say little of images unlike all that were learnt from
N_CENTRES = 2000  # styles that a size model remembers at most


@dataclass(frozen=True, eq=False)
class SizeModel:
    """Kernel ridge regression on the style vector.

    Attributes
    ----------
    centres : (M, 256) ndarray of float32
        Styles of windows with cells of known size.
    weight : (M,) ndarray of float32
        What each adds to the answer for its own style; 0 where a row holds none.
    bias : float
        The answer far from all of them.

    Notes
    -----
    The natural logarithm of the cell diameter over 30 px is
    ``sum_m weight[m] * exp(-KERNEL * |style - centres[m]|^2) + bias``. Cellpose's own size model
    (Stringer et al. 2021) is linear in the style, which is a mean of features over a window and
    says much more about what kind of cells there are than about their size.
    """

    centres: FloatArray
    weight: FloatArray
    bias: float

    def scale_step(self, style: FloatArray) -> float:
        """Give the factor that brings the cells of a window to 30 px.

        Parameters
        ----------
        style : (256,) ndarray of float32
            A unit vector; not finite where no feature of the network responds.

        Returns
        -------
        float
            Positive; 1 if the style tells nothing.
        """
        if not np.isfinite(style).all():
            return 1.0
        distance = np.square(self.centres - style).sum(axis=1)
        return float(np.exp(-(np.exp(-KERNEL * distance) @ self.weight + self.bias)))
