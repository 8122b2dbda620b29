"""Open any supported image file."""

from collections.abc import Callable
from pathlib import Path

from imaging.image import Box, Image, SourceImage
from imaging.levels import Level, LevelChoice, open_levels
from imaging.listing import SUFFIXES, ImageError, ImageList, is_ome_zarr, list_images
from imaging.ome_zarr import open_ome_zarr
from imaging.raster import (
    BMP_SIGNATURE,
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    measure_raster,
    open_bmp,
    open_jpeg,
    open_png,
)
from imaging.tiff import open_tiff

__all__ = [
    "SUFFIXES",
    "Box",
    "Image",
    "ImageError",
    "ImageList",
    "list_images",
    "measure_image",
    "open_image",
]

# First bytes of a file -> its reader. Files are told apart by content: names lie.
_READERS: tuple[tuple[bytes, Callable[[Path, LevelChoice], SourceImage]], ...] = (
    (PNG_SIGNATURE, lambda path, choice: _one_level(open_png(path), choice)),
    (JPEG_SIGNATURE, lambda path, choice: _one_level(open_jpeg(path), choice)),
    (BMP_SIGNATURE, lambda path, choice: _one_level(open_bmp(path), choice)),
    (b"II*\0", open_tiff),
    (b"MM\0*", open_tiff),
    (b"II+\0", open_tiff),  # BigTIFF
    (b"MM\0+", open_tiff),
)


def open_image(path: Path, level: int | None = None, mpp: float | None = None) -> Image:
    """Open an image file of any supported kind.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP or TIFF (slides among them), told apart by content, or an OME-Zarr folder.
        Of a file with several pages, depths or times the first plane is read, with a warning in
        the log.
    level : int, optional
        Pyramid level to open, 0 (the default) for the full resolution.
    mpp : float, optional
        Open the coarsest level with at most so many micrometres a pixel instead; the full
        resolution, with a warning, if even that is coarser.

    Returns
    -------
    Image
        One or three channels: two become ``(c0, c1, 0)``, of more the first three are kept,
        alpha is dropped, palettes become RGB, EXIF orientation is ignored. Regions of tiled,
        striped and uncompressed TIFFs and of OME-Zarr are decoded on demand, so that memory does
        not depend on the size of the slide. Its shape and ``mpp`` are those of the opened level;
        coarser levels serve overviews. Regions may be read from several threads. Close it after
        use; it is a context manager.

    Raises
    ------
    ImageError
        If the file is missing, empty, truncated, damaged or of an unsupported kind, has no such
        level, or does not tell its pixel size where ``mpp`` asks for it. Reading a region raises
        it too, if the data are damaged or the file changed since it was opened.
    ValueError
        If both level and mpp are given, or one is out of range.
    """
    choice = LevelChoice(level, mpp)
    if is_ome_zarr(path):
        return open_ome_zarr(path, choice)
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
        if not head:
            raise ImageError.about(path, "the file is empty", "copy or export it again")
        for signature, reader in _READERS:
            if head.startswith(signature):
                return reader(path, choice)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError.about(
            path, f"cannot be opened ({reason})", "check the file and its permissions"
        ) from None
    raise ImageError.about(
        path, "is not a PNG, JPEG, BMP or TIFF image", "convert it to one of these"
    )


def measure_image(
    path: Path, level: int | None = None, mpp: float | None = None
) -> tuple[int, int]:
    """Tell the height and width of an image without decoding its pixels.

    Parameters
    ----------
    path, level, mpp
        As :func:`open_image` takes them.

    Returns
    -------
    (int, int)
        In pixels.

    Raises
    ------
    ImageError
        If the header cannot be read.
    OSError
        If the file cannot.
    """
    size = None if is_ome_zarr(path) else measure_raster(path)
    if size is None:
        with open_image(path, level, mpp) as image:
            size = image.shape[:2]
    return size


def _one_level(image: SourceImage, choice: LevelChoice) -> SourceImage:
    """Refuse a resolution that an image without a pyramid does not have."""
    open_levels(image.path, [Level(image.shape[:2], image)], choice)
    return image
