"""Write synthetic images of every kind: ``python -m synthetic -o FOLDER``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from imaging.image import ImageError
from synthetic.folder import write_folder

logger = logging.getLogger("synthetic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        Exit code: 0, or 1 if the folder cannot be written. Wrong usage exits with 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m synthetic",
        description="Write synthetic microscope images of every kind, with exact labels.",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="gets the folders images/ and labels/"
    )
    parser.add_argument(
        "--n", type=_count, default=1, help="images of each kind (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=_count, default=0, help="of the first image (default: %(default)s)"
    )
    parser.add_argument(
        "--shape", type=_side, nargs=2, default=(512, 512), metavar=("ROWS", "COLUMNS")
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        written = write_folder(options.output, options.n, options.seed, tuple(options.shape))
    except (ImageError, OSError) as error:
        logger.error("%s", error)
        return 1
    logger.info("%d images and their labels in %s", len(written), options.output)
    return 0


def _count(text: str) -> int:
    """Parse a number of 0 or more."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"wanted 0 or more, got {text}")
    return int(text)


def _side(text: str) -> int:
    """Parse a side of an image in pixels."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted 1 or more, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
