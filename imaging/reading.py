"""Open any supported image file, and list the images of a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imaging.image import Box, Image, ImageError, SourceImage
from imaging.raster import open_bmp, open_jpeg, open_png
from imaging.tiff import open_tiff

__all__ = ["SUFFIXES", "Box", "Image", "ImageError", "ImageList", "list_images", "open_image"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

# First bytes of a file -> its reader. Files are told apart by content: names lie.
_READERS: tuple[tuple[bytes, Callable[[Path], SourceImage]], ...] = (
    (b"\x89PNG\r\n\x1a\n", open_png),
    (b"\xff\xd8\xff", open_jpeg),
    (b"BM", open_bmp),
    (b"II*\0", open_tiff),
    (b"MM\0*", open_tiff),
    (b"II+\0", open_tiff),  # BigTIFF
    (b"MM\0+", open_tiff),
)


@dataclass(frozen=True)
class ImageList:
    """The files of a folder, each tuple sorted by name.

    Attributes
    ----------
    images : tuple of Path
        Files with one of the :data:`SUFFIXES`, in any case.
    unsupported : tuple of Path
        All other files, to be reported.
    """

    images: tuple[Path, ...]
    unsupported: tuple[Path, ...]


def list_images(folder: Path) -> ImageList:
    """List the image files of a folder.

    Parameters
    ----------
    folder : Path
        Sub-folders are not entered; hidden files (``.name``) are ignored.

    Returns
    -------
    ImageList
        Both tuples are empty for an empty folder.

    Raises
    ------
    ImageError
        If the folder does not exist, is a file, or cannot be listed.
    """
    if not folder.is_dir():
        reason = "is a file, not a folder" if folder.exists() else "no such folder"
        raise ImageError.about(folder, reason, "give a folder of images")
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ImageError.about(
            folder, f"cannot be listed ({error.strerror})", "check its permissions"
        ) from None
    visible = [path for path in entries if not path.name.startswith(".") and not path.is_dir()]
    images = [path for path in visible if _looks_like_image(path)]
    return ImageList(tuple(images), tuple(path for path in visible if path not in set(images)))


def open_image(path: Path) -> Image:
    """Open an image file of any supported kind.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP or TIFF, told apart by content. Of a file with several pages, depths or
        times the first plane is read, with a warning in the log.

    Returns
    -------
    Image
        One or three channels: two become ``(c0, c1, 0)``, of more the first three are kept,
        alpha is dropped, palettes become RGB, EXIF orientation is ignored. Regions of tiled,
        striped and uncompressed TIFFs are decoded on demand, so that memory does not depend on
        the size of the slide. Close it after use; it is a context manager.

    Raises
    ------
    ImageError
        If the file is missing, empty, truncated, damaged or of an unsupported kind.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
        if not head:
            raise ImageError.about(path, "the file is empty", "copy or export it again")
        for signature, reader in _READERS:
            if head.startswith(signature):
                return reader(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError.about(
            path, f"cannot be opened ({reason})", "check the file and its permissions"
        ) from None
    raise ImageError.about(
        path, "is not a PNG, JPEG, BMP or TIFF image", "convert it to one of these"
    )


def _looks_like_image(path: Path) -> bool:
    """Tell by name; a pipe or device is none, a dangling link fails later with its own error."""
    return path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink())
