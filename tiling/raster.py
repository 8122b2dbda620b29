"""The label image of a whole picture, filled block by block."""

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imaging.image import Box
from tiling.blocks import Instances
from tiling.native import Labels, labels_to_native
from tiling.sampling import STRIP_PX, Float32, Geometry

IN_MEMORY_PX = 32_000_000
"""Largest label image held in memory (128 MiB); a larger one lies in a file."""


def new_raster(shape: tuple[int, int], folder: Path, in_memory_px: int = IN_MEMORY_PX) -> Labels:
    """Make an empty label image, in a nameless file on disk if it is large.

    Parameters
    ----------
    shape : (Y, X) tuple of int
        Size in pixels.
    folder : Path
        Where the file may take space: the output folder, as no other need be writable.
    in_memory_px : int
        Largest number of pixels held in memory.

    Returns
    -------
    (Y, X) ndarray of int32
        Zeros. Its file never has a name that lasts: the system frees it with the array, after an
        error or a kill too.

    Raises
    ------
    OSError
        If the folder cannot be written or has not enough space.
    """
    n_pixels = shape[0] * shape[1]
    if n_pixels <= in_memory_px:
        return np.zeros(shape, np.int32)
    with tempfile.TemporaryFile(prefix=".labels-", dir=folder) as file:
        n_bytes = n_pixels * np.dtype(np.int32).itemsize
        if hasattr(os, "posix_fallocate"):  # a full disk must say so now, not crash a later write
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        return np.memmap(file, np.int32, mode="r+", shape=shape)


def release_pages(labels: Labels) -> None:
    """Give back the memory that touched parts of a label image on disk take; they stay on disk.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        From `new_raster`; nothing is done for one in memory.
    """
    mapped = getattr(labels, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class StreamedLabels:
    """A label image of which rows are read when they are asked for and then given back.

    It has what `imaging.writing.write_labels` uses of an array: shape, size, dtype, and slices of
    rows.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        From `new_raster`.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self.shape, self.ndim, self.size = labels.shape, labels.ndim, labels.size
        self.dtype = labels.dtype

    def __getitem__(self, rows: slice) -> Labels:
        part = np.array(self._labels[rows])
        release_pages(self._labels)
        return part


class LabelRaster:
    """Gives instances their final ids and writes them where no other lies.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Native size, zeros; filled in place.
    geometry : Geometry

    Notes
    -----
    Blocks that decode alike never own the same instance twice. Should a decoder see it otherwise
    (an object larger than the widest halo, or maps that differ by rounding), an instance is taken
    for one already written if more than half of it lies there, or if both were cut and touch: it
    then goes on under that id, so that nothing is counted twice.
    """

    def __init__(self, labels: Labels, geometry: Geometry) -> None:
        self._labels = labels
        self._geometry = geometry
        self._n_ids = 0
        self._cut_ids: set[int] = set()

    @property
    def n_ids(self) -> int:
        """Ids given so far; a few may turn out to have no pixel."""
        return self._n_ids

    @property
    def cut_ids(self) -> frozenset[int]:
        """Ids of the instances that were cut."""
        return frozenset(self._cut_ids)

    def add(self, labels: Labels, foreground: Float32, region: Box, owned: Instances) -> None:
        """Write the owned instances of a decoded region.

        Parameters
        ----------
        labels : (Y, X) ndarray of int32
            In network pixels.
        foreground : (Y, X) ndarray of float32
            As `tiling.native.labels_to_native` takes it.
        region : Box
            Where both lie, in network pixels.
        owned : Instances
            Which of them to write.
        """
        if not len(owned.ids):
            return
        final_ids = self._final_ids(labels, region, owned)
        y0, x0, y1, x1 = self._native_box(region, owned.box)
        rows = max(1, STRIP_PX // (x1 - x0))
        for top in range(y0, y1, rows):
            box = (top, x0, min(top + rows, y1), x1)
            native = labels_to_native(labels, foreground, region, self._geometry, box)
            target = self._labels[box[0] : box[2], x0:x1]
            np.copyto(target, final_ids[native], where=target == 0)
        release_pages(self._labels)

    def close_gaps(self) -> int:
        """Renumber ids that no pixel has, and return the number of instances.

        Returns
        -------
        int
            Ids are 1..n afterwards, in the order they were given.
        """
        rows = max(1, STRIP_PX // self._labels.shape[1])
        strips = [self._labels[top : top + rows] for top in range(0, len(self._labels), rows)]
        present = np.zeros(self._n_ids + 1, np.bool_)
        for strip in strips:
            present[strip.ravel()] = True
            release_pages(self._labels)
        present[0] = False
        n_present = int(np.count_nonzero(present))
        if n_present < self._n_ids:
            renumbered = np.where(present, np.cumsum(present), 0).astype(np.int32)
            for strip in strips:
                strip[...] = renumbered[strip]
                release_pages(self._labels)
        return n_present

    def _native_box(self, region: Box, box: Box) -> Box:
        """Return the native pixels that a box of the region's pixels may colour."""
        reach = 1  # a smooth outline lies less than one network pixel outside the labelled ones
        y0, x0, y1, x1 = region
        return self._geometry.native_box(
            (
                max(y0, y0 + box[0] - reach),
                max(x0, x0 + box[1] - reach),
                min(y1, y0 + box[2] + reach),
                min(x1, x0 + box[3] + reach),
            )
        )

    def _final_ids(self, labels: Labels, region: Box, owned: Instances) -> npt.NDArray[np.int32]:
        """Choose the final id of each local id; 0 where the block does not own it."""
        final_ids = np.zeros(int(labels.max()) + 1, np.int32)
        same = self._already_written(labels, region, owned)
        for local_id, is_cut in zip(owned.ids.tolist(), owned.cut.tolist(), strict=True):
            final_id = same.get(local_id, 0)
            if not final_id:
                self._n_ids += 1
                final_id = self._n_ids
            final_ids[local_id] = final_id
            if is_cut:
                self._cut_ids.add(final_id)
        return final_ids

    def _already_written(self, labels: Labels, region: Box, owned: Instances) -> dict[int, int]:
        """Map local ids to the final ids that they continue."""
        if not self._n_ids:
            return {}
        y0, x0, y1, x1 = region
        rows = self._geometry.native_centres(y0, y1, axis=0)
        columns = self._geometry.native_centres(x0, x1, axis=1)
        written = self._labels[np.ix_(rows, columns)]
        is_owned = np.zeros(int(labels.max()) + 1, np.bool_)
        is_owned[owned.ids] = True
        overlap = (written > 0) & is_owned[labels]
        if not overlap.any():
            return {}
        pairs, counts = np.unique(
            np.stack([labels[overlap], written[overlap]]), axis=1, return_counts=True
        )
        areas = np.bincount(labels.ravel())
        cut = set(owned.ids[owned.cut].tolist())
        same = {}
        for index in np.argsort(counts, kind="stable"):  # the largest overlap is set last
            local_id, final_id = int(pairs[0, index]), int(pairs[1, index])
            both_cut = local_id in cut and final_id in self._cut_ids
            if both_cut or 2 * counts[index] > areas[local_id]:
                same[local_id] = final_id
        return same
