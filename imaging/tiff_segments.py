"""Regions of tiled and striped TIFF pages: only the segments of a region are decoded."""

import struct
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imaging.image import Box, ImageError, Pixels, PixelSource, check_decoded_size

CACHE_BYTES = 256 * 2**20  # decoded segments kept: a row of tiles across a 100,000 px wide slide
_DAMAGED = "the file is damaged or incomplete: copy or export it again"

_JPEG = (6, 7, 33007, 34892)  # TIFF compression codes whose segments need shared tables

# What tifffile and imagecodecs raise on damaged or unknown data
DECODING_ERRORS = (
    OSError,
    ValueError,  # includes tifffile.TiffFileError
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,  # includes the imagecodecs errors
    ImportError,  # imagecodecs built without a codec
    struct.error,
    zlib.error,
    MemoryError,
)


@dataclass(frozen=True)
class PlaneLayout:
    """The pages that make up one image.

    Attributes
    ----------
    pages : tuple of tifffile.TiffPage or TiffFrame
        One page with all samples, or one page a channel.
    n_channels : int
        Channels to hand out, the first ones.
    """

    pages: tuple[Any, ...]
    n_channels: int


class SegmentSource:
    """Pixels of TIFF pages, decoded tile by tile or strip by strip.

    Parameters
    ----------
    path : Path
        The file, for messages.
    layout : PlaneLayout
        Pages of equal shape, of files that stay open as long as regions are read.

    Notes
    -----
    Recently used segments are kept, up to :data:`CACHE_BYTES`, so that tiles of a network which
    overlap segments do not decode them again. A segment is always decoded whole: a compressed
    file with a single strip takes the memory of the image.
    """

    def __init__(self, path: Path, layout: PlaneLayout) -> None:
        page = layout.pages[0].keyframe
        if page.axes not in ("YX", "YXS", "SYX") or page.imagedepth > 1:
            raise ValueError(f"wanted pages with axes YX, YXS or SYX, got {page.axes}")
        self._path = path
        self._pages = layout.pages
        self._cache: OrderedDict[tuple[int, int], Pixels] = OrderedDict()
        self._cache_bytes = 0
        self._separate = page.axes == "SYX"
        self._chunk_yx = _chunk_yx(page)
        self._grid_yx = (
            -(-page.imagelength // self._chunk_yx[0]),
            -(-page.imagewidth // self._chunk_yx[1]),
        )
        self.shape: tuple[int, int, int] = (page.imagelength, page.imagewidth, layout.n_channels)
        self.dtype: np.dtype[Any] = np.dtype(page.dtype)
        check_decoded_size(
            path, self._chunk_yx[0] * self._chunk_yx[1] * page.samplesperpixel * self.dtype.itemsize
        )

    def read(self, box: Box) -> Pixels:
        """Read a region: ``(y1 - y0, x1 - x0, n_channels)``; ImageError on damaged data."""
        y0, x0, y1, x1 = box
        region = np.zeros((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        for i in range(y0 // self._chunk_yx[0], -(-y1 // self._chunk_yx[0])):
            for j in range(x0 // self._chunk_yx[1], -(-x1 // self._chunk_yx[1])):
                self._copy_segment(region, box, i, j)
        return region

    def close(self) -> None:
        """Forget the decoded segments."""
        self._cache.clear()
        self._cache_bytes = 0

    def _copy_segment(self, region: Pixels, box: Box, i: int, j: int) -> None:
        """Copy what row i, column j of the grid of segments has of a box into the region."""
        y0, x0, y1, x1 = box
        top, left = i * self._chunk_yx[0], j * self._chunk_yx[1]
        ys = slice(max(y0, top), min(y1, top + self._chunk_yx[0]))
        xs = slice(max(x0, left), min(x1, left + self._chunk_yx[1]))
        for pixels, channel in self._segments_at(i, j):
            part = pixels[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left]
            n_used = min(part.shape[2], self.shape[2] - channel)
            region[
                ys.start - y0 : ys.stop - y0,
                xs.start - x0 : xs.stop - x0,
                channel : channel + n_used,
            ] = part[:, :, :n_used]

    def _segments_at(self, i: int, j: int) -> list[tuple[Pixels, int]]:
        """Decode the segments at one place of the grid, each with its first channel."""
        index = i * self._grid_yx[1] + j
        n_segments = self._grid_yx[0] * self._grid_yx[1]
        if self._separate:
            return [
                (self._segment(0, channel * n_segments + index), channel)
                for channel in range(self.shape[2])
            ]
        return [(self._segment(n, index), n) for n in range(len(self._pages))]

    def _segment(self, n: int, index: int) -> Pixels:
        """Return a decoded segment (Y, X, samples) of page n, from the cache if it is there."""
        key = (n, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        pixels = self._decode(n, index)
        self._cache[key] = pixels
        self._cache_bytes += pixels.nbytes
        while self._cache_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes
        return pixels

    def _decode(self, n: int, index: int) -> Pixels:
        """Read and decode one segment; ImageError if it is damaged or incomplete."""
        page = self._pages[n]
        try:
            data = _read_bytes(page, index)
            decoded, _, shape = page.keyframe.decode(data, index, **_decoder_options(page))
        except DECODING_ERRORS as error:
            raise ImageError.about(self._path, f"cannot be decoded ({error})", _DAMAGED) from None
        rows = self._chunk_yx[0]
        wanted = min(rows, self.shape[0] - (index // self._grid_yx[1] % self._grid_yx[0]) * rows)
        if shape[1] < wanted:
            raise ImageError.about(self._path, "is truncated: rows are missing", _DAMAGED)
        if decoded is None:  # a sparse file leaves out empty segments
            return np.full(shape[1:], page.keyframe.nodata, self.dtype)
        pixels: Pixels = decoded[0]
        return pixels


class PaletteSource:
    """Pixels of a palette TIFF, looked up in its colour map.

    Parameters
    ----------
    indices : PixelSource
        One channel of indices.
    colormap : (3, n) ndarray of uint16
        Colours; writers fill either all 16 bits or, wrongly, the lower 8.
    """

    def __init__(self, indices: PixelSource, colormap: Pixels) -> None:
        colours = np.asarray(colormap).T
        self._indices = indices
        self._colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
        self.shape: tuple[int, int, int] = (*indices.shape[:2], 3)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def read(self, box: Box) -> Pixels:
        """Read a region: ``(y1 - y0, x1 - x0, 3)`` uint8."""
        colours: Pixels = self._colours[self._indices.read(box)[:, :, 0]]
        return colours

    def close(self) -> None:
        """Release the file."""
        self._indices.close()


def _chunk_yx(page: Any) -> tuple[int, int]:
    """Rows and columns of a tile or strip."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _read_bytes(page: Any, index: int) -> bytes | None:
    """Read the encoded bytes of a segment; None where a sparse file has none."""
    offset, n_bytes = page.dataoffsets[index], page.databytecounts[index]
    if offset == 0 or n_bytes == 0:
        return None
    stream = page.parent.filehandle
    stream.seek(offset)
    data: bytes = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise ValueError(f"the file ends inside segment {index}")
    return data


def _decoder_options(page: Any) -> dict[str, Any]:
    """Tables that JPEG segments share."""
    if page.keyframe.compression not in _JPEG:
        return {}
    return {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}
