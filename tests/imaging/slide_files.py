"""Small slides for tests: mosaics of random tiles, and scanners' files that tifffile cannot write.

The layouts of the latter follow what tifffile's reader expects of real files; they are no more than
that, and prove the way through this project's own reader.
"""

import io
import struct

import numpy as np
import tifffile
from PIL import Image as PillowImage

from imaging.reading import open_image
from synthetic.mosaic import Mosaic, Tile

TILE_PX = 64


def random_mosaic(shape=(150, 210), n_channels=3, dtype=np.uint8, tissue=0.8, seed=0):
    """Make a slide of three random tiles with random labels."""
    rng = np.random.default_rng(seed)
    tiles = [
        Tile(
            rng.integers(0, np.iinfo(dtype).max, (TILE_PX, TILE_PX, n_channels), dtype),
            np.kron(rng.integers(0, 9, (8, 8)), np.ones((8, 8), int)),
        )
        for _ in range(3)
    ]
    return Mosaic(tiles, shape, tissue, seed=seed)


def smooth_pixels(shape, seed=0):
    """Draw an RGB image that JPEG hardly changes: (Y, X, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape) / max(shape)
    waves = [np.sin(2 * np.pi * (y * a + x * b)) for a, b in rng.uniform(0.5, 3, (3, 2))]
    return np.rint(128 + 100 * np.stack(waves, axis=2)).astype(np.uint8)


def assert_reads_region_by_region(path, read_expected, shape, n_boxes=12, tolerance=0, **choice):
    """Compare an open image with its oracle, whole and in random boxes."""
    rng = np.random.default_rng(1)
    height, width, _ = shape
    boxes = [(0, 0, height, width), (0, 0, 1, 1), (height - 1, width - 1, height, width)]
    for _ in range(n_boxes):
        (y0, y1), (x0, x1) = (
            sorted(rng.choice(side + 1, 2, replace=False).tolist()) for side in shape[:2]
        )
        boxes.append((y0, x0, y1, x1))
    with open_image(path, **choice) as image:
        assert image.shape == tuple(shape)
        for box in boxes:
            region = image.read(box)
            expected = read_expected(box)
            assert region.dtype == expected.dtype
            np.testing.assert_allclose(
                region.astype(float), expected.astype(float), rtol=0, atol=tolerance
            )


def write_ndpi(path, levels, mpp):
    """Write what Hamamatsu's scanners write: one JPEG with restart markers a level, 64-bit offsets.

    Returns the pixels of each level as a JPEG decoder sees them.
    """
    decoded = []
    with path.open("wb") as stream:
        stream.write(b"II*\0" + struct.pack("<Q", 0))
        link = 4
        for number, pixels in enumerate(levels):
            height, width = pixels.shape[:2]
            jpeg = io.BytesIO()
            PillowImage.fromarray(pixels).save(
                jpeg, "JPEG", quality=95, subsampling=0, restart_marker_blocks=width // 16
            )
            data = jpeg.getvalue()
            decoded.append(np.asarray(PillowImage.open(jpeg)))
            offset = stream.tell()
            stream.write(data)
            starts = _restart_offsets(data)
            per_cm = (round(1e4 / (mpp * 2**number)), 1)
            link = _write_ndpi_page(stream, link, (height, width), offset, data, starts, per_cm)
    return decoded


def _restart_offsets(data):
    """Find where the parts of a JPEG start that can be decoded alone; the first has the header."""
    start = data.index(b"\xff\xda")
    start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    markers = [
        at + 2
        for at in range(start, len(data) - 1)
        if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7
    ]
    return [start, *markers]


def _write_ndpi_page(stream, link, shape_yx, offset, data, starts, per_cm):
    """Write one directory and link it to the one before; returns where the next is linked."""
    end = stream.tell()
    extra = struct.pack(f"<{len(starts)}I", *starts) + struct.pack("<II", *per_cm)
    make = b"Hamamatsu\0"
    stream.write(extra + make)
    at_starts, at_resolution, at_make = end, end + 4 * len(starts), end + len(extra)
    tags = [
        (254, 4, 1, 0), (256, 4, 1, shape_yx[1]), (257, 4, 1, shape_yx[0]), (258, 3, 1, 8),
        (259, 3, 1, 7), (262, 3, 1, 6), (271, 2, len(make), at_make), (273, 4, 1, offset),
        (277, 3, 1, 3), (278, 4, 1, shape_yx[0]), (279, 4, 1, len(data)),
        (282, 5, 1, at_resolution), (283, 5, 1, at_resolution), (284, 3, 1, 1), (296, 3, 1, 3),
        (530, 3, 2, 0x00010001), (65420, 4, 1, 1), (65426, 4, len(starts), at_starts),
    ]  # fmt: skip
    here = stream.tell()
    stream.write(struct.pack("<H", len(tags)))
    for code, kind, count, value in tags:
        stream.write(struct.pack("<HHII", code, kind, count, value))
    next_link = stream.tell()
    stream.write(struct.pack("<Q", 0) + bytes(4 * len(tags)))
    after = stream.tell()
    stream.seek(link)
    stream.write(struct.pack("<Q", here))
    stream.seek(after)
    return next_link


def write_philips(path, pixels, mpp):
    """Write what Philips's scanners write: levels padded to whole tiles, sizes only in XML."""
    factors = (1, 2, 4)
    spacings = "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">'
        f'"{mpp * factor / 1e3}" "{mpp * factor / 1e3}"</Attribute></DataObject>'
        for factor in factors
    )
    xml = f'<DataObject ObjectType="DPUfsImport"><A>{spacings}</A></DataObject>'
    with tifffile.TiffWriter(path) as writer:
        for factor in factors:
            level = pixels[::factor, ::factor]
            padded = np.pad(level, [(0, -n % 64) for n in level.shape[:2]] + [(0, 0)])
            writer.write(
                level if factor == 1 else padded,
                tile=(64, 64),
                photometric="rgb",
                compression="zlib",
                description=xml if factor == 1 else f"level={factor}",
                software="Philips DP v1.0",
                metadata=None,
            )
