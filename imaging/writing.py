"""Label images under the organisers' names, complete or not there at all."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from imaging.listing import ImageError, find_name_clashes, output_name

__all__ = ["find_name_clashes", "output_name", "replacing", "write_labels"]

ZLIB_LEVEL = 6  # zlib's own default
STRIP_BYTES = 2**18  # size of a strip before compression; tifffile's default
CLASSIC_TIFF_BYTES = 2**32 - 2**25  # beyond, offsets may not fit into 32 bits


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
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
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
