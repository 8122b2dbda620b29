"""The array operations that decoding is written in: one set for NumPy, one for PyTorch.

Decoding is defined once, in terms of :class:`Arrays` and of what both kinds of array share
(arithmetic, comparison, indexing). :class:`models.arrays_numpy.NumpyArrays` runs it on the CPU
with OpenCV and without torch; :class:`models.arrays_torch.TorchArrays` on a tensor's own device.
"""

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.packing import Atlas

Array = Any
"""An ndarray or a tensor: one function never mixes the two."""

GRID = 512
"""Places to a pixel at which points may be: in float32 exact up to 2**15 pixels, OpenCV's limit."""


class Arrays(Protocol):
    """What decoding needs beyond arithmetic, comparison and indexing.

    Indices and counts are int64, pixel indices are flat, images (Y, X).
    """

    def zeros(self, shape: tuple[int, ...] | int, like: Array) -> Array:
        """Give zeros of the dtype of ``like``, on its device."""

    def cast(self, values: Array, dtype: str) -> Array:
        """Convert to a dtype named as in NumPy."""

    def table(self, values: NDArray[Any], like: Array) -> Array:
        """Bring a small ndarray to where ``like`` is."""

    def arange(self, n: int) -> Array:
        """Give 0..n - 1, int64."""

    def where(self, condition: Array, yes: Array | float, no: Array | float) -> Array:
        """Choose element by element."""

    def exp(self, values: Array) -> Array:
        """Give e to the power of each value."""

    def log(self, values: Array) -> Array:
        """Give natural logarithms."""

    def nonzero(self, values: Array) -> Array:
        """Give the flat indices of what is not zero, ascending."""

    def bincount(self, ids: Array, n: int, weights: Array | None = None) -> Array:
        """Count ids 0..n - 1, or add up weights (float64)."""

    def join(self, parts: list[Array]) -> Array:
        """Put arrays one after the other."""

    def stack(self, parts: list[Array]) -> Array:
        """Put arrays of one shape side by side along a new first axis."""

    def cumsum(self, values: Array) -> Array:
        """Add up along the only axis, int64."""

    def repeat(self, values: Array, counts: Array) -> Array:
        """Repeat each element as often as told."""

    def order(self, values: Array) -> Array:
        """Give the indices that sort ascending; equal ones keep their order."""

    def rank(self, ascending: Array, values: Array) -> Array:
        """Give the index of the last of the ascending numbers that is not above each value."""

    def lowest(self, ids: Array, values: Array, n: int) -> Array:
        """Give the smallest value of each id 0..n - 1; a large one where there is none."""

    def highest(self, ids: Array, values: Array, n: int) -> Array:
        """Give the largest value of each id 0..n - 1; a very negative one where there is none."""

    def dilate(self, image: Array, side: int) -> Array:
        """Give the maximum over a square window; outside the image is nothing."""

    def keep_inside(self, steps_yx: Array) -> Array:
        """Shorten steps (2, Y, X) that would take their pixel out of the image, float32."""

    def walk(self, steps_yx: Array, points: Array) -> Array:
        """Move points (2, N) by the steps (2, Y, X), interpolated bilinearly where they are.

        Each step is rounded to a :data:`GRID`-th of a pixel: then all sums are exact, and where a
        point goes does not depend on where in an array its surroundings lie. Points are whole
        GRID-ths inside the image, and stay so if the steps :meth:`keep_inside` it.
        """

    def components(self, mask: Array, connectivity: int) -> tuple[Array, int]:
        """Label connected regions 1..n over 4 or 8 neighbours, in no certain order; give n."""

    def depth(self, mask: Array) -> Array:
        """Give the Euclidean distance of each pixel to the nearest one outside the mask."""

    def smooth(self, image: Array) -> Array:
        """Blur with a Gaussian of 1 px, cut off at 4 px; the image is mirrored at its edges."""

    def heat_flow(self, atlas: "Atlas", source: Array, steps: Array, *, cold: bool) -> Array:
        """Give the unit vectors (2, H, W) up the gradient of heat that spreads in each cell.

        Cell i of the atlas is heated at its flat index ``source[i]`` in each of ``steps[i]``
        steps; each step then averages over the 3 x 3 pixels of the same cell. For the gradient
        a neighbour outside the cell is cold (0), or as warm as the pixel itself.
        """


def arrays_for(values: Array) -> Arrays:
    """Choose the operations that fit an array.

    Parameters
    ----------
    values : ndarray or Tensor
        Torch is imported only where a tensor comes in.

    Returns
    -------
    Arrays
    """
    name = "numpy" if isinstance(values, np.ndarray) else "torch"
    module = importlib.import_module(f"models.arrays_{name}")
    arrays: Arrays = module.choose(values)
    return arrays
