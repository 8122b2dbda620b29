"""What every reader hands out: an image of one or three channels, read region by region."""

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from imaging.listing import ImageError

__all__ = ["ImageError"]  # passed on; the other names are this module's own

Box = tuple[int, int, int, int]  # (y0, x0, y1, x1), half-open
Pixels = NDArray[Any]

OVERVIEW_BAND_BYTES = 64 * 2**20  # rows of a slide that are averaged at once
MAX_DECODED_BYTES = 8 * 2**30  # largest array a file may ask for in one piece; hosts have 28 GB
MAX_PIXELS = 2**40  # a million squared; the largest slides known have some 10^11


class Image(Protocol):
    """An open image file."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(Y, X, C)`` with C in {1, 3}."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, the file's own (bool becomes uint8)."""

    @property
    def mpp(self) -> float | None:
        """Micrometres a pixel at the opened level; None if the file does not tell."""

    def read(self, box: Box) -> Pixels:
        """Read a region that lies inside the image: ``(y1 - y0, x1 - x0, C)``; thread-safe."""

    def overview(self, side_px: int = 1024) -> NDArray[np.float32]:
        """Reduce the whole image to local means, longest side at most ``side_px``."""

    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PixelSource(Protocol):
    """Pixels as a file stores them, before channels and values are made uniform."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(Y, X, K)`` with any number of channels K >= 1."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""

    def read(self, box: Box) -> Pixels:
        """Read a region: ``(y1 - y0, x1 - x0, K)``; raises ImageError on bad data."""

    def close(self) -> None:
        """Release the file."""


class ArraySource:
    """Pixels of an array, in memory or mapped from a file.

    Parameters
    ----------
    pixels : (Y, X, K) ndarray or memmap
        Stored pixels.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels: Pixels | None = pixels
        self.shape: tuple[int, int, int] = (pixels.shape[0], pixels.shape[1], pixels.shape[2])
        self.dtype: np.dtype[Any] = pixels.dtype

    def read(self, box: Box) -> Pixels:
        """Read a region: a view, ``(y1 - y0, x1 - x0, K)``; ValueError once closed."""
        if self._pixels is None:
            raise ValueError("the image is closed")
        y0, x0, y1, x1 = box
        return self._pixels[y0:y1, x0:x1]

    def close(self) -> None:
        """Forget the array."""
        self._pixels = None


class SourceImage:
    """The one :class:`Image` of this project: a pixel source made uniform.

    Channels: one stays one; two become ``(c0, c1, 0)``; of more than three the first three
    are kept. Values: bool becomes 0 and 255; NaN, infinities and values beyond float32 become
    0, region by region, so that the answer never depends on how an image is cut.

    Parameters
    ----------
    path : Path
        The file, for messages.
    source : PixelSource
        Where the pixels come from; closed with the image.
    reduced : tuple of PixelSource
        Smaller versions of the same image (pyramid levels), used for overviews only.
    release : callable
        Called on closing, after the sources are closed.
    mpp : float, optional
        Micrometres a pixel.
    check : callable
        Called after regions were read; raises ImageError if the file changed since it was opened.

    Raises
    ------
    ImageError
        If there are no pixels, more than :data:`MAX_PIXELS`, or they are complex or no numbers.
    """

    def __init__(
        self,
        path: Path,
        source: PixelSource,
        reduced: tuple[PixelSource, ...] = (),
        release: Callable[[], None] = lambda: None,
        *,
        mpp: float | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        height, width, n_stored = source.shape
        if min(source.shape) < 1:
            raise ImageError.about(path, "has no pixels", "export it again")
        if height * width > MAX_PIXELS:
            raise ImageError.about(
                path, f"claims {height} x {width} pixels", "check the file: no slide is so large"
            )
        if source.dtype.kind not in "buif":
            raise ImageError.about(
                path,
                f"has {source.dtype} pixels, which are not supported",
                "save it as 8-bit, 16-bit or float",
            )
        self.path = path
        self.mpp = mpp
        self.shape: tuple[int, int, int] = (height, width, 1 if n_stored == 1 else 3)
        self.dtype: np.dtype[Any] = np.dtype(
            np.uint8 if source.dtype.kind == "b" else source.dtype.newbyteorder("=")
        )
        self._source = source
        self._reduced = reduced
        self._release = release
        self._check = check
        self._closed = False

    def read(self, box: Box) -> Pixels:
        """Read a region.

        Parameters
        ----------
        box : (y0, x0, y1, x1)
            Half-open, not empty, inside the image.

        Returns
        -------
        (y1 - y0, x1 - x0, C) ndarray
            A new, writable array of the image's dtype.

        Raises
        ------
        ValueError
            If the box is empty or leaves the image, or the image is closed.
        ImageError
            If the file's data cannot be decoded, or the file changed since it was opened.
        """
        y0, x0, y1, x1 = box
        if not (0 <= y0 < y1 <= self.shape[0] and 0 <= x0 < x1 <= self.shape[1]):
            raise ValueError(f"wanted a non-empty box inside {self.shape[:2]}, got {box}")
        return self._read(self._source, box)

    def overview(self, side_px: int = 1024) -> NDArray[np.float32]:
        """Reduce the whole image by an integer factor, each pixel the mean of its block.

        Parameters
        ----------
        side_px : int
            Longest side of the result, at least 1.

        Returns
        -------
        (y, x, C) ndarray of float32
            Local means in the image's own units; the image itself if it is small enough.
            Blocks cut by the lower or right edge are averaged over what they have. The smallest
            pyramid level that is still at least ``side_px`` long stands in for the full image,
            or else the largest one, if it is longer than half of that (as reducing by an integer
            may give, too).

        Raises
        ------
        ValueError
            If ``side_px`` is not positive.
        ImageError
            If the file's data cannot be decoded.

        Notes
        -----
        Memory grows with the width of the image, not with its height.
        """
        if side_px < 1:
            raise ValueError(f"side_px must be at least 1, got {side_px}")
        source = self._overview_source(side_px)
        return _block_means(
            lambda box: self._read(source, box),
            (source.shape[0], source.shape[1], self.shape[2]),
            side_px,
        )

    def close(self) -> None:
        """Release the file; regions can no longer be read."""
        self._closed = True
        for source in (self._source, *self._reduced):
            source.close()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _overview_source(self, side_px: int) -> PixelSource:
        """Choose the cheapest level that an overview of this size can come from."""
        longest = {max(source.shape[:2]): source for source in self._reduced}
        fitting = [side for side in longest if side >= side_px]
        if fitting:
            return longest[min(fitting)]
        largest = max(longest, default=0)
        return longest[largest] if largest > side_px / 2 else self._source

    def _read(self, source: PixelSource, box: Box) -> Pixels:
        """Read a region of one source, made uniform; what came from a changed file is refused."""
        if self._closed:
            raise ValueError("the image is closed")
        try:
            stored = source.read(box)
        except (ImageError, OSError, ValueError) as error:
            self._check()  # the better explanation, if it is one
            if isinstance(error, ImageError):
                raise
            raise ImageError.about(
                self.path, f"cannot be read ({error})", "copy or export it again"
            ) from error
        self._check()
        return self._uniform(stored)

    def _uniform(self, stored: Pixels) -> Pixels:
        """Bring stored pixels (Y, X, K) to the image's channels and values."""
        n_stored = stored.shape[2]
        uniform = np.zeros((*stored.shape[:2], self.shape[2]), self.dtype)
        n_used = min(n_stored, self.shape[2])
        uniform[:, :, :n_used] = stored[:, :, :n_used]
        if stored.dtype.kind == "b":
            uniform *= 255
        elif stored.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                uniform[~(np.abs(uniform) <= np.finfo(np.float32).max)] = 0
        return uniform


def check_decoded_size(path: Path, n_bytes: int) -> None:
    """Refuse a file that has to be decoded in one piece larger than the host's memory allows.

    Parameters
    ----------
    path : Path
        The file, for the message.
    n_bytes : int
        Size of the decoded piece.

    Raises
    ------
    ImageError
        Above :data:`MAX_DECODED_BYTES`: such sizes come from damaged headers, or from slides
        that belong into a tiled TIFF.
    """
    if n_bytes > MAX_DECODED_BYTES:
        raise ImageError.about(
            path,
            f"needs {n_bytes / 2**30:.0f} GiB to decode in one piece",
            "save it as a tiled TIFF",
        )


def _block_means(
    read: Callable[[Box], Pixels], shape: tuple[int, int, int], side_px: int
) -> NDArray[np.float32]:
    """Average an image (Y, X, C) over k x k blocks, in bands of whole rows."""
    height, width, n_channels = shape
    k = math.ceil(max(height, width) / side_px)
    if k == 1:
        return read((0, 0, height, width)).astype(np.float32)
    means = np.empty((math.ceil(height / k), math.ceil(width / k), n_channels), np.float32)
    band_rows = k * max(1, OVERVIEW_BAND_BYTES // (k * width * n_channels * 4))
    for y0 in range(0, height, band_rows):
        y1 = min(y0 + band_rows, height)
        band = read((y0, 0, y1, width))
        rows = range(y0 // k, math.ceil(y1 / k))
        for row in rows:
            block = band[row * k - y0 : (row + 1) * k - y0]
            sums = np.add.reduceat(
                block.sum(axis=0, dtype=np.float64), np.arange(0, width, k), axis=0
            )
            means[row] = sums / (block.shape[0] * _block_widths(width, k)[:, None])
    return means


def _block_widths(width: int, k: int) -> NDArray[np.int64]:
    """Widths of the blocks that cover ``width`` columns, the last one maybe narrower."""
    starts = np.arange(0, width, k)
    widths: NDArray[np.int64] = np.minimum(starts + k, width) - starts
    return widths
