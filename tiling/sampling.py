"""Read an image at another scale, the same pixels whichever region asks for them."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from imaging.image import Box, Image
from imaging.normalise import Normaliser, as_three

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

STRIP_PX = 4_000_000
"""Native pixels held at once while reading or writing, about 48 MiB as three float32 channels."""


@dataclass(frozen=True)
class Geometry:
    """Where native pixels and network pixels of one image lie on each other.

    Attributes
    ----------
    native : (Y, X) tuple of int
        Image size in its own pixels.
    network : (Y, X) tuple of int
        Image size in network pixels. Both grids span the same rectangle.
    factor : int
        Side in native pixels of the box means taken before interpolation, 1 for none.
    """

    native: tuple[int, int]
    network: tuple[int, int]
    factor: int

    @property
    def is_identity(self) -> bool:
        """Whether network pixels are native pixels."""
        return self.native == self.network

    @property
    def shrinks(self) -> bool:
        """Whether a network pixel is larger than a native one."""
        return self.network[0] < self.native[0] or self.network[1] < self.native[1]

    def native_box(self, box: Box) -> Box:
        """Return the native pixels whose centres lie in a box of network pixels.

        Boxes that partition the network grid give boxes that partition the native grid.
        """
        y0, x0, y1, x1 = box
        rows, columns = (self.native[0], self.network[0]), (self.native[1], self.network[1])
        return (
            _first_native(y0, *rows),
            _first_native(x0, *columns),
            _first_native(y1, *rows),
            _first_native(x1, *columns),
        )

    def network_coordinates(self, start: int, stop: int, axis: int) -> npt.NDArray[np.float64]:
        """Return where native pixel centres lie on the network grid along an axis.

        Network pixel ``i`` has its centre at ``i``; values range from -0.5 to side - 0.5.
        """
        native, network = self.native[axis], self.network[axis]
        return (np.arange(start, stop) + 0.5) * (network / native) - 0.5

    def native_centres(self, start: int, stop: int, axis: int) -> Indices:
        """Return the native pixels that hold the centres of network pixels along an axis."""
        native, network = self.native[axis], self.network[axis]
        return (2 * np.arange(start, stop) + 1) * native // (2 * network)


def build_geometry(native: tuple[int, int], scale: float) -> Geometry:
    """Size the network grid of an image.

    Parameters
    ----------
    native : (Y, X) tuple of int
        Image size in pixels.
    scale : float
        Network pixels per native pixel, positive.

    Returns
    -------
    Geometry
        Sides are rounded and at least 1; ``factor`` is the whole part of ``1 / scale``.

    Raises
    ------
    ValueError
        If the scale is not a positive finite number.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number, got {scale}")
    height, width = (max(1, round(side * scale)) for side in native)
    rounding = 1e-6  # 1 / (1 / 3) must count as 3
    return Geometry(native, (height, width), max(1, math.floor(1 / scale + rounding)))


@dataclass(frozen=True)
class ScaledImage:
    """An image as the network sees it: normalised, in network pixels, read region by region.

    Attributes
    ----------
    image : Image
        Where native regions are read.
    normaliser : Normaliser
        Fitted to the whole image, so that all regions agree.
    geometry : Geometry
    """

    image: Image
    normaliser: Normaliser
    geometry: Geometry

    def read(self, box: Box) -> Float32:
        """Read a region in network pixels.

        Normalised pixels are averaged over boxes of ``factor`` native pixels that lie on a lattice
        fixed to the image, then interpolated linearly at absolute positions: a pixel does not
        depend on the region it is read with. At scale 1 the pixels are untouched.

        Parameters
        ----------
        box : Box
            Inside the network grid.

        Returns
        -------
        (Y, X, 3) ndarray of float32

        Notes
        -----
        Native pixels are held `STRIP_PX` at a time.
        """
        y0, x0, y1, x1 = box
        if self.geometry.is_identity:
            return as_three(self._normalised(box))
        top, bottom, weight_y = self._samples(y0, y1, axis=0)
        left, right, weight_x = self._samples(x0, x1, axis=1)
        means = self._means((int(top[0]), int(left[0]), int(bottom[-1]) + 1, int(right[-1]) + 1))
        height, width, n_channels = means.shape
        # Rows in one piece: NumPy takes far longer over groups of three numbers.
        flat = means.reshape(height, width * n_channels)
        rows = _blend(flat, top - top[0], bottom - top[0], weight_y, axis=0)
        first, second = (_each_channel(i - left[0], n_channels) for i in (left, right))
        columns = _blend(rows, first, second, np.repeat(weight_x, n_channels), axis=1)
        return as_three(columns.reshape(y1 - y0, x1 - x0, n_channels))

    def _samples(self, start: int, stop: int, axis: int) -> tuple[Indices, Indices, Float32]:
        """Find the two means beside each network pixel and the weight of the second."""
        native, network = self.geometry.native[axis], self.geometry.network[axis]
        factor = self.geometry.factor
        n_means = -(-native // factor)
        position = (np.arange(start, stop) + 0.5) * (native / network) / factor - 0.5
        position = np.clip(position, 0, n_means - 1)
        lower = np.floor(position).astype(np.intp)
        return lower, np.minimum(lower + 1, n_means - 1), (position - lower).astype(np.float32)

    def _means(self, box: Box) -> Float32:
        """Average native pixels over the boxes of a region, strip by strip: (Y, X, 1 or 3)."""
        factor = self.geometry.factor
        y0, x0, y1, x1 = box
        strips: list[Float32] = []
        rows = max(1, STRIP_PX // (factor * factor * (x1 - x0)))
        height, width = self.geometry.native
        for top in range(y0, y1, rows):
            bottom = min(top + rows, y1)
            native = (
                top * factor,
                x0 * factor,
                min(bottom * factor, height),
                min(x1 * factor, width),
            )
            strips.append(_box_means(self._normalised(native), factor))
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def _normalised(self, box: Box) -> Float32:
        """Read a native region and normalise it: (Y, X, 1) where its channels are equal."""
        return self.normaliser.apply_narrow(self.image.read(box))


def _first_native(position: int, native: int, network: int) -> int:
    """Return the first native pixel whose centre is not before a network pixel's edge."""
    return -(-2 * native * position // network) // 2


def _box_means(pixels: Float32, factor: int) -> Float32:
    """Average (Y, X, C) over square boxes; a cut last box is completed with its edge pixels."""
    if factor == 1:
        return pixels
    height, width = pixels.shape[:2]
    padding = ((0, -height % factor), (0, -width % factor), (0, 0))
    if any(after for _, after in padding):
        pixels = np.pad(pixels, padding, mode="edge")
    rows = pixels[0::factor].copy()
    for offset in range(1, factor):
        rows += pixels[offset::factor]
    sums = rows[:, 0::factor].copy()
    for offset in range(1, factor):
        sums += rows[:, offset::factor]
    return sums / np.float32(factor * factor)


def _each_channel(columns: Indices, n_channels: int) -> Indices:
    """Find the columns of (Y, X, C) in its rows (Y, X * C)."""
    return (columns[:, np.newaxis] * n_channels + np.arange(n_channels)).ravel()


def _blend(
    values: Float32, lower: Indices, upper: Indices, weight: Float32, axis: Literal[0, 1]
) -> Float32:
    """Interpolate linearly between rows or columns of (Y, X)."""
    weight = np.expand_dims(weight, 1 - axis)
    blended, second = values.take(lower, axis), values.take(upper, axis)
    blended *= 1 - weight
    second *= weight
    blended += second
    return blended
