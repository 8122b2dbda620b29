"""Names of images and label images, and the one error of this room; imports nothing heavy.

The command line checks its folders with these before it loads anything that decodes pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff",
    ".svs", ".ndpi", ".scn", ".bif", ".qptiff", ".btf",  # slide scanners' names for TIFF
)  # fmt: skip
ZARR_SUFFIX = ".zarr"  # of a folder that is one image
ZARR_METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")  # of Zarr 3, and of Zarr 2
LABEL_SUFFIX = "_label.tiff"  # the organisers' rule


class ImageError(Exception):
    """A file that cannot be read or written: one line with its name, the reason and the remedy."""

    @classmethod
    def about(cls, path: Path, reason: object, remedy: str) -> "ImageError":
        """Build the one-line message ``NAME: reason; remedy``.

        Parameters
        ----------
        path : Path
            The file; only its name is shown.
        reason : object
            What is wrong; an exception's text is put on one line.
        remedy : str
            What the user can do about it.

        Returns
        -------
        ImageError
            To be raised by the caller.
        """
        said = " ".join(str(reason).split()) or type(reason).__name__
        return cls(f"{path.name}: {said}; {remedy}")


@dataclass(frozen=True)
class ImageList:
    """The files of a folder, each tuple sorted by name.

    Attributes
    ----------
    images : tuple of Path
        Files with one of the :data:`SUFFIXES`, in any case, and OME-Zarr folders.
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
        Sub-folders are not entered, but one that is an OME-Zarr image counts as a file; hidden
        files (``.name``) are ignored. If the folder itself is an OME-Zarr image, it is the one
        image.

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
    if is_ome_zarr(folder):
        return ImageList((folder,), ())
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ImageError.about(
            folder, f"cannot be listed ({error.strerror})", "check its permissions"
        ) from None
    visible = [
        path
        for path in entries
        if not path.name.startswith(".") and (not path.is_dir() or is_ome_zarr(path))
    ]
    images = [path for path in visible if path.is_dir() or _looks_like_image(path)]
    return ImageList(tuple(images), tuple(path for path in visible if path not in set(images)))


def is_ome_zarr(path: Path) -> bool:
    """Tell whether a folder counts as one image.

    Parameters
    ----------
    path : Path
        Anything, there or not.

    Returns
    -------
    bool
        True for a folder with the suffix ``.zarr`` or with Zarr's metadata in it; what it holds is
        seen when it is opened.
    """
    if not path.is_dir():
        return False
    return path.suffix.lower() == ZARR_SUFFIX or any(
        (path / name).is_file() for name in ZARR_METADATA
    )


def output_name(path: Path) -> str:
    """Name the label image of an image.

    Parameters
    ----------
    path : Path
        The image; only its name counts.

    Returns
    -------
    str
        The name up to its FIRST dot, and ``_label.tiff``: the organisers' rule, so that
        ``a.b.png`` becomes ``a_label.tiff``.
    """
    return path.name.split(".")[0] + LABEL_SUFFIX


def find_name_clashes(paths: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Find images whose label images would have one name.

    Parameters
    ----------
    paths : iterable of Path
        Images that are to be written into one folder.

    Returns
    -------
    list of (Path, Path)
        For every path whose name is taken, the one that came first and this one. Names that
        differ in case only clash as well, since some file systems do not tell them apart.
    """
    first: dict[str, Path] = {}
    clashes: list[tuple[Path, Path]] = []
    for path in paths:
        name = output_name(path).lower()
        if name in first:
            clashes.append((first[name], path))
        else:
            first[name] = path
    return clashes


def _looks_like_image(path: Path) -> bool:
    """Tell by name; a pipe or device is none, a dangling link fails later with its own error."""
    return path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink())
