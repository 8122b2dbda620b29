"""TIFF: which plane and channels of a file are the image, read region by region."""

import logging
import math
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
from imaging.levels import FULL_RESOLUTION, Level, LevelChoice, build_level, open_levels
from imaging.pixel_size import read_mpp
from imaging.rows import RowSource
from imaging.tiff_checks import DAMAGED, TruncatedError, check_chain
from imaging.tiff_segments import DECODING_ERRORS, PaletteSource, PlaneLayout, SegmentSource
from imaging.watched import WatchedFiles

logger = logging.getLogger(__name__)

MAX_UNNAMED_CHANNELS = 4  # an axis without a name is taken for channels up to RGBA
_CONVERT = "save it as a grey or RGB TIFF"
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
_PLAIN_KINDS = ("generic", "shaped", "uniform")  # files without a scanner's own layout
_SCANNERS = ("avs", "bif", "ndpi", "philips", "qpi", "scn", "svs")
_COMPANIONS = ("Label", "Macro", "Map", "Other", "Thumbnail")  # pictures beside a scanner's slide
_CONVERTED_TO_RGB = (6, 7, 33003, 33007, 34712, 34892, 50001)  # decoders that give RGB
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


@dataclass(frozen=True)
class OpenedTiff:
    """A TIFF that stays open as long as its image: its structure, and its bytes."""

    path: Path
    tif: tifffile.TiffFile
    files: WatchedFiles

    def close(self) -> None:
        """Release the files."""
        self.tif.close()
        self.files.close()


def open_tiff(path: Path, choice: LevelChoice = FULL_RESOLUTION) -> SourceImage:
    """Open a TIFF: its first image, first plane, by the axes the file names.

    Parameters
    ----------
    path : Path
        A TIFF, BigTIFF, ImageJ, OME or slide-scanner file. Of a scanner's file the largest image
        is read, not its label or macro photograph.
    choice : LevelChoice
        Which level of a pyramid is opened.

    Returns
    -------
    SourceImage
        Uncompressed files are read where they lie, tiles and strips decoded on demand; coarser
        pyramid levels serve overviews. Values are the stored ones, also where the file says that
        white is zero (ImageJ's inverted display, tifffile's bool); palettes become RGB. Two to
        four planes on an axis without a name are channels.

    Raises
    ------
    ImageError
        If the file is truncated, damaged, or holds no grey or RGB image, or not at the
        resolution asked for.
    """
    files = WatchedFiles(path)
    try:
        tif = tifffile.TiffFile(path)
    except DECODING_ERRORS as error:
        files.close()
        raise ImageError.about(path, f"is not a readable TIFF ({error})", DAMAGED) from None
    opened = OpenedTiff(path, tif, files)
    try:
        check_chain(path, files.main, tif)
        return _open_first_image(opened, choice)
    except ImageError:
        opened.close()
        raise
    except DECODING_ERRORS as error:
        opened.close()
        raise ImageError.about(path, f"cannot be read ({error})", DAMAGED) from None


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


def _open_first_image(opened: OpenedTiff, choice: LevelChoice) -> SourceImage:
    """Open the image of a TIFF at the chosen level."""
    path, tif = opened.path, opened.tif
    if not tif.series:
        raise ImageError.about(path, "holds no image", DAMAGED)
    series = tif.series[0]
    if series.kind in _SCANNERS:  # some put the macro photograph first
        slides = [one for one in tif.series if one.name not in _COMPANIONS] or [series]
        series = max(slides, key=lambda one: one.keyframe.imagelength * one.keyframe.imagewidth)
    page = series.keyframe
    _check_colours(path, page)
    layout = find_plane_axes(series.axes, series.shape)
    _warn_of_others(path, tif, series, layout)
    full = _open_level(opened, series, layout)
    mpp = read_mpp(tif, page)
    levels = [Level(full.shape[:2], full, mpp), *_open_reduced(opened, series, full, mpp)]
    return open_levels(path, levels, choice, opened.close, opened.files.check)


def _check_colours(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse pixels that are neither grey nor RGB once they are decoded."""
    photometric = _photometric(page)
    if photometric not in _PHOTOMETRICS:
        raise ImageError.about(path, f"has {photometric} colours", _CONVERT)
    if photometric == "YCBCR" and page.compression not in _CONVERTED_TO_RGB:
        raise ImageError.about(path, "has YCBCR colours without JPEG", _CONVERT)
    if page.dtype is None:
        raise ImageError.about(path, f"has {page.bitspersample}-bit pixels", _CONVERT)


def _warn_of_others(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, layout: PlaneAxes
) -> None:
    """Say what of the file is not read; a scanner's companion pictures are not worth a word."""
    others = [
        other
        for other in tif.series
        if other is not series and not other.keyframe.is_reduced and other.name not in _COMPANIONS
    ]
    if layout.skipped or others:
        logger.warning(
            "%s: the first plane is read (of axes %s, shape %s, and %d more images in the file)",
            path.name,
            series.axes,
            series.shape,
            len(others),
        )


def _open_reduced(
    opened: OpenedTiff, series: tifffile.TiffPageSeries, full: PixelSource, mpp: float | None
) -> list[Level]:
    """Open the pyramid levels, in the order of the file; unusable ones keep their number."""
    reduced = [_reduced_level(opened, level, full, mpp) for level in series.levels[1:]]
    if series.kind in _PLAIN_KINDS:  # other writers put labels and macro photographs there
        others = [
            _reduced_level(opened, other, full, mpp)
            for other in opened.tif.series
            if other is not series and other.keyframe.is_reduced
        ]
        reduced += [level for level in others if not level.problem]
        reduced.sort(key=lambda level: level.shape_yx, reverse=True)
    return reduced


def _reduced_level(
    opened: OpenedTiff, series: tifffile.TiffPageSeries, full: PixelSource, mpp: float | None
) -> Level:
    """Open one pyramid level; one that cannot be decoded or does not fit is named unusable."""
    page = series.keyframe
    try:
        _check_colours(opened.path, page)
        source = _open_level(opened, series, find_plane_axes(series.axes, series.shape))
    except TruncatedError:
        raise  # what is left of the file may be whole, but its owner should know
    except (*DECODING_ERRORS, ImageError) as error:
        return Level((page.imagelength, page.imagewidth), None, None, f"cannot be read ({error})")
    return build_level(full, source, mpp)


def _open_level(
    opened: OpenedTiff, series: tifffile.TiffPageSeries, layout: PlaneAxes
) -> PixelSource:
    """Choose how one series is read: where it lies, by segments, or (odd layouts) whole."""
    page = series.keyframe
    if _photometric(page) == "PALETTE" and page.colormap is not None:
        return PaletteSource(_open_planes(opened, series, layout), page.colormap)
    offset = series.dataoffset
    if offset is not None and page.is_memmappable and page.parent is opened.tif:
        return _open_rows(opened, series, layout, offset)
    return _open_planes(opened, series, layout)


def _open_rows(
    opened: OpenedTiff, series: tifffile.TiffPageSeries, layout: PlaneAxes, offset: int
) -> PixelSource:
    """Open pixels that lie uncompressed in one run."""
    path, file = opened.path, opened.files.main
    dtype = np.dtype(opened.tif.byteorder + series.dtype.char)
    n_bytes = offset + series.size * dtype.itemsize
    if n_bytes > file.size:
        raise ImageError.about(path, f"is truncated ({file.size} bytes of {n_bytes})", DAMAGED)
    strides = [math.prod(series.shape[axis + 1 :]) for axis in range(series.ndim)]
    channel = layout.channel
    n_channels = 1 if channel is None else int(series.shape[channel])
    n_used = _n_used(n_channels, series.keyframe)
    shape = (int(series.shape[layout.y]), int(series.shape[layout.x]), n_used)
    steps = (strides[layout.y], strides[layout.x], 1 if channel is None else strides[channel])
    try:
        return RowSource(file, offset, dtype, shape, steps)
    except ValueError:  # columns of rows, or pixels of planes: nobody writes slides so
        mapped = np.memmap(path, dtype, "r", offset, tuple(series.shape))
        return ArraySource(layout.image_of(mapped)[:, :, :n_used])


def _open_planes(
    opened: OpenedTiff, series: tifffile.TiffPageSeries, layout: PlaneAxes
) -> PixelSource:
    """Read the first plane segment by segment; layouts that tifffile alone knows, whole."""
    page = series.keyframe
    planes = _plane_pages(series, layout)
    if planes is None:
        check_decoded_size(opened.path, series.size * series.dtype.itemsize)
        pixels = layout.image_of(series.asarray())
        return ArraySource(pixels[:, :, : _n_used(pixels.shape[2], page)])
    n_channels = _n_used(len(planes) * page.samplesperpixel, page)
    return SegmentSource(opened.path, PlaneLayout(tuple(planes), n_channels), opened.files)


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


def _n_used(n_channels: int, page: tifffile.TiffPage) -> int:
    """Count the channels that an image shows: the first three, no alpha beside grey."""
    grey_alpha = n_channels == 2 and page.extrasamples[:1] and page.extrasamples[0] in _ALPHA
    return 1 if grey_alpha else min(3, n_channels)


def _photometric(page: tifffile.TiffPage) -> str:
    """Name of the page's colour interpretation."""
    try:
        return tifffile.PHOTOMETRIC(page.photometric).name
    except ValueError:
        return f"unknown ({page.photometric})"
