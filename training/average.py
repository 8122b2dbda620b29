"""Average trainings of one expert: ``python -m training.average EXPERT --of FOLDER SHARE ...``.

Networks that went on from the same weights, on other images or crops, mostly lie in one valley: the
average of their weights then keeps what each of them learnt (Wortsman et al., "Model soups", ICML
2022). Whether it does is for validation to say (`eval.experts --weights OUT`). The size model of a
Cellpose expert is taken from one of them; `training.refit` fits one to the average itself.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arguments import read_amount
from manifest import WeightsError, read_manifest, write_entry
from models.registry import EXPERTS
from models.weights import read_weights, write_weights
from training.start import State

logger = logging.getLogger(__name__)

SIZE_MODEL = ("size_centres", "size_weight", "size_bias")


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m training.average", description=__doc__)
    parser.add_argument("expert", choices=EXPERTS, metavar="EXPERT", help=", ".join(EXPERTS))
    parser.add_argument(
        "--of", nargs=2, action="append", required=True, metavar=("FOLDER", "SHARE"),
        help="folder of weights and what its file counts; the first one's training is the "
        "manifest's, the others are named there; give it at least twice",
    )  # fmt: skip
    parser.add_argument(
        "--size-of", type=Path, metavar="FOLDER",
        help="the one of these whose size model is taken; the first by default",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FOLDER", help="where the average goes"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Average weight files; 1 when one cannot be read or they do not match, 2 for wrong usage."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        shares = {Path(folder): read_amount(share) for folder, share in args.of}
    except (argparse.ArgumentTypeError, ValueError) as error:
        parser.error(f"argument --of: share {error}")
    if len(shares) < 2:
        parser.error("argument --of: wants two different folders or more")
    if args.size_of is not None and args.size_of not in shares:
        parser.error("argument --size-of: wants one of the folders of --of")
    try:
        ship_average(args.expert, shares, args.weights, args.size_of)
    except (WeightsError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 1
    return 0


def ship_average(
    expert: str, shares: Mapping[Path, float], weights_dir: Path, size_of: Path | None = None
) -> None:
    """Write the average of an expert's weights, and its manifest entry.

    Parameters
    ----------
    expert : str
    shares : mapping of Path to float
        Folders of weights, and what their files count; they need not sum to 1. The entry is that
        of the first, with ``average_of``: SHA-256 and share of each file.
    weights_dir : Path
        May be one of the folders.
    size_of : Path, optional
        The folder whose size model is taken, by default the first; the entry names its file as
        ``size_of``.

    Raises
    ------
    WeightsError
        If a file is missing or not the one that its manifest names.
    ValueError
        If the files are of different networks or have no size model to take, or a weight is not
        finite.
    OSError
        If the folder cannot be written.
    """
    name, total = f"{expert}.safetensors", sum(shares.values())
    states = [read_weights(name, folder) for folder in shares]
    entries = [read_manifest(folder)[name] for folder in shares]
    parts = [share / total for share in shares.values()]
    average_of = [
        {"sha256": entry["sha256"], "share": round(part, 4)}
        for entry, part in zip(entries, parts, strict=True)
    ]
    told = ("size_ratio_error", "size_ratio_error_unseen", "average_of", "size_of")
    facts = {key: value for key, value in entries[0].items() if key not in told}
    facts["average_of"] = average_of
    average = average_states(states, parts)
    own = list(shares).index(size_of) if size_of else 0
    if size_of or states[own].keys() >= set(SIZE_MODEL):
        average |= take_size_model(states[own])
        facts["size_of"] = entries[own]["sha256"]
    write_weights(weights_dir / name, average)
    write_entry(weights_dir, name, facts)
    logger.info("%s: the average of %d files", weights_dir / name, len(states))


def take_size_model(state: Mapping[str, NDArray[Any]]) -> State:
    """Take the size model of a Cellpose expert; ValueError if the network has none."""
    if not state.keys() >= set(SIZE_MODEL):
        raise ValueError("--size-of: only Cellpose networks have a size model")
    return {key: torch.from_numpy(state[key].astype(np.float32)) for key in SIZE_MODEL}


def average_states(states: Sequence[Mapping[str, NDArray[Any]]], parts: Sequence[float]) -> State:
    """Average tensors of the same names and shapes.

    Parameters
    ----------
    states : sequence of mapping of str to ndarray
        Of one network; integers (counters of batch norms) are taken from the first.
    parts : sequence of float
        What each counts; they sum to 1.

    Returns
    -------
    dict of str to Tensor
        float32, but for the integers.

    Raises
    ------
    ValueError
        If names or shapes differ.
    """
    first = {key: values.shape for key, values in states[0].items()}
    for state in states[1:]:
        if first != {key: values.shape for key, values in state.items()}:
            raise ValueError("the files are of different networks; average those of one expert")
    average: State = {}
    for key, values in states[0].items():
        if np.issubdtype(values.dtype, np.floating):
            terms = (p * s[key].astype(np.float64) for p, s in zip(parts, states, strict=True))
            average[key] = torch.from_numpy(np.asarray(sum(terms), np.float32))
        else:
            average[key] = torch.from_numpy(np.array(values))
    return average


if __name__ == "__main__":
    sys.exit(main())
