"""Uncompressed pixels in one run of a file, read row by row where they lie."""

from typing import Any

import numpy as np

from imaging.image import Box, Pixels
from imaging.watched import WatchedFile


class RowSource:
    """Pixels of an uncompressed array, of which only the rows of a region are read.

    Parameters
    ----------
    file : WatchedFile
        Stays open as long as regions are read.
    offset : int
        Byte at which the first pixel lies.
    dtype : dtype
        Of the stored pixels, with their byte order.
    shape : (Y, X, K)
        Of the image.
    strides : (int, int, int)
        Steps of y, x and channel in pixels of one channel. Channels lie beside each other
        (a channel's step is 1) or in planes (a column's step is 1).

    Raises
    ------
    ValueError
        If neither is the case.
    """

    def __init__(
        self,
        file: WatchedFile,
        offset: int,
        dtype: np.dtype[Any],
        shape: tuple[int, int, int],
        strides: tuple[int, int, int],
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._file = file
        self._offset = offset
        self._strides = strides
        self._planar = strides[1] == 1 and shape[2] > 1
        if not (strides[1] == 1 or (strides[2] == 1 and shape[2] <= strides[1])):
            raise ValueError(f"wanted interleaved or planar pixels, got strides {strides}")

    def read(self, box: Box) -> Pixels:
        """Read a region: ``(y1 - y0, x1 - x0, K)``; ValueError if the file has become shorter."""
        if not self._planar:
            return self._read_plane(box, 0)[:, :, : self.shape[2]]
        planes = [self._read_plane(box, channel) for channel in range(self.shape[2])]
        return np.concatenate(planes, axis=2)

    def close(self) -> None:
        """Do nothing: the file belongs to the image."""

    def _read_plane(self, box: Box, channel: int) -> Pixels:
        """Read a region of one plane: ``(y1 - y0, x1 - x0, samples beside each other)``."""
        y0, x0, y1, x1 = box
        step_y, step_x, step_channel = self._strides
        size = self.dtype.itemsize
        stored = np.empty((y1 - y0, x1 - x0, step_x), self.dtype)
        buffer = memoryview(stored.reshape(-1).view(np.uint8).data)
        first = self._offset + (y0 * step_y + x0 * step_x + channel * step_channel) * size
        row_bytes = (x1 - x0) * step_x * size
        if step_y == (x1 - x0) * step_x:  # whole rows follow each other
            self._file.read_into(first, buffer)
            return stored
        for row in range(y1 - y0):
            at = row * row_bytes
            self._file.read_into(first + row * step_y * size, buffer[at : at + row_bytes])
        return stored
