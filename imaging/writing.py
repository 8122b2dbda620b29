"""Label images under the organisers' names, complete or not there at all."""

import contextlib
import fcntl
import functools
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from imaging.listing import ImageError, find_name_clashes, output_name

__all__ = ["find_name_clashes", "output_name", "replacing", "write_labels"]

ZLIB_LEVEL = 6  # zlib's own default
STRIP_BYTES = 2**18  # size of a strip before compression; tifffile's default
CLASSIC_TIFF_BYTES = 2**32 - 2**25  # beyond, offsets may not fit into 32 bits
STALE_S = 86_400.0  # nobody still writes to a part that was not touched for a day
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux: of the machine since it was started


def write_labels(path: Path, labels: NDArray[np.integer[Any]], n_labels: int) -> None:
    """Write a label image as a zlib-compressed TIFF.

    Parameters
    ----------
    path : Path
        Final name; an existing file is replaced. The folder must exist.
    labels : (Y, X) ndarray or memmap of int
        0 is background; read in strips, so that a memmap stays on disk.
    n_labels : int
        Largest id. Up to 65,535 the file is uint16, beyond it is uint32.

    Raises
    ------
    ValueError
        If labels is not a non-empty 2-D integer array, or holds ids outside 0..n_labels.
    ImageError
        If the file cannot be written. Nothing is left behind then, and an older file of this
        name is untouched.

    Notes
    -----
    The file is written under a hidden name in the same folder and renamed when complete.
    """
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "ui":
        raise ValueError(
            f"wanted non-empty (Y, X) labels of an integer dtype, got {labels.shape} {labels.dtype}"
        )
    dtype = np.dtype(np.uint16 if n_labels <= np.iinfo(np.uint16).max else np.uint32)
    rows = max(1, STRIP_BYTES // (labels.shape[1] * dtype.itemsize))
    with replacing(path) as hidden:
        tifffile.imwrite(
            hidden,
            _encoded_strips(labels, n_labels, dtype, rows),
            shape=labels.shape,
            dtype=dtype,
            rowsperstrip=rows,
            compression="zlib",
            photometric="minisblack",
            metadata=None,
            software=False,
            byteorder="<",
            bigtiff=labels.size * dtype.itemsize > CLASSIC_TIFF_BYTES,
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a hidden name and rename it when complete.

    Parameters
    ----------
    path : Path
        Final name; an existing file is replaced. The folder must exist.

    Yields
    ------
    Path
        Hidden name in the same folder, to be written. It is removed if the block raises.

    Raises
    ------
    ImageError
        For every OSError of the block or of the renaming.

    Notes
    -----
    What a killed process left of the same file is removed. The hidden file is locked while it is
    written, and the system unlocks it with the end of its process; so a part without a lock is
    nobody's. Process numbers would not tell: containers that share a folder have numbers of their
    own, and begin with the same ones. Locks are trusted between processes of one machine, which
    the name tells; parts of other machines, and where there are no locks, must be a day old.
    """
    hidden = path.with_name(f".{path.name}.{_name_machine()}.{os.urandom(4).hex()}.part")
    try:
        with contextlib.suppress(OSError):  # of a folder that is not ours to read or tidy
            _remove_stale_parts(path)
        with hidden.open("wb") as held:
            with contextlib.suppress(BlockingIOError):  # one that looks whether it is stale
                _try_lock(held)
            yield hidden
            hidden.replace(path)
    except OSError as error:
        raise ImageError.about(
            path,
            f"cannot be written ({error.strerror or error})",
            "check the output folder, its permissions and the free space",
        ) from error
    finally:
        hidden.unlink(missing_ok=True)


def _remove_stale_parts(path: Path) -> None:
    """Remove hidden files from which `replacing` did not come to make this one."""
    prefix = f".{path.name}."
    for part in _list_parts(path.parent):
        machine, *more = part.name.removeprefix(prefix).split(".")
        is_ours = part.name.startswith(prefix) and len(more) == 2
        if is_ours and _is_stale(part, machine == _name_machine()):
            part.unlink(missing_ok=True)


@functools.cache
def _list_parts(folder: Path) -> tuple[Path, ...]:
    """List hidden files that were there before; once, as a folder may hold very many others."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return tuple(folder / name for name in names if name[0] == "." and name.endswith(".part"))


def _is_stale(part: Path, is_from_here: bool) -> bool:
    """Tell whether the process that wrote a hidden file is gone."""
    try:
        with part.open("r+b") as held:
            is_free = _try_lock(held)
            status = os.fstat(held.fileno())
    except OSError:  # being written, or gone
        return False
    is_begun = status.st_size > 0  # an empty one may not have its lock yet
    return (is_free and is_from_here and is_begun) or time.time() - status.st_mtime > STALE_S


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file; BlockingIOError if it is locked, False if the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@functools.cache
def _name_machine() -> str:
    """Name this machine since its start; so do all of its containers, which share its locks."""
    try:
        known = BOOT_ID.read_text()
    except OSError:
        known = os.uname().nodename
    return f"{zlib.crc32(known.encode()):08x}"


def _encoded_strips(
    labels: NDArray[np.integer[Any]], n_labels: int, dtype: np.dtype[Any], rows: int
) -> Iterator[bytes]:
    """Compress the strips of a label image one after another."""
    for y0 in range(0, labels.shape[0], rows):
        strip = labels[y0 : y0 + rows]
        low, high = int(strip.min()), int(strip.max())
        if low < 0 or high > n_labels:
            raise ValueError(f"wanted ids in 0..{n_labels}, got {low}..{high}")
        little_endian = strip.astype(dtype.newbyteorder("<"))
        yield zlib.compress(little_endian.tobytes(), ZLIB_LEVEL)
