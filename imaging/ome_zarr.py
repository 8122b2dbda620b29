"""OME-Zarr images (NGFF 0.1 to 0.5): folders of chunks, with a pyramid described in JSON."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imaging.chunks import ChunkedSource
from imaging.image import ImageError, Pixels, PixelSource, SourceImage, check_decoded_size
from imaging.levels import FULL_RESOLUTION, Level, LevelChoice, build_level, open_levels
from imaging.listing import ZARR_METADATA
from imaging.pixel_size import UM_PER_UNIT
from imaging.watched import WatchedFiles

logger = logging.getLogger(__name__)

OLD_AXES = "tczyx"  # of versions 0.1 and 0.2, which name none
MAX_CHUNKS_TO_FIND = 64  # entries of a level's folder that are looked through for data
_DAMAGED = "the folder is damaged or incomplete: copy or export it again"


@dataclass(frozen=True)
class ZarrAxes:
    """Where the image lies in an array: positions of y, x and (if there is one) the channel."""

    names: str
    y: int
    x: int
    channel: int | None


class ZarrSource(ChunkedSource):
    """Pixels of one Zarr array: its first plane, chunk by chunk.

    Parameters
    ----------
    path : Path
        The image, for messages.
    array : zarr.Array
        Opened for reading.
    axes : ZarrAxes
        Its axes.

    Raises
    ------
    ImageError
        If a chunk is too large to be decoded.
    """

    def __init__(self, path: Path, array: Any, axes: ZarrAxes) -> None:
        n_stored = 1 if axes.channel is None else int(array.shape[axes.channel])
        shape = (int(array.shape[axes.y]), int(array.shape[axes.x]), min(3, n_stored))
        dtype = np.dtype(array.dtype)
        chunks = [int(side) for side in array.chunks]  # what a shard is made of, where there are
        check_decoded_size(path, math.prod(chunks) * dtype.itemsize)
        super().__init__(shape, dtype.newbyteorder("="), (chunks[axes.y], chunks[axes.x]))
        self._path = path
        self._array = array
        self._axes = axes

    def _decode(self, row: int, column: int) -> Pixels:
        """Decode the chunks at one place of the grid, as (y, x, K); missing ones are empty."""
        axes, (height, width) = self._axes, self._chunk_yx
        index: list[int | slice] = [0] * len(axes.names)
        index[axes.y] = slice(row * height, min((row + 1) * height, self.shape[0]))
        index[axes.x] = slice(column * width, min((column + 1) * width, self.shape[1]))
        if axes.channel is not None:
            index[axes.channel] = slice(0, self.shape[2])
        try:
            stored = np.asarray(self._array[tuple(index)])
        except Exception as error:  # noqa: BLE001 - codecs raise whatever they like
            raise ImageError.about(self._path, f"cannot be decoded ({error})", _DAMAGED) from None
        kept = [axis for axis in (axes.y, axes.x, axes.channel) if axis is not None]
        pixels = stored.transpose([sorted(kept).index(axis) for axis in kept])
        return pixels[:, :, None] if pixels.ndim == 2 else pixels


def open_ome_zarr(path: Path, choice: LevelChoice = FULL_RESOLUTION) -> SourceImage:
    """Open an OME-Zarr image: its first multiscale, first plane of times and depths.

    Parameters
    ----------
    path : Path
        Folder of an image, or one that Bio-Formats wrote, of which the first image is read.
    choice : LevelChoice
        Which level of the pyramid is opened.

    Returns
    -------
    SourceImage
        Chunks are decoded on demand; missing ones have the array's fill value, as Zarr has it.
        A warning in the log says that planes are left out.

    Raises
    ------
    ImageError
        If the package zarr is missing, the folder is no OME-Zarr image, or it is damaged.

    Notes
    -----
    Of a folder, the metadata are watched for changes; chunks are not, as there may be millions.
    """
    try:
        import zarr  # noqa: PLC0415 - half a second that only these images cost
    except ImportError:
        raise ImageError.about(
            path, "needs the package zarr", 'install it: pip install "zarr>=3.1,<3.2"'
        ) from None
    files = None
    try:
        group = zarr.open_group(store=str(path), mode="r")
        group, folder = _first_image(path, group)
        files = WatchedFiles(next(file for file in _metadata(folder) if file.is_file()))
        multiscale = _multiscale(path, dict(group.attrs))
        levels = _open_pyramid(path, folder, group, multiscale, files)
        return open_levels(path, levels, choice, files.close, files.check)
    except Exception as error:
        if files is not None:
            files.close()
        if isinstance(error, ImageError):
            raise
        raise ImageError.about(
            path, f"is not a readable OME-Zarr image ({error})", _DAMAGED
        ) from None


def _first_image(path: Path, group: Any) -> tuple[Any, Path]:
    """Follow Bio-Formats' layout to its first image; a plate is not one image."""
    attributes = _ome(dict(group.attrs))
    if "plate" in attributes or "well" in attributes:
        raise ImageError.about(path, "is a plate of many images", "give one of its fields")
    if "multiscales" in attributes or "bioformats2raw.layout" not in attributes:
        return group, path
    if (path / "1").is_dir():
        logger.warning("%s: the first of several images is read", path.name)
    return group["0"], path / "0"


def _open_pyramid(
    path: Path, folder: Path, group: Any, multiscale: Mapping[str, Any], files: WatchedFiles
) -> list[Level]:
    """Open every level of a multiscale; all but the first may be unusable."""
    levels: list[Level] = []
    full: PixelSource | None = None
    for dataset in multiscale["datasets"]:
        name = str(dataset["path"])
        if name.startswith("/") or ".." in Path(name).parts:
            raise ImageError.about(path, f"has a level outside of it ({name})", _DAMAGED)
        try:
            array = group[name]
            axes = _find_axes(multiscale, array.shape)
            mpp = _mpp(multiscale, dataset, axes)
            source = ZarrSource(path, array, axes)
            _check_has_data(path, folder / name)
            files.get(next(file for file in _metadata(folder / name) if file.is_file()))
        except Exception as error:
            if full is None:
                raise
            levels.append(Level((0, 0), None, None, f"cannot be read ({_one_line(error)})"))
            continue
        if full is None:
            full = source
            levels.append(Level(source.shape[:2], source, mpp))
            _warn_of_skipped(path, array.shape, axes)
        else:
            level = build_level(full, source, levels[0].mpp)
            levels.append(Level(level.shape_yx, level.source, mpp, level.problem))
    if full is None:
        raise ImageError.about(path, "holds no image", _DAMAGED)
    return levels


def _multiscale(path: Path, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first multiscale of an image's attributes."""
    multiscales = _ome(attributes).get("multiscales")
    if not multiscales:
        raise ImageError.about(
            path, "has no multiscale metadata", "give the folder of an OME-Zarr image"
        )
    if len(multiscales) > 1:
        logger.warning("%s: the first of %d multiscales is read", path.name, len(multiscales))
    first: Mapping[str, Any] = multiscales[0]
    return first


def _ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME part of attributes: version 0.5 has a key of its own for it."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def _find_axes(multiscale: Mapping[str, Any], shape: Sequence[int]) -> ZarrAxes:
    """Find rows, columns and channels among the named axes; ValueError if there are none."""
    given = multiscale.get("axes") or OLD_AXES[-len(shape) :]
    names = "".join(
        str(axis["name"] if isinstance(axis, Mapping) else axis).lower()[:1] for axis in given
    )
    if len(names) != len(shape) or names.count("y") != 1 or names.count("x") != 1:
        raise ValueError(f"axes {names} do not fit the shape {tuple(shape)}")
    channel = names.index("c") if "c" in names else None
    return ZarrAxes(names, names.index("y"), names.index("x"), channel)


def _mpp(multiscale: Mapping[str, Any], dataset: Mapping[str, Any], axes: ZarrAxes) -> float | None:
    """Micrometres a pixel of one level: its scale, times the multiscale's own."""
    given = multiscale.get("axes")
    if not given or not isinstance(given[axes.y], Mapping):
        return None
    sizes = []
    for axis in (axes.y, axes.x):
        unit = UM_PER_UNIT.get(str(given[axis].get("unit", "none")).lower())
        if unit is None:
            return None
        for owner in (dataset, multiscale):
            for transform in owner.get("coordinateTransformations", ()):
                if transform.get("type") == "scale" and "scale" in transform:
                    unit *= float(transform["scale"][axis])
        sizes.append(unit)
    size = sizes[0] * sizes[1]
    return math.sqrt(size) if math.isfinite(size) and size > 0 else None


def _check_has_data(path: Path, folder: Path) -> None:
    """Refuse an array without a single chunk: an interrupted copy, or a header alone."""
    entries = (entry for _, entry in zip(range(MAX_CHUNKS_TO_FIND), folder.iterdir(), strict=False))
    if not any(entry.name not in (*ZARR_METADATA, ".zmetadata") for entry in entries):
        raise ImageError.about(path, f"holds no image data in {folder.name}", _DAMAGED)


def _warn_of_skipped(path: Path, shape: Sequence[int], axes: ZarrAxes) -> None:
    """Say that only the first plane of times and depths is read."""
    skipped = [
        name
        for axis, name in enumerate(axes.names)
        if axis not in (axes.y, axes.x, axes.channel) and shape[axis] > 1
    ]
    if skipped:
        logger.warning(
            "%s: the first plane is read (of axes %s, shape %s)",
            path.name,
            axes.names.upper(),
            tuple(shape),
        )


def _metadata(folder: Path) -> list[Path]:
    """Name the files that may describe a group or array."""
    return [folder / name for name in ZARR_METADATA]


def _one_line(error: Exception) -> str:
    """Put an error on one line."""
    return " ".join(str(error).split()) or type(error).__name__
