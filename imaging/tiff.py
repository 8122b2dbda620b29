"""TIFF: which plane and channels of a file are the image, read region by region."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from imaging.image import (
    ArraySource,
    ImageError,
    Pixels,
    PixelSource,
    SourceImage,
    check_decoded_size,
)
from imaging.tiff_segments import DECODING_ERRORS, PaletteSource, PlaneLayout, SegmentSource

logger = logging.getLogger(__name__)

MAX_UNNAMED_CHANNELS = 4  # an axis without a name is taken for channels up to RGBA
_DAMAGED = "the file is damaged or incomplete: copy or export it again"
_CONVERT = "save it as a grey or RGB TIFF"
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
_PLAIN_KINDS = ("generic", "shaped", "uniform")  # files without a scanner's own layout
_PHOTOMETRICS = ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "YCBCR")


@dataclass(frozen=True)
class PlaneAxes:
    """Where the image lies in a TIFF series, an array with named axes.

    Attributes
    ----------
    y, x : int
        Positions of the image's rows and columns.
    channel : int or None
        Position of the channel axis, if there is one.
    skipped : str
        Names of the other axes longer than one, of which only the first plane is read.
    """

    y: int
    x: int
    channel: int | None
    skipped: str

    def image_of(self, array: Pixels) -> Pixels:
        """View the first plane of an array of this series as (Y, X, K)."""
        kept = (self.y, self.x) if self.channel is None else (self.y, self.x, self.channel)
        index = tuple(slice(None) if axis in kept else 0 for axis in range(array.ndim))
        plane = array[index].transpose([sorted(kept).index(axis) for axis in kept])
        return plane[:, :, None] if plane.ndim == 2 else plane


def open_tiff(path: Path) -> SourceImage:
    """Open a TIFF: its first image, first plane, by the axes the file names.

    Parameters
    ----------
    path : Path
        A TIFF, BigTIFF, ImageJ, OME or slide-scanner file.

    Returns
    -------
    SourceImage
        Uncompressed files are mapped, tiles and strips decoded on demand; pyramid levels serve
        overviews. Values are the stored ones, also where the file says that white is zero
        (ImageJ's inverted display, tifffile's bool); palettes become RGB. Two to four planes on
        an axis without a name are channels.

    Raises
    ------
    ImageError
        If the file is truncated, damaged, or holds no grey or RGB image.
    """
    try:
        tif = tifffile.TiffFile(path)
    except DECODING_ERRORS as error:
        raise ImageError.about(path, f"is not a readable TIFF ({error})", _DAMAGED) from None
    try:
        return _open_first_series(path, tif)
    except ImageError:
        tif.close()
        raise
    except DECODING_ERRORS as error:
        tif.close()
        raise ImageError.about(path, f"cannot be read ({error})", _DAMAGED) from None


def find_plane_axes(axes: str, shape: tuple[int, ...]) -> PlaneAxes:
    """Decide which axes of a series are rows, columns and channels.

    Parameters
    ----------
    axes : str
        tifffile's names, such as ``"TZCYXS"``; ``Q`` is an axis without a name.
    shape : tuple of int
        Lengths of the axes.

    Returns
    -------
    PlaneAxes
        Samples (``S``) are the channels, otherwise ``C``, otherwise a short unnamed axis. An
        array ``(Y, X, K)`` that was saved as Y pages of X times K pixels is recognised by its
        very narrow pages.

    Raises
    ------
    ValueError
        If there are no rows and columns.
    """
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"no image plane among the axes {axes}")
    y, x = axes.index("Y"), axes.index("X")
    channel: int | None = None
    if axes == "QYX" and shape[2] <= MAX_UNNAMED_CHANNELS < min(shape[:2]):
        y, x, channel = 0, 1, 2
    elif "S" in axes or "C" in axes:
        channel = axes.index("S") if "S" in axes else axes.index("C")
    else:
        short = [
            axis
            for axis, name in enumerate(axes)
            if name == "Q" and 1 < shape[axis] <= MAX_UNNAMED_CHANNELS
        ]
        channel = short[-1] if short else None
    skipped = "".join(
        name for axis, name in enumerate(axes) if axis not in (y, x, channel) and shape[axis] > 1
    )
    return PlaneAxes(y, x, channel, skipped)


def _open_first_series(path: Path, tif: tifffile.TiffFile) -> SourceImage:
    """Open the first series of a TIFF and the pyramid levels below it."""
    if not tif.series:
        raise ImageError.about(path, "holds no image", _DAMAGED)
    series = tif.series[0]
    page = series.keyframe
    if _photometric(page) not in _PHOTOMETRICS:
        raise ImageError.about(path, f"has {_photometric(page)} colours", _CONVERT)
    if page.dtype is None:
        raise ImageError.about(path, f"has {page.bitspersample}-bit pixels", _CONVERT)
    layout = find_plane_axes(series.axes, series.shape)
    n_others = sum(not other.keyframe.is_reduced for other in tif.series[1:])
    if layout.skipped or n_others:
        logger.warning(
            "%s: the first plane is read (of axes %s, shape %s, and %d more images in the file)",
            path.name,
            series.axes,
            series.shape,
            n_others,
        )
    source = _open_level(path, tif, series, layout)
    return SourceImage(path, source, _open_reduced(path, tif, series, source), tif.close)


def _open_reduced(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, full: PixelSource
) -> tuple[PixelSource, ...]:
    """Open the pyramid levels that show the same image smaller."""
    reduced: list[PixelSource] = []
    levels = list(series.levels[1:])
    if series.kind in _PLAIN_KINDS:  # other writers put labels and macro photographs there
        levels += [other for other in tif.series[1:] if other.keyframe.is_reduced]
    for level in levels:
        try:
            source = _open_level(path, tif, level, find_plane_axes(level.axes, level.shape))
        except (*DECODING_ERRORS, ImageError):
            continue  # an overview can do without
        factor_y, factor_x = (full.shape[i] / source.shape[i] for i in (0, 1))
        same_kind = source.shape[2] == full.shape[2] and source.dtype == full.dtype
        if same_kind and factor_y > 1 and abs(factor_y / factor_x - 1) < 0.02:
            reduced.append(source)
    return tuple(reduced)


def _open_level(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, layout: PlaneAxes
) -> PixelSource:
    """Choose how one series is read: mapped, segment by segment, or (odd layouts) whole."""
    page = series.keyframe
    if _photometric(page) == "PALETTE" and page.colormap is not None:
        return PaletteSource(_open_planes(path, series, layout), page.colormap)
    if series.dataoffset is not None and page.is_memmappable and page.parent is tif:
        n_bytes = series.dataoffset + series.size * series.dtype.itemsize
        if n_bytes > tif.filehandle.size:
            raise ImageError.about(
                path, f"is truncated ({tif.filehandle.size} bytes of {n_bytes})", _DAMAGED
            )
        mapped = np.memmap(
            path,
            dtype=np.dtype(tif.byteorder + series.dtype.char),
            mode="r",
            offset=series.dataoffset,
            shape=tuple(series.shape),
        )
        pixels = layout.image_of(mapped)
        return ArraySource(_without_alpha(pixels, page))
    return _open_planes(path, series, layout)


def _open_planes(path: Path, series: tifffile.TiffPageSeries, layout: PlaneAxes) -> PixelSource:
    """Read the first plane segment by segment; layouts that tifffile alone knows, whole."""
    page = series.keyframe
    _check_complete(path, series)
    planes = _plane_pages(series, layout)
    if planes is None:
        check_decoded_size(path, series.size * series.dtype.itemsize)
        return ArraySource(_without_alpha(layout.image_of(series.asarray()), page))
    n_channels = len(planes) * page.samplesperpixel
    if n_channels == 2 and page.extrasamples[:1] and page.extrasamples[0] in _ALPHA:
        n_channels = 1
    return SegmentSource(path, PlaneLayout(tuple(planes), n_channels))


def _plane_pages(series: tifffile.TiffPageSeries, layout: PlaneAxes) -> list[Any] | None:
    """Return the pages of the first plane, one a channel; None if the layout is an odd one."""
    page = series.keyframe
    n_leading = len(series.axes) - len(page.axes)
    leading, regular = series.shape[:n_leading], series.axes[n_leading:] == page.axes
    if not regular or page.axes not in ("YX", "YXS", "SYX") or layout.y < n_leading:
        return None
    if layout.channel is None or layout.channel >= n_leading:
        pages = [series.pages[0]]
    else:
        stride = int(np.prod(leading[layout.channel + 1 :], dtype=np.int64))
        n_used = min(3, leading[layout.channel])
        if len(series.pages) < (n_used - 1) * stride + 1:
            return None
        pages = [series.pages[c * stride] for c in range(n_used)]
    return None if any(one is None for one in pages) else pages


def _check_complete(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Raise ImageError if the data of the first page reach beyond the end of its file."""
    page = series.pages[0]
    if page is None or not page.dataoffsets or not page.databytecounts:
        raise ImageError.about(path, "holds no image data", _DAMAGED)
    n_segments = min(len(page.dataoffsets), len(page.databytecounts))
    end = max(page.dataoffsets[i] + page.databytecounts[i] for i in range(n_segments))
    size = page.parent.filehandle.size
    if end > size:
        raise ImageError.about(path, f"is truncated ({size} bytes of at least {end})", _DAMAGED)


def _without_alpha(pixels: Pixels, page: tifffile.TiffPage) -> Pixels:
    """Drop the alpha channel of grey-with-alpha pixels (Y, X, 2)."""
    grey_alpha = pixels.shape[2] == 2 and page.extrasamples[:1] and page.extrasamples[0] in _ALPHA
    return pixels[:, :, :1] if grey_alpha else pixels


def _photometric(page: tifffile.TiffPage) -> str:
    """Name of the page's colour interpretation."""
    try:
        return tifffile.PHOTOMETRIC(page.photometric).name
    except ValueError:
        return f"unknown ({page.photometric})"
