"""PNG, JPEG and BMP: decoded whole, since these formats cannot be read in regions."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from imaging.image import ArraySource, ImageError, Pixels, SourceImage, check_decoded_size

_REMEDY = "the file is damaged or incomplete: copy or export it again"
PNG_SIGNATURE, JPEG_SIGNATURE, BMP_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"
_PLUGINS: dict[bytes, type[ImageFile]] = {
    PNG_SIGNATURE: PngImageFile,
    JPEG_SIGNATURE: JpegImageFile,
    BMP_SIGNATURE: BmpImageFile,
}
# What Pillow's plugins raise on damaged files besides OSError
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    MemoryError,
)


def measure_raster(path: Path) -> tuple[int, int] | None:
    """Read the height and width of a PNG, JPEG or BMP from its header; None for other files.

    Raises
    ------
    ImageError
        If the header is damaged.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(len(PNG_SIGNATURE))
        plugin = next((p for mark, p in _PLUGINS.items() if head.startswith(mark)), None)
        if plugin is None:
            return None
        stream.seek(0)
        try:
            with plugin(stream) as opened:
                width, height = opened.size
        except _PILLOW_ERRORS as error:
            reason = f"cannot be decoded ({_first_line(error)})"
            raise ImageError.about(path, reason, _REMEDY) from None
    return height, width


def open_png(path: Path) -> SourceImage:
    """Decode a PNG, 8-bit or 16-bit, grey, colour or palette, with or without alpha.

    Parameters
    ----------
    path : Path
        A file that starts with the PNG signature.

    Returns
    -------
    SourceImage
        uint8, or uint16 if the file has 16 bits; palettes become RGB, alpha is dropped.

    Raises
    ------
    ImageError
        If the file is truncated or damaged.

    Notes
    -----
    libpng through imagecodecs: Pillow reduces 16-bit colour to 8 bits, and OpenCV turns grey
    with alpha into colour.
    """
    data = path.read_bytes()
    if len(data) < 33:  # signature and the first chunk, IHDR
        raise ImageError.about(path, "is truncated", _REMEDY)
    width, height, depth = struct.unpack(">IIB", data[16:25])
    check_decoded_size(path, width * height * 4 * max(1, depth // 8))
    try:
        pixels = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError, MemoryError) as error:
        raise ImageError.about(path, f"cannot be decoded ({_first_line(error)})", _REMEDY) from None
    return SourceImage(path, ArraySource(_without_alpha(pixels)))


def open_jpeg(path: Path) -> SourceImage:
    """Decode a JPEG, grey, colour or CMYK (which becomes RGB); EXIF orientation is ignored.

    Parameters
    ----------
    path : Path
        A file that starts with the JPEG signature.

    Returns
    -------
    SourceImage
        uint8.

    Raises
    ------
    ImageError
        If the file is truncated (libjpeg alone would fill the rest with grey) or damaged.
    """
    return _open_pillow(path, JpegImageFile)


def open_bmp(path: Path) -> SourceImage:
    """Decode a BMP of any depth; palettes become grey or RGB, alpha is dropped.

    Parameters
    ----------
    path : Path
        A file that starts with ``BM``.

    Returns
    -------
    SourceImage
        uint8.

    Raises
    ------
    ImageError
        If the file is truncated or damaged.
    """
    return _open_pillow(path, BmpImageFile)


def _open_pillow(path: Path, plugin: type[ImageFile]) -> SourceImage:
    """Decode with one Pillow plugin, called directly: ``PIL.Image.open`` refuses slides."""
    try:
        with path.open("rb") as stream, plugin(stream) as opened:
            width, height = opened.size
            check_decoded_size(path, width * height * 4)
            opened.load()  # raises on truncated data
            plain = opened if opened.mode in ("1", "L", "RGB") else opened.convert("RGB")
            pixels = np.asarray(plain)
    except _PILLOW_ERRORS as error:
        raise ImageError.about(path, f"cannot be decoded ({_first_line(error)})", _REMEDY) from None
    return SourceImage(path, ArraySource(_without_alpha(pixels)))


def _without_alpha(pixels: Pixels) -> Pixels:
    """Give decoded pixels (Y, X) or (Y, X, K) the shape (Y, X, 1 or 3), alpha dropped."""
    if pixels.ndim == 2:
        return pixels[:, :, None]
    return pixels[:, :, :1] if pixels.shape[2] < 3 else pixels[:, :, :3]


def _first_line(error: Exception) -> str:
    """Cut an error's text to its first line; its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
