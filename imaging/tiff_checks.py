"""Does a TIFF hold what its headers claim: checks before memory is asked for."""

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from imaging.encoded_sizes import read_encoded_size
from imaging.image import ImageError
from imaging.watched import WatchedFile

DAMAGED = "the file is damaged or incomplete: copy or export it again"
MAX_CHAIN = 1000  # directories that are walked; slides have some dozens, stacks may have more

# Largest number of bytes that one stored byte can stand for; codecs not named have no such bound
_MAX_EXPANSION = {
    1: 1,  # none
    5: 4096,  # LZW: a code of at least 9 bits names at most 4096 bytes
    8: 1033,  # Deflate: 258 bytes in two bits, RFC 1951
    32773: 64,  # PackBits: 128 bytes in two
    32946: 1033,
}
_SLACK_BYTES = 64  # headers of a stream

_MAX_SIDE_RATIO = 2  # a segment's own header may claim so many times its share of the image
_USUAL_SAMPLES = 4  # and as many samples a pixel as RGB with alpha has, whatever the page says


class TruncatedError(ImageError):
    """A file that ends before the data its headers speak of."""


def check_chain(path: Path, file: WatchedFile, tif: tifffile.TiffFile) -> None:
    """Walk the directories of a TIFF and refuse a file that ends before one of them.

    Parameters
    ----------
    path : Path
        The file, for messages.
    file : WatchedFile
        Its bytes.
    tif : tifffile.TiffFile
        The same file; its first page tells where pyramid levels lie.

    Raises
    ------
    TruncatedError
        If a directory lies beyond the end. tifffile alone leaves such pages out.
    """
    form = tif.tiff
    first = tif.pages.first
    offsets = list(first.subifds or ())
    seen: set[int] = set()
    offset = int(first.offset)
    while offset and offset not in seen and len(seen) < MAX_CHAIN:
        seen.add(offset)
        try:
            n_tags = struct.unpack(form.tagnoformat, file.read(offset, form.tagnosize))[0]
            after = offset + form.tagnosize + n_tags * form.tagsize
            if after > file.size:
                raise ValueError("the tags of a page lie beyond the end")
            last = min(form.offsetsize, file.size - after)  # some writers leave out the last zero
            tail = file.read(after, last).ljust(form.offsetsize, b"\0")
            offset = struct.unpack(form.offsetformat, tail)[0]
        except ValueError as error:
            raise TruncatedError.about(path, f"is truncated ({error})", DAMAGED) from None
    if any(other >= file.size for other in offsets):
        raise TruncatedError.about(path, "is truncated (a level lies beyond its end)", DAMAGED)


def check_segments(
    path: Path, pages: Sequence[Any], n_expected: int, segment_bytes: int, sizes: Sequence[int]
) -> None:
    """Compare what the pages of an image claim with the bytes that they have.

    Parameters
    ----------
    path : Path
        The file, for messages.
    pages : sequence of tifffile.TiffPage or TiffFrame
        One kind: the first page's compression counts for all.
    n_expected : int
        Tiles or strips that each page should have.
    segment_bytes : int
        Size of a decoded segment, as packed as the file has it.
    sizes : sequence of int
        Bytes of the file that each page lies in.

    Raises
    ------
    ImageError
        If there are no data, segments are missing or so few bytes that they cannot hold the
        pixels claimed; TruncatedError if they reach beyond the end of the file.
    """
    expansion = _MAX_EXPANSION.get(int(pages[0].keyframe.compression))
    n_bytes = 0
    for page, size in zip(pages, sizes, strict=True):
        n_segments = min(len(page.dataoffsets), len(page.databytecounts))
        if 0 < n_segments < n_expected:
            yx = f"{page.keyframe.imagelength} x {page.keyframe.imagewidth}"
            raise ImageError.about(
                path, f"claims {yx} px but holds {n_segments} of {n_expected} segments", DAMAGED
            )
        offsets = np.asarray(page.dataoffsets[:n_segments], np.uint64)
        counts = np.asarray(page.databytecounts[:n_segments], np.uint64)
        end = int((offsets + counts).max(initial=0))
        if end > size:
            raise TruncatedError.about(
                path, f"is truncated ({size} bytes of at least {end})", DAMAGED
            )
        counts = counts[(counts > 0) & (offsets > 0)]
        n_bytes += int(counts.sum())
        n_whole = len(counts) - 1  # the last strip may be low
        possible = (expansion or math.inf) * (int(counts[:-1].sum()) + _SLACK_BYTES * n_whole)
        if n_whole > 0 and n_whole * segment_bytes > possible:
            raise ImageError.about(path, "claims more pixels than its data can hold", DAMAGED)
    if n_bytes == 0:
        raise ImageError.about(path, "holds no image data", DAMAGED)


def check_segment_header(
    data: bytes, compression: int, height: int, width: int, n_samples: int
) -> None:
    """Refuse an encoded segment whose own header asks for far more than its share of the image.

    Parameters
    ----------
    data : bytes
        The segment; for JPEG with shared headers, the header.
    compression : int
        TIFF's code of the codec. Codecs without a size of their own are bounded by the decoder.
    height, width, n_samples : int
        Size of a segment by the page.

    Raises
    ------
    ValueError
        If the header claims more than twice these sides, or more samples than these and than
        RGB with alpha has; or if there is none, with a codec whose decoder would not mind.
    """
    claimed = read_encoded_size(data, compression)
    if claimed is None:
        return
    if claimed.height > _MAX_SIDE_RATIO * height or claimed.width > _MAX_SIDE_RATIO * width:
        raise ValueError(
            f"a segment of {height} x {width} px claims to be {claimed.height} x {claimed.width} px"
        )
    if claimed.n_samples > max(n_samples, _USUAL_SAMPLES):
        raise ValueError(
            f"a segment of {n_samples} samples a pixel claims to have {claimed.n_samples}"
        )
