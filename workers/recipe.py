"""What travels to a worker so that it can build the job of a run in its own process."""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imaging.normalise import Normaliser
from manifest import MANIFEST_NAME
from options import Options
from stopwatch import Stopwatch
from tiling.ground import Ground
from tiling.plan import BlockPlan
from tiling.sampling import Geometry
from tiling.settings import TilingSettings

if TYPE_CHECKING:
    from pipeline import Job
    from tiling.maps import TileNetwork

Stamp = tuple[int, int] | None
"""Bytes and time of a file; None if there is none, or it is a folder."""


@dataclass(frozen=True)
class Recipe:
    """How a worker builds the job of a run.

    Attributes
    ----------
    builder : str
        ``module:function`` of the function that builds it from options and a watch.
    options : Options
        The command line; its paths are absolute, and mean the same file on every worker.
    rooms : tuple of str
        Modules and packages whose log messages are sent back.
    """

    builder: str
    options: Options
    rooms: tuple[str, ...]

    def build_job(self, watch: Stopwatch) -> "Job":
        """Build the job anew."""
        module, _, function = self.builder.partition(":")
        job: Job = getattr(importlib.import_module(module), function)(self.options, watch)
        return job

    def get_job(self) -> "Job":
        """Give the job of this process; the same again as long as the weights are the same."""
        return _build_job(self, read_stamp(self.options.weights / MANIFEST_NAME))


@dataclass(frozen=True)
class Expert:
    """What the process that settles a slide knows of a network that it does not have.

    Attributes
    ----------
    name : str
    identity : str
        Weights, runtime and device: workers that differ in it must not share a slide.
    tile_px, side_multiple, halo_px, object_px, n_maps, normalisation
        As in `tiling.maps.TileNetwork`.
    """

    name: str
    identity: str
    tile_px: int
    side_multiple: int
    halo_px: int
    object_px: int
    n_maps: int
    normalisation: Any

    @classmethod
    def describe(cls, name: str, identity: str, network: "TileNetwork") -> "Expert":
        """Note what tiling needs to know of a network."""
        window = network.tile_px, network.side_multiple, network.halo_px, network.object_px
        return cls(name, identity, *window, network.n_maps, network.normalisation)


@dataclass(frozen=True, eq=False)
class Slide:
    """What a worker needs, besides the file and the network, to run blocks of a slide.

    Attributes
    ----------
    path : Path
    stamp : Stamp
        Of the file when the slide was begun.
    expert : Expert
    normaliser, geometry, plan, settings, ground
        As the job of the process that settles the slide has them (`tiling.block_job.SlideJob`).
    """

    path: Path
    stamp: Stamp
    expert: Expert
    normaliser: Normaliser
    geometry: Geometry
    plan: BlockPlan
    settings: TilingSettings
    ground: Ground | None


def build_recipe(
    build_job: "Callable[[Options, Stopwatch], Job]", options: Options, rooms: tuple[str, ...]
) -> Recipe:
    """Write down what workers need.

    Parameters
    ----------
    build_job : callable
        A module's own function that workers can import.
    options : Options
        The command line of this process.
    rooms : tuple of str
        Modules and packages whose log messages are sent back.

    Returns
    -------
    Recipe
    """
    overlays = options.overlays
    absolute = replace(
        options,
        input_path=options.input_path.resolve(),
        output_path=options.output_path.resolve(),
        weights=options.weights.resolve(),
        overlays=None if overlays is None else overlays.resolve(),
    )
    return Recipe(name_function(build_job), absolute, rooms)


def without_devices(options: Options) -> Options:
    """Change a command line for the process that settles slides: it computes no network itself."""
    return replace(options, device="cpu", runtime="auto", max_gpu_memory=None)


def name_function(function: Callable[..., Any]) -> str:
    """Give the ``module:function`` by which another process finds a function.

    Parameters
    ----------
    function : callable
        Of a module's top level. One of the program that was started is found under the name of
        its file, since every process calls its own program ``__main__``.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it has no such name.
    """
    module, name = function.__module__, function.__qualname__
    if not name.isidentifier():
        raise ValueError(f"only a module's own functions can be named, got {name}")
    if module == "__main__":
        module = Path(function.__code__.co_filename).stem
    return f"{module}:{name}"


def read_stamp(path: Path) -> Stamp:
    """Tell versions of a file apart on whatever machine they are looked at."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=1)
def _build_job(recipe: Recipe, weights: Stamp) -> "Job":
    """Build a job; of the run at hand only, since workers outlive runs."""
    return recipe.build_job(_watch(weights))


@functools.lru_cache(maxsize=1)
def _watch(weights: Stamp) -> Stopwatch:
    """Make the watch of this process.

    Networks are loaded once for each watch: the same one lets later runs find them in memory, a
    new one when the weights have changed lets them be read again.
    """
    del weights
    return Stopwatch()
