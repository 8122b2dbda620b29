"""What every reader hands out: an image of one or three channels, read region by region."""

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]  # (y0, x0, y1, x1), half-open
Pixels = NDArray[Any]

OVERVIEW_BAND_BYTES = 64 * 2**20  # rows of a slide that are averaged at once
MAX_DECODED_BYTES = 8 * 2**30  # largest array a file may ask for in one piece; hosts have 28 GB


class ImageError(Exception):
    """A file that cannot be read or written: one line with its name, the reason and the remedy."""

    @classmethod
    def about(cls, path: Path, reason: object, remedy: str) -> "ImageError":
        """Build the one-line message ``NAME: reason; remedy``.

        Parameters
        ----------
        path : Path
            The file; only its name is shown.
        reason : object
            What is wrong; an exception's text is put on one line.
        remedy : str
            What the user can do about it.

        Returns
        -------
        ImageError
            To be raised by the caller.
        """
        said = " ".join(str(reason).split()) or type(reason).__name__
        return cls(f"{path.name}: {said}; {remedy}")


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

    def read(self, box: Box) -> Pixels:
        """Read a region that lies inside the image: ``(y1 - y0, x1 - x0, C)``."""

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

    Raises
    ------
    ImageError
        If there are no pixels, or they are complex or no numbers at all.
    """

    def __init__(
        self,
        path: Path,
        source: PixelSource,
        reduced: tuple[PixelSource, ...] = (),
        release: Callable[[], None] = lambda: None,
    ) -> None:
        height, width, n_stored = source.shape
        if 0 in source.shape:
            raise ImageError.about(path, "has no pixels", "export it again")
        if source.dtype.kind not in "buif":
            raise ImageError.about(
                path,
                f"has {source.dtype} pixels, which are not supported",
                "save it as 8-bit, 16-bit or float",
            )
        self.path = path
        self.shape: tuple[int, int, int] = (height, width, 1 if n_stored == 1 else 3)
        self.dtype: np.dtype[Any] = np.dtype(
            np.uint8 if source.dtype.kind == "b" else source.dtype.newbyteorder("=")
        )
        self._source = source
        self._reduced = reduced
        self._release = release

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
            If the file's data cannot be decoded.
        """
        y0, x0, y1, x1 = box
        if not (0 <= y0 < y1 <= self.shape[0] and 0 <= x0 < x1 <= self.shape[1]):
            raise ValueError(f"wanted a non-empty box inside {self.shape[:2]}, got {box}")
        return self._uniform(self._source.read(box))

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
            Blocks cut by the lower or right edge are averaged over what they have. A pyramid
            level that is still at least ``side_px`` long stands in for the full image.

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
        fitting = [s for s in self._reduced if max(s.shape[:2]) >= side_px]
        source = min(fitting, key=lambda s: s.shape[0], default=self._source)
        return _block_means(
            lambda box: self._uniform(source.read(box)),
            (source.shape[0], source.shape[1], self.shape[2]),
            side_px,
        )

    def close(self) -> None:
        """Release the file; regions can no longer be read."""
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
