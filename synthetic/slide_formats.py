"""Write a mosaic as the files that scanners and their users have, tile after tile."""

import functools
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from imaging.image import ImageError
from imaging.writing import replacing
from synthetic.mosaic import Mosaic

SVS_STEP = 4  # between the levels of Aperio's pyramids
ROWS_PER_STRIP = 64
JPEG_QUALITY = 90


@dataclass(frozen=True)
class SlideSettings:
    """How a slide is stored.

    Attributes
    ----------
    tile_px : int
        Side of a stored tile or chunk; a multiple of 16.
    compression : str or None
        tifffile's name of a codec (``"zlib"``, ``"lzw"``, ``"jpeg"``, ``"jpeg2000"``, ``"zstd"``,
        ``"webp"``); None stores plain pixels. OME-Zarr is always stored with Zarr's default.
    mpp : float
        Micrometres a pixel that the file claims.
    """

    tile_px: int = 256
    compression: str | None = "zlib"
    mpp: float = 0.5


def write_ome_tiff(path: Path, mosaic: Mosaic, settings: SlideSettings) -> None:
    """Write a pyramidal OME-TIFF: tiles, levels in SubIFDs, halved in size from one to the next.

    Parameters
    ----------
    path : Path
        Final name; it appears when the file is complete.
    mosaic : Mosaic
        The slide.
    settings : SlideSettings
        How it is stored.

    Raises
    ------
    ImageError
        If the file cannot be written.
    """
    factors = mosaic.factors(2)
    metadata = {
        "axes": "YXS" if mosaic.shape[2] > 1 else "YX",
        "PhysicalSizeX": settings.mpp,
        "PhysicalSizeXUnit": "\u00b5m",
        "PhysicalSizeY": settings.mpp,
        "PhysicalSizeYUnit": "\u00b5m",
    }
    with replacing(path) as hidden, tifffile.TiffWriter(hidden, bigtiff=True, ome=True) as writer:
        _write_tiled(writer, mosaic, 1, settings, subifds=len(factors), metadata=metadata)
        for factor in factors:
            _write_tiled(writer, mosaic, factor, settings, subfiletype=1, metadata=None)


def write_strips(path: Path, mosaic: Mosaic, settings: SlideSettings) -> None:
    """Write a BigTIFF of strips without a pyramid, as stitching programs leave it.

    Parameters and errors are those of :func:`write_ome_tiff`; of codecs, strips know ``"zlib"`` and
    None (ValueError for others).
    """
    if settings.compression not in (None, "zlib"):
        raise ValueError(f"strips are stored plain or by zlib, not {settings.compression}")
    height, width, n_channels = mosaic.shape

    def strips() -> Iterator[bytes]:
        for y0 in range(0, height, ROWS_PER_STRIP):
            rows = mosaic.read((y0, 0, min(y0 + ROWS_PER_STRIP, height), width))
            data = rows.astype(rows.dtype.newbyteorder("<")).tobytes()
            yield data if settings.compression is None else zlib.compress(data)

    with (
        replacing(path) as hidden,
        tifffile.TiffWriter(hidden, bigtiff=True, byteorder="<") as writer,
    ):
        writer.write(
            strips(),
            shape=(height, width, n_channels) if n_channels > 1 else (height, width),
            dtype=mosaic.dtype,
            rowsperstrip=ROWS_PER_STRIP,
            photometric=_photometric(mosaic),
            compression=settings.compression,
            resolution=(1e4 / settings.mpp, 1e4 / settings.mpp),
            resolutionunit="CENTIMETER",
            metadata=None,
        )


def write_svs(path: Path, mosaic: Mosaic, settings: SlideSettings) -> None:
    """Write what Aperio's scanners write: tiled levels, a thumbnail, a label and a macro picture.

    Parameters and errors are those of :func:`write_ome_tiff`.
    """
    height, width, _ = mosaic.shape
    factors = mosaic.factors(SVS_STEP)
    smallest = factors[-1] if factors else 1
    rows, columns, _ = mosaic.level_shape(smallest)
    thumbnail = _stored(mosaic.read((0, 0, min(rows, 1024), min(columns, 1024)), smallest))
    picture = np.full((96, 128), 200, mosaic.dtype)
    about = (
        f"Aperio Image Library v12.0.16\r\n{width}x{height} [0,0 {width}x{height}] "
        f"({settings.tile_px}x{settings.tile_px}) Q={JPEG_QUALITY}"
    )
    with replacing(path) as hidden, tifffile.TiffWriter(hidden, bigtiff=True) as writer:
        _write_tiled(
            writer,
            mosaic,
            1,
            settings,
            description=f"{about}|AppMag = {round(10 / settings.mpp)}|MPP = {settings.mpp:.4f}",
            metadata=None,
        )
        plain: dict[str, Any] = {"metadata": None, "software": False, "compression": "zlib"}
        writer.write(thumbnail, photometric=_photometric(mosaic), description=about, **plain)
        for factor in factors:
            _write_tiled(writer, mosaic, factor, settings, description=about, metadata=None)
        for subfiletype, name in ((1, "label"), (9, "macro")):
            writer.write(
                picture,
                photometric="minisblack",
                subfiletype=subfiletype,
                description=f"Aperio Image Library v12.0.16\r\n{name} 128x96",
                **plain,
            )


def write_ome_zarr(path: Path, mosaic: Mosaic, settings: SlideSettings, version: str) -> None:
    """Write an OME-Zarr image, channels first, halved in size from one level to the next.

    Parameters
    ----------
    path : Path
        Folder to make; it appears when it is complete.
    mosaic : Mosaic
        The slide.
    settings : SlideSettings
        How it is stored.
    version : str
        ``"0.4"`` (Zarr 2) or ``"0.5"`` (Zarr 3).

    Raises
    ------
    ImageError
        If the folder exists already or cannot be written.
    """
    import zarr  # noqa: PLC0415 - half a second

    if path.exists():
        raise ImageError.about(path, "exists already", "give another name or remove it")
    if not path.parent.is_dir():  # zarr would make it
        raise ImageError.about(path, "cannot be written (no such folder)", "make the folder")
    hidden = path.with_name(f".{path.name}.part")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        group = zarr.open_group(hidden, mode="w", zarr_format=2 if version == "0.4" else 3)
        factors = [1, *mosaic.factors(2)]
        multiscale = _multiscale(path.name.split(".")[0], factors, settings.mpp)
        if version == "0.4":
            group.attrs["multiscales"] = [{"version": version, **multiscale}]
        else:
            group.attrs["ome"] = {"version": version, "multiscales": [multiscale]}
        for number, factor in enumerate(factors):
            _write_zarr_level(group, str(number), mosaic, factor, settings)
        hidden.rename(path)
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        raise ImageError.about(path, reason, "check the folder and the free space") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


WRITERS: dict[str, Callable[[Path, Mosaic, SlideSettings], None]] = {
    "ome-tiff": write_ome_tiff,
    "strips": write_strips,
    "svs": write_svs,
    "ome-zarr-0.4": functools.partial(write_ome_zarr, version="0.4"),
    "ome-zarr-0.5": functools.partial(write_ome_zarr, version="0.5"),
}


def _write_tiled(
    writer: tifffile.TiffWriter, mosaic: Mosaic, factor: int, settings: SlideSettings, **tags: Any
) -> None:
    """Write one level as tiles, one after another."""
    height, width, n_channels = mosaic.level_shape(factor)
    side = settings.tile_px

    def tiles() -> Iterator[NDArray[Any]]:
        for y0 in range(0, height, side):
            for x0 in range(0, width, side):
                part = mosaic.read((y0, x0, min(y0 + side, height), min(x0 + side, width)), factor)
                missing = (side - part.shape[0], side - part.shape[1])
                yield _stored(np.pad(part, [(0, n) for n in (*missing, 0)], mode="edge"))

    lossy = settings.compression == "jpeg"
    writer.write(
        tiles(),
        shape=(height, width, n_channels) if n_channels > 1 else (height, width),
        dtype=mosaic.dtype,
        tile=(side, side),
        photometric=_photometric(mosaic),
        compression=settings.compression,
        compressionargs={"level": JPEG_QUALITY} if lossy else None,
        resolution=(1e4 / settings.mpp / factor, 1e4 / settings.mpp / factor),
        resolutionunit="CENTIMETER",
        software=False,
        **tags,
    )


def _write_zarr_level(
    group: Any, name: str, mosaic: Mosaic, factor: int, settings: SlideSettings
) -> None:
    """Write one level as chunks (C, y, x), one after another."""
    height, width, n_channels = mosaic.level_shape(factor)
    side = settings.tile_px
    array = group.create_array(
        name,
        shape=(n_channels, height, width),
        chunks=(n_channels, min(side, height), min(side, width)),
        dtype=mosaic.dtype,
        chunk_key_encoding={
            "name": "v2" if group.metadata.zarr_format == 2 else "default",
            "separator": "/",
        },
    )
    for y0 in range(0, height, side):
        for x0 in range(0, width, side):
            box = (y0, x0, min(y0 + side, height), min(x0 + side, width))
            pixels = np.moveaxis(mosaic.read(box, factor), 2, 0)
            array[:, y0 : box[2], x0 : box[3]] = np.ascontiguousarray(pixels)


def _multiscale(name: str, factors: list[int], mpp: float) -> dict[str, Any]:
    """Describe a pyramid as NGFF 0.4 and 0.5 do."""
    return {
        "name": name,
        "axes": [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space", "unit": "micrometer"},
            {"name": "x", "type": "space", "unit": "micrometer"},
        ],
        "datasets": [
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, mpp * factor, mpp * factor]}
                ],
            }
            for number, factor in enumerate(factors)
        ],
    }


def _stored(pixels: NDArray[Any]) -> NDArray[Any]:
    """Give pixels (Y, X, C) the shape in which TIFFs hold them: grey ones have no third axis."""
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _photometric(mosaic: Mosaic) -> str:
    """Name the colours of a slide."""
    return "rgb" if mosaic.shape[2] == 3 else "minisblack"
