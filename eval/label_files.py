"""Label images, read in bands of whole rows, so that a slide never lies in memory as a whole."""

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from eval.overlaps import Labels
from imaging.reading import ImageError, open_image

LARGEST_EXACT = 2**53  # whole numbers up to here are exact as float64


class LabelRows(Protocol):
    """A label image whose rows can be read."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(Y, X)``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the ids."""

    def read_rows(self, y0: int, y1: int) -> Labels:
        """Read rows ``y0`` to ``y1`` (half-open): ``(y1 - y0, X)`` of an integer type."""


class ArrayLabels:
    """A label image in memory.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.

    Raises
    ------
    ValueError
        If the array is not 2-D.
    """

    def __init__(self, labels: Labels) -> None:
        if labels.ndim != 2:
            raise ValueError(f"label images must be (Y, X), got the shape {labels.shape}")
        self._labels = labels
        self.shape: tuple[int, int] = (labels.shape[0], labels.shape[1])
        self.dtype: np.dtype[Any] = labels.dtype

    def read_rows(self, y0: int, y1: int) -> Labels:
        """Return rows ``y0`` to ``y1`` as a view."""
        return self._labels[y0:y1]


class NoLabels:
    """A label image of a given size that is all background.

    Parameters
    ----------
    shape : (int, int)
        ``(Y, X)``.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def read_rows(self, y0: int, y1: int) -> Labels:
        """Return background."""
        return np.zeros((y1 - y0, self.shape[1]), np.uint8)


class LabelFile:
    """An open label image file; a context manager.

    Parameters
    ----------
    path : Path
        A PNG, BMP or TIFF of one channel, of integers or of whole numbers stored as float.

    Raises
    ------
    imaging.reading.ImageError
        If the file cannot be opened or has several channels.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._image = open_image(path)
        height, width, n_channels = self._image.shape
        if n_channels != 1:
            self._image.close()
            raise ImageError.about(
                path, "has colours, labels are numbers", "write one channel of integer ids"
            )
        self.shape: tuple[int, int] = (height, width)
        stored = self._image.dtype
        self.dtype: np.dtype[Any] = np.dtype(np.int64) if stored.kind == "f" else stored

    def read_rows(self, y0: int, y1: int) -> Labels:
        """Read rows ``y0`` to ``y1``.

        Parameters
        ----------
        y0, y1 : int
            Half-open, inside the image.

        Returns
        -------
        (y1 - y0, X) ndarray
            In the dtype of the file; whole numbers stored as float become int64.

        Raises
        ------
        imaging.reading.ImageError
            If the data cannot be decoded, hold fractions, or numbers beyond 2^53 as float.
        """
        pixels = self._image.read((y0, 0, y1, self.shape[1]))[:, :, 0]
        if pixels.dtype.kind == "f":
            if (pixels != np.rint(pixels)).any() or (np.abs(pixels) > LARGEST_EXACT).any():
                raise ImageError.about(
                    self._path, "holds fractions, not labels", "write integer labels"
                )
            return pixels.astype(np.int64)
        return pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._image.close()


def read_label_image(path: Path) -> Labels:
    """Read a whole label image in the dtype of its file.

    Parameters
    ----------
    path : Path
        See :class:`LabelFile`.

    Returns
    -------
    (Y, X) ndarray of int
        Ids as stored, negative ones too.

    Raises
    ------
    imaging.reading.ImageError
        If the file cannot be read or holds no labels.
    """
    with LabelFile(path) as labels:
        return labels.read_rows(0, labels.shape[0])
