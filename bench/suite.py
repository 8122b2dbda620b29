"""The benchmarks by name, and how one is run so that its failure does not stop the others."""

import importlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.rows import Failure, Row

logger = logging.getLogger(__name__)

MAX_ERROR = 500  # letters of an error in the table
N_IMAGES = 100  # of a folder: enough that the start counts little


@dataclass(frozen=True)
class Plan:
    """What the benchmarks are to do.

    Attributes
    ----------
    folder : Path
        For their files; empty, and removed afterwards.
    cache : Path
        For what stays from one run to the next: the peer's environment.
    n_repeats : int
        Of each measurement, after one that warms up.
    n_images : int
        Of the folder that is labelled in one call.
    kinds : tuple of str
        Of the folder's and the large image and the slides, from :data:`synthetic.KINDS`.
    is_quick : bool
        Small work: shows that everything runs, not how fast.
    torch_index_url : str
        Where the peer's PyTorch comes from; empty for pip's default.
    device : str
        That the networks compute on, from :func:`bench.device.prepare_device`.
    """

    folder: Path
    cache: Path
    n_repeats: int = 3
    n_images: int = N_IMAGES
    kinds: tuple[str, ...] = ("phase",)
    is_quick: bool = False
    torch_index_url: str = ""
    device: str = "cpu"


Measure = Callable[[Plan], Iterator[Row]]


@dataclass(frozen=True)
class Bench:
    """One benchmark.

    Attributes
    ----------
    title : str
        One line on what it measures.
    measure : callable
        Does it, and gives its rows as it goes.
    needs_peer : bool
        Whether it installs stock Cellpose.
    is_long : bool
        Whether it takes many minutes on a CPU, and runs there only where it is named.
    """

    title: str
    measure: Measure
    needs_peer: bool = False
    is_long: bool = False

    @property
    def line(self) -> str:
        """The title, and when it is left out."""
        return f"{self.title}; on a CPU only if named by --only" if self.is_long else self.title


@dataclass(frozen=True)
class Outcome:
    """What one benchmark gave.

    Attributes
    ----------
    rows : tuple of Row
        Those given before it failed, if it did.
    failure : Failure or None
    seconds : float
        From its start to its end.
    """

    rows: tuple[Row, ...]
    failure: Failure | None
    seconds: float


def run_bench(name: str, bench: Bench, plan: Plan) -> Outcome:
    """Run one benchmark in a folder of its own.

    Parameters
    ----------
    name : str
        Of the benchmark; its rows get it.
    bench : Bench
    plan : Plan
        Its folder gets one for this benchmark.

    Returns
    -------
    Outcome
        Whatever goes wrong is in its failure; nothing is raised but an interruption.
    """
    folder = plan.folder / name
    began = time.perf_counter()
    rows: list[Row] = []
    failure = None
    try:
        folder.mkdir(parents=True)
        for row in bench.measure(replace(plan, folder=folder)):
            rows.append(replace(row, bench=name))  # noqa: PERF401 - they stay if the next one fails
    except Exception as error:  # whatever it is, the other benchmarks go on
        logger.debug("%s failed", name, exc_info=True)
        failure = Failure(name, f"{type(error).__name__}: {error}"[:MAX_ERROR])
    return Outcome(tuple(rows), failure, time.perf_counter() - began)


def lazily(where: str) -> Measure:
    """Give a benchmark that is imported when it is run.

    Parameters
    ----------
    where : str
        Written ``module:function``.

    Returns
    -------
    callable
    """

    def measure(plan: Plan) -> Iterator[Row]:
        module, _, function = where.partition(":")
        yield from getattr(importlib.import_module(module), function)(plan)

    return measure


BENCHES: Mapping[str, Bench] = {
    "cold_start": Bench(
        "predict.py on one image of 512 x 512: seconds, memory, and its stages",
        lazily("bench.programs:measure_cold_start"),
    ),
    "starts": Bench(
        "--help, an empty folder, a usage error, and bare imports",
        lazily("bench.programs:measure_starts"),
    ),
    "peer": Bench(
        "predict.py and stock Cellpose in turn, same weights and image",
        lazily("bench.programs:measure_peer"),
        needs_peer=True,
    ),
    "network": Bench(
        "forward passes of each expert's network, nothing else",
        lazily("bench.computing:measure_networks"),
    ),
    "folder": Bench(
        "a folder of small images in one call, cell size estimated and known; the bare network",
        lazily("bench.folder:measure_folder"),
    ),
    "whole": Bench(
        "one image of 2048 x 2048 in a fresh process",
        lazily("bench.programs:measure_whole"),
    ),
    "large": Bench(
        "one image of 3000 x 3000 in a fresh process",
        lazily("bench.programs:measure_large"),
        is_long=True,
    ),
    "slide": Bench(
        "a slide of 2048 x 3072 in a fresh process, against the bare network",
        lazily("bench.slide:measure_slides"),
    ),
    "full_slide": Bench(
        "a slide of 8415 x 10496 in a fresh process, against the bare network",
        lazily("bench.slide:measure_full_slides"),
        is_long=True,
    ),
    "slide_peer": Bench(
        "predict.py and stock Cellpose in turn on that slide, same weights and diameter",
        lazily("bench.slide:measure_peer"),
        needs_peer=True,
    ),
    "decoding": Bench(
        "maps of 2048 x 2048 with 5,000 cells to instances, against references",
        lazily("bench.computing:measure_decoding"),
    ),
    "f1": Bench(
        "matching of true and predicted cells, against a dense matrix",
        lazily("bench.computing:measure_f1"),
    ),
}
