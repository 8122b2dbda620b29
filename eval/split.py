"""Predict a split of a data folder and score it: ``python -m eval.split --data DIR -o OUT``.

Each data set's images go through ``predict.py`` on their own, as a user's folder would, into
``OUT/MODALITY/DATASET``. Options behind ``--`` are handed to ``predict.py``.
"""

import argparse
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.f1 import add_score_arguments, check_outputs, report
from eval.pairs import PairError, pair_records
from training.data import DataError, Record, list_records

logger = logging.getLogger(__name__)

PREDICT = Path(__file__).resolve().parent.parent / "predict.py"


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m eval.split", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", default="test")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    add_score_arguments(parser)
    parser.add_argument(
        "predict_options", nargs="*", metavar="-- OPTION", help="handed to predict.py"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Predict and score; 1 when an image had a problem, 2 when the arguments do not fit."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        records = [r for r in list_records(args.data) if r.split == args.split and r.label]
        if not records:
            raise PairError(f"{args.data}: no labelled images in split {args.split!r}")
        check_outputs(args)
        n_failed = predict_folders(records, args.out, args.predict_options)
        code = report(pair_records(records, args.out), args, args.out)
    except (DataError, PairError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    return 1 if n_failed else code


def predict_folders(records: Sequence[Record], out_dir: Path, options: Sequence[str]) -> int:
    """Run ``predict.py`` on every folder of images that the records name.

    Parameters
    ----------
    records : sequence of Record
        Images to predict; all images beside them are predicted too.
    out_dir : Path
        Receives ``MODALITY/DATASET/NAME_label.tiff``; made when missing.
    options : sequence of str
        Further arguments of ``predict.py``.

    Returns
    -------
    int
        Number of folders with a failure; ``predict.py`` has reported them.

    Raises
    ------
    OSError
        If the folder cannot be made or the interpreter not be started.
    """
    folders = {(r.image.parent, out_dir / r.modality / r.dataset) for r in records}
    n_failed = 0
    for images, labels in sorted(folders):
        labels.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(PREDICT), "-i", str(images), "-o", str(labels), *options]
        code = subprocess.run(command, check=False).returncode
        if code:
            logger.warning("%s: predict.py ended with exit code %d", images, code)
            n_failed += 1
    return n_failed


if __name__ == "__main__":
    sys.exit(main())
