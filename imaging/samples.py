"""Write the real microscope pictures that come with scikit-image, as a folder of images to try.

``python -m imaging.samples -o FOLDER``
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image as PillowImage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """A picture in scikit-image's wheel: nothing is downloaded to read it."""

    name: str  # of the file to write, with its suffix
    function: str  # in skimage.data
    about: str


# Of scikit-image 0.26's pictures, these are taken through a microscope and lie in its wheel; its
# others of that kind (human_mitosis, skin, ...) are fetched on first use.
SAMPLES = (
    Sample("hologram_cell.png", "cell", "one cell in saline, quantitative phase, grey"),
    Sample("ihc_colon.png", "immunohistochemistry", "stained colon gland, brightfield, RGB"),
)


def read_sample(sample: Sample) -> NDArray[np.uint8]:
    """Return the pixels of one sample.

    Parameters
    ----------
    sample : Sample
        One of `SAMPLES`.

    Returns
    -------
    (Y, X) or (Y, X, 3) ndarray of uint8
    """
    return np.asarray(getattr(skimage.data, sample.function)(), dtype=np.uint8)


def write_samples(folder: Path) -> list[Path]:
    """Write every sample into a folder, which is made if need be, over files of these names.

    Parameters
    ----------
    folder : Path
        Where to write.

    Returns
    -------
    list of Path
        The files, in the order of `SAMPLES`.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for sample in SAMPLES:
        path = folder / sample.name
        PillowImage.fromarray(read_sample(sample)).save(path)
        logger.info("%s: %s", path, sample.about)
        paths.append(path)
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 1 if the folder cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m imaging.samples", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write_samples(options.output)
    except OSError as error:
        logger.error("cannot write to %s: %s", options.output, error.strerror or error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
