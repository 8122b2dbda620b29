"""Regions of tiled and striped TIFF pages: only the segments of a region are decoded."""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imaging.chunks import ChunkedSource
from imaging.image import Box, ImageError, Pixels, PixelSource, check_decoded_size
from imaging.tiff_checks import DAMAGED, check_segment_header, check_segments
from imaging.watched import WatchedFile, WatchedFiles

_JPEG = (6, 7, 33007, 34892)  # TIFF compression codes whose segments need shared tables
_APERIO_YCBCR = 33003  # JPEG 2000 of luminance and colour differences, which tifffile leaves as is

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
    AssertionError,  # tifffile's own, on scanners' files without the tags they should have
    SyntaxError,  # XML that cannot be parsed
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


@dataclass(frozen=True)
class _PageData:
    """Where the segments of one page lie, and what their decoder wants to know."""

    file: WatchedFile
    page: Any
    options: dict[str, Any]


class SegmentSource(ChunkedSource):
    """Pixels of TIFF pages, decoded tile by tile or strip by strip.

    Parameters
    ----------
    path : Path
        The file, for messages.
    layout : PlaneLayout
        Pages of equal shape.
    files : WatchedFiles
        The files they lie in, open as long as regions are read.

    Raises
    ------
    ValueError
        If the pages are no planes.
    ImageError
        If the file does not hold what its header claims.

    Notes
    -----
    A compressed file with a single strip takes the memory of the image.
    """

    def __init__(self, path: Path, layout: PlaneLayout, files: WatchedFiles) -> None:
        page = layout.pages[0].keyframe
        if page.axes not in ("YX", "YXS", "SYX") or page.imagedepth > 1:
            raise ValueError(f"wanted pages with axes YX, YXS or SYX, got {page.axes}")
        shape = (int(page.imagelength), int(page.imagewidth), layout.n_channels)
        dtype = np.dtype(page.dtype)
        super().__init__(shape, dtype, _chunk_yx(page))
        self._path = path
        self._separate = page.axes == "SYX"
        self._grid_yx = (-(-shape[0] // self._chunk_yx[0]), -(-shape[1] // self._chunk_yx[1]))
        self._n_samples = 1 if self._separate else int(page.samplesperpixel)
        segment_bytes = math.prod(self._chunk_yx) * self._n_samples * dtype.itemsize
        check_decoded_size(path, segment_bytes)
        self._pages = [
            _PageData(files.get(Path(one.parent.filehandle.path)), one, _decoder_options(one))
            for one in layout.pages
        ]
        n_segments = self._grid_yx[0] * self._grid_yx[1]
        n_expected = n_segments * (int(page.samplesperpixel) if self._separate else 1)
        bits = page.bitspersample if isinstance(page.bitspersample, int) else 1  # 5, 6, 5
        stored_bytes = segment_bytes // dtype.itemsize * bits // 8
        sizes = [data.file.size for data in self._pages]
        check_segments(path, layout.pages, n_expected, stored_bytes, sizes)
        page.init_decode()  # its first use is not safe in several threads

    def _decode(self, row: int, column: int) -> Pixels:
        """Decode the segments at one place of the grid, their channels beside each other."""
        index = row * self._grid_yx[1] + column
        if not self._separate:
            parts = [self._decode_segment(data, index) for data in self._pages]
        else:
            n_segments = self._grid_yx[0] * self._grid_yx[1]
            parts = [
                self._decode_segment(self._pages[0], channel * n_segments + index)
                for channel in range(self.shape[2])
            ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _decode_segment(self, data: _PageData, index: int) -> Pixels:
        """Read and decode one segment; ImageError if it is damaged or incomplete."""
        keyframe = data.page.keyframe
        try:
            encoded = _read_bytes(data, index)
            if encoded is not None:
                header = data.options.get("jpegheader") or encoded
                size = (*self._chunk_yx, self._n_samples)
                check_segment_header(header, int(keyframe.compression), *size)
            decoded, _, shape = keyframe.decode(encoded, index, **data.options)
        except DECODING_ERRORS as error:
            raise ImageError.about(self._path, f"cannot be decoded ({error})", DAMAGED) from None
        rows = self._chunk_yx[0]
        wanted = min(rows, self.shape[0] - (index // self._grid_yx[1] % self._grid_yx[0]) * rows)
        if shape[1] < wanted:
            raise ImageError.about(self._path, "is truncated: rows are missing", DAMAGED)
        if decoded is None:  # a sparse file leaves out empty segments
            return np.full(shape[1:], keyframe.nodata, self.dtype)
        pixels: Pixels = decoded[0]
        return _ycbcr_to_rgb(pixels) if keyframe.compression == _APERIO_YCBCR else pixels


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
        chunk = int(page.tilelength), int(page.tilewidth)
    else:
        chunk = min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)
    if min(chunk) < 1:
        raise ValueError(f"wanted tiles or strips with pixels, got {chunk}")
    return chunk


def _read_bytes(data: _PageData, index: int) -> bytes | None:
    """Read the encoded bytes of a segment; None where a sparse file has none."""
    offset, n_bytes = data.page.dataoffsets[index], data.page.databytecounts[index]
    if offset == 0 or n_bytes == 0:
        return None
    return data.file.read(offset, n_bytes)


def _decoder_options(page: Any) -> dict[str, Any]:
    """Tables that JPEG segments share."""
    if page.keyframe.compression not in _JPEG:
        return {}
    return {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}


def _ycbcr_to_rgb(pixels: Pixels) -> Pixels:
    """Convert 8-bit luminance and colour differences (Y, X, 3) to RGB, by JFIF's formula."""
    luminance, blue, red = np.moveaxis(pixels[:, :, :3].astype(np.float32), 2, 0)
    blue -= 128
    red -= 128
    rgb = np.stack(
        (
            luminance + 1.402 * red,
            luminance - 0.344136 * blue - 0.714136 * red,
            luminance + 1.772 * blue,
        ),
        axis=2,
    )
    return np.clip(np.rint(rgb), 0, 255).astype(pixels.dtype)
