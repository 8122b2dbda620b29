"""Regions of images that are stored in pieces: only the pieces of a region are decoded."""

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any

import numpy as np

from imaging.image import Box, Pixels

CACHE_BYTES = 256 * 2**20  # decoded pieces kept: a row of tiles across a 100,000 px wide slide


class ChunkedSource(ABC):
    """Pixels stored in a grid of equal pieces (tiles, strips, chunks), decoded on demand.

    Parameters
    ----------
    shape : (Y, X, K)
        Of the image; pieces may hold more channels, of which the first K are used.
    dtype : dtype
        Of the pixels.
    chunk_yx : (int, int)
        Rows and columns of a piece.

    Notes
    -----
    Recently used pieces are kept, up to :data:`CACHE_BYTES`, so that tiles of a network which
    overlap pieces do not decode them again. A piece is always decoded whole. Regions may be read
    from several threads at once; decoding itself happens outside the lock.
    """

    def __init__(
        self, shape: tuple[int, int, int], dtype: np.dtype[Any], chunk_yx: tuple[int, int]
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._chunk_yx = chunk_yx
        self._cache: OrderedDict[tuple[int, int], Pixels] = OrderedDict()
        self._cache_bytes = 0
        self._lock = threading.Lock()

    @abstractmethod
    def _decode(self, row: int, column: int) -> Pixels:
        """Decode a piece: what the image has of it, or more, ``(y, x, at least K)``."""

    def read(self, box: Box) -> Pixels:
        """Read a region: ``(y1 - y0, x1 - x0, K)``; ImageError on damaged data."""
        y0, x0, y1, x1 = box
        height, width = self._chunk_yx
        region = np.empty((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        for row in range(y0 // height, -(-y1 // height)):
            for column in range(x0 // width, -(-x1 // width)):
                top, left = row * height, column * width
                ys = slice(max(y0, top), min(y1, top + height))
                xs = slice(max(x0, left), min(x1, left + width))
                piece = self._piece(row, column)
                region[ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0] = piece[
                    ys.start - top : ys.stop - top,
                    xs.start - left : xs.stop - left,
                    : self.shape[2],
                ]
        return region

    def close(self) -> None:
        """Forget the decoded pieces."""
        with self._lock:
            self._cache.clear()
            self._cache_bytes = 0

    def _piece(self, row: int, column: int) -> Pixels:
        """Return a decoded piece, from the cache if it is there."""
        key = (row, column)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        piece = self._decode(row, column)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = piece
                self._cache_bytes += piece.nbytes
            while self._cache_bytes > CACHE_BYTES and len(self._cache) > 1:
                self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes
        return piece
