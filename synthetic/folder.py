"""A folder of synthetic images in the encodings of real ones, and a folder of their labels."""

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as PillowImage

from imaging.writing import output_name, replacing, write_labels
from synthetic.generator import KINDS, SyntheticImage, make_image

JPEG_QUALITY = 91  # high enough that the labels stay exact to the eye


@dataclass(frozen=True)
class Encoding:
    """How an image is stored: file name suffix, and bits a channel."""

    suffix: str
    bits: int


# Each kind goes through its encodings, image by image; the first ones together cover all formats.
ENCODINGS: dict[str, tuple[Encoding, ...]] = {
    "fluorescence": (Encoding(".tif", 16), Encoding(".png", 8), Encoding(".bmp", 8)),
    "fluorescence_rgb": (Encoding(".png", 8), Encoding(".tif", 16)),
    "phase": (Encoding(".png", 8), Encoding(".tif", 8), Encoding(".png", 16)),
    "dic": (Encoding(".png", 16), Encoding(".bmp", 8), Encoding(".tif", 16)),
    "brightfield": (Encoding(".jpg", 8), Encoding(".tif", 8), Encoding(".bmp", 8)),
    "brightfield_small": (Encoding(".bmp", 8), Encoding(".png", 8), Encoding(".jpg", 8)),
}


@dataclass(frozen=True)
class WrittenImage:
    """One image on disk, its label image, and its modality."""

    image: Path
    labels: Path
    modality: str


def write_folder(
    folder: Path, n_per_kind: int = 1, seed: int = 0, shape: tuple[int, int] = (512, 512)
) -> list[WrittenImage]:
    """Write synthetic images of every kind, and their labels.

    Parameters
    ----------
    folder : Path
        Gets the sub-folders ``images`` and ``labels``; made if missing, files of the same
        names are replaced.
    n_per_kind : int
        Images of each kind in :data:`synthetic.generator.KINDS`, at least 0.
    seed : int
        The first image's; the others count up.
    shape : (int, int)
        Rows and columns.

    Returns
    -------
    list of WrittenImage
        ``images/KIND_NN.SUFFIX`` and ``labels/KIND_NN_label.tiff``.

    Raises
    ------
    ImageError
        If a file cannot be written.
    OSError
        If a folder cannot be made.
    """
    images, labels = folder / "images", folder / "labels"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    written: list[WrittenImage] = []
    for kind in KINDS:
        for n in range(n_per_kind):
            encoding = ENCODINGS[kind][n % len(ENCODINGS[kind])]
            dtype = np.uint8 if encoding.bits == 8 else np.uint16
            made = make_image(kind, shape, seed=seed + n, dtype=dtype)
            path = images / f"{kind}_{n:02d}{encoding.suffix}"
            write_image(path, made)
            label_path = labels / output_name(path)
            write_labels(label_path, made.labels, int(made.labels.max()))
            written.append(WrittenImage(path, label_path, made.modality))
    return written


def write_image(path: Path, made: SyntheticImage) -> None:
    """Write one image in the format its name asks for.

    Parameters
    ----------
    path : Path
        ``.png`` (8 or 16 bits), ``.tif`` (tiled, zlib), ``.jpg`` or ``.bmp`` (8 bits).
    made : SyntheticImage
        Its pixels are stored as they are; one channel becomes a grey image.

    Raises
    ------
    ValueError
        If the format does not exist, or cannot hold 16 bits.
    ImageError
        If the file cannot be written.
    """
    pixels = made.image[:, :, 0] if made.image.shape[2] == 1 else made.image
    suffix = path.suffix.lower()
    if suffix not in (".png", ".tif", ".jpg", ".bmp"):
        raise ValueError(f"wanted .png, .tif, .jpg or .bmp, got {path.name}")
    if suffix in (".jpg", ".bmp") and pixels.dtype != np.uint8:
        raise ValueError(f"{suffix} holds 8 bits, got {pixels.dtype}")
    with replacing(path) as hidden:
        if suffix == ".png":
            hidden.write_bytes(imagecodecs.png_encode(pixels))
        elif suffix == ".tif":
            colours = "minisblack" if pixels.ndim == 2 else "rgb"
            tifffile.imwrite(
                hidden, pixels, photometric=colours, tile=(256, 256), compression="zlib"
            )
        elif suffix == ".jpg":
            PillowImage.fromarray(pixels).save(hidden, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        else:
            PillowImage.fromarray(pixels).save(hidden, "BMP")
