"""How large the picture in an encoded segment says it is: its own header, before decoding."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

_JPEG_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_XL_START = b"\xff\x0a"
_JPEG_XL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
_JPEG_XL_HEADER_BYTES = 64  # more than its size and the description of its channels take
_JPEG_XR_START = b"II\xbc"
_LERC_START = b"Lerc2 "


@dataclass(frozen=True)
class EncodedSize:
    """What a picture's own header claims.

    Attributes
    ----------
    height, width : int
        In pixels.
    n_samples : int
        Numbers a pixel, at least; 1 where the codec allows no more than a few.
    """

    height: int
    width: int
    n_samples: int = 1


def read_encoded_size(data: bytes, compression: int) -> EncodedSize | None:
    """Read the size that an encoded segment claims.

    Parameters
    ----------
    data : bytes
        The segment; for JPEG with shared headers, the header.
    compression : int
        TIFF's code of the codec.

    Returns
    -------
    EncodedSize or None
        None for codecs without a size of their own, and for JPEG, JPEG 2000 and WebP without a
        header, which their decoders refuse.

    Raises
    ------
    ValueError
        If a picture by one of the other codecs has no header, or more in it than one picture.
    """
    read = _READERS.get(compression)
    return read(data) if read else None


def _jpeg_size(data: bytes) -> EncodedSize | None:
    """Read a JPEG stream's frame header (ITU-T T.81, B.2.2); None if it has none."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_STARTS_OF_FRAME:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return EncodedSize(height, width)
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _jpeg_2000_size(data: bytes) -> EncodedSize | None:
    """Read a JPEG 2000 code stream, alone or in JP2 boxes (ITU-T T.800, A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51")  # start of code stream, then its SIZ segment
    if at < 0 or at + 42 > len(data):
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
    n_samples = int.from_bytes(data[at + 40 : at + 42], "big")
    return EncodedSize(bottom - top, right - left, n_samples)


def _webp_size(data: bytes) -> EncodedSize | None:
    """Read a WebP file (RFC 9649: lossy, lossless or extended)."""
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8X":
        sides = int.from_bytes(data[27:30], "little"), int.from_bytes(data[24:27], "little")
        return EncodedSize(sides[0] + 1, sides[1] + 1)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return EncodedSize((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    width, height = struct.unpack("<HH", data[26:30])
    return EncodedSize(height & 0x3FFF, width & 0x3FFF)


def _png_size(data: bytes) -> EncodedSize:
    """Read a PNG's first chunk (W3C PNG, 11.2.1)."""
    if not data.startswith(_PNG_START) or data[12:16] != b"IHDR" or len(data) < 24:
        raise ValueError("a segment is no PNG")
    width, height = struct.unpack(">II", data[16:24])
    return EncodedSize(height, width)


def _jpeg_xr_size(data: bytes) -> EncodedSize:
    """Read a JPEG XR's code stream (ITU-T T.832, 8.3), where its container says that it lies."""
    entries = data[int.from_bytes(data[4:8], "little") :]
    n_entries = int.from_bytes(entries[:2], "little")
    starts = [
        int.from_bytes(entry[8:12], "little")
        for entry in (entries[2 + 12 * i : 14 + 12 * i] for i in range(n_entries))
        if entry[:2] == b"\xc0\xbc"  # the tag of the image's offset, annex A
    ]
    stream = data[starts[-1] : starts[-1] + 20] if starts else b""
    if not data.startswith(_JPEG_XR_START) or len(set(starts)) > 1 or len(stream) < 20:
        raise ValueError("a segment is no JPEG XR")
    is_short = bool(stream[10] & 0x80)
    width, height = struct.unpack(">HH" if is_short else ">II", stream[12 : 16 if is_short else 20])
    return EncodedSize(height + 1, width + 1)


def _lerc_size(data: bytes) -> EncodedSize:
    """Read LERC 2 (Esri's ``Lerc2.h``): one part for all samples of a pixel, or one for each."""
    if not data.startswith(_LERC_START) or len(data) < 26:  # what Deflate holds has any length
        raise ValueError("a segment is no LERC 2, or is compressed once more")
    version = int.from_bytes(data[6:10], "little")
    at = 14 if version >= 3 else 10  # behind a checksum
    height, width, n_samples = struct.unpack("<iii", data[at : at + 12])
    n_parts = data.count(_LERC_START)
    return EncodedSize(height, width, n_parts * (n_samples if version >= 4 else 1))


def _jpeg_xl_size(data: bytes) -> EncodedSize:
    """Read a JPEG XL's image header (ISO/IEC 18181-1); ValueError for an animation."""
    stream = _jpeg_xl_stream(data)
    if not stream.startswith(_JPEG_XL_START):
        raise ValueError("a segment is no JPEG XL")
    bits = _Bits(stream[2:])
    height, width = _jpeg_xl_sides(bits)
    if bits.take(1):  # all else is as usual
        return EncodedSize(height, width)
    if bits.take(1):  # further fields
        bits.take(3)  # orientation
        if bits.take(1):
            _jpeg_xl_sides(bits)  # on a screen
        if bits.take(1) or bits.take(1):
            raise ValueError("a segment holds a preview or an animation")
    if bits.take(1):  # floating-point samples
        bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        bits.choose((8, 0), (10, 0), (12, 0), (1, 6))
    bits.take(1)  # 16-bit buffers are enough
    return EncodedSize(height, width, 1 + bits.choose((0, 0), (1, 0), (2, 4), (1, 12)))


def _jpeg_xl_sides(bits: "_Bits") -> tuple[int, int]:
    """Read rows and columns."""
    is_small = bits.take(1)

    def take_side() -> int:
        if is_small:
            return 8 * (1 + bits.take(5))
        return bits.choose((1, 9), (1, 13), (1, 18), (1, 30))

    height = take_side()
    ratio = bits.take(3)
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height, height * over // under if ratio else take_side()


def _jpeg_xl_stream(data: bytes) -> bytes:
    """Collect the beginning of a JPEG XL's code stream from its boxes, if it has any."""
    if not data.startswith(_JPEG_XL_BOXES):
        return data[:_JPEG_XL_HEADER_BYTES]
    stream, at = b"", 0
    while at + 8 <= len(data) and len(stream) < _JPEG_XL_HEADER_BYTES:
        n_bytes, kind = struct.unpack(">I4s", data[at : at + 8])
        head = 16 if n_bytes == 1 else 8
        if n_bytes == 1:
            n_bytes = int.from_bytes(data[at + 8 : at + 16], "big")
        end = at + n_bytes if n_bytes else len(data)
        if end < at + head:
            raise ValueError("a segment has a box without content")
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)  # the number of a part
            stream += data[start : min(end, start + _JPEG_XL_HEADER_BYTES)]
        at = end
    return stream


class _Bits:
    """Numbers of any number of bits, the lowest first; zeros beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, n_bits: int) -> int:
        """Take the next bits."""
        value = self._rest & ((1 << n_bits) - 1)
        self._rest >>= n_bits
        return value

    def choose(self, *kinds: tuple[int, int]) -> int:
        """Take two bits, which tell what comes: an offset, and bits to be added to it."""
        offset, n_bits = kinds[self.take(2)]
        return offset + self.take(n_bits)


_READERS: dict[int, Callable[[bytes], EncodedSize | None]] = {
    **dict.fromkeys((6, 7, 33007, 34892), _jpeg_size),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg_2000_size),
    **dict.fromkeys((34927, 50001), _webp_size),
    **dict.fromkeys((50002, 52546), _jpeg_xl_size),
    **dict.fromkeys((22610, 34934), _jpeg_xr_size),
    34887: _lerc_size,
    34933: _png_size,
}
