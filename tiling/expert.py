"""Let one expert segment one image, from its normalisation to its label image."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from imaging.image import Image
from imaging.normalise import Normaliser, fit_normaliser
from tiling.block_job import SlideJob, plan_slide
from tiling.engine import SlideProgress, SlideResult, TilingSettings, segment
from tiling.maps import TileNetwork
from tiling.memory import fit_memory
from tiling.raster import StreamedLabels, new_raster
from tiling.survey import Survey
from tiling.trial import Start, start_image
from tiling.views import representative_views

if TYPE_CHECKING:
    from tiling.block_store import FolderStore

logger = logging.getLogger(__name__)

FEW_BLOCKS = 4
"""Images of no more blocks than these are not worth resuming, and store nothing."""

NOT_IN_KEY = (
    "cache_bytes",
    "n_ahead",
    "n_decoders",
    "max_memory_bytes",
    "usual_memory_bytes",
    "max_decoded_px",
    "diameter_px",
)
"""Settings that cannot change a result; a known diameter does by the scale told for it alone."""


@dataclass(frozen=True)
class Segmentation:
    """The instances of one image.

    Attributes
    ----------
    labels : (Y, X) ndarray of int32
        0 is background, ids are 1..n_cells; on disk if it is large.
    n_cells : int
    done : SlideResult
        What that took.
    """

    labels: npt.NDArray[np.int32]
    n_cells: int
    done: SlideResult = field(default_factory=lambda: SlideResult(0))

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """The labels for a writer that slices rows: those of a slide do not stay in memory."""
        return cast("npt.NDArray[np.int32]", StreamedLabels(self.labels))


@dataclass(frozen=True)
class Keeping:
    """Where the finished blocks of a large image are kept for a later run.

    Attributes
    ----------
    folder : Path
        Of this image and expert alone.
    expert : str
        Identifies the expert: weights, runtime, device.
    """

    folder: Path
    expert: str


def apply_expert(
    network: TileNetwork,
    image: Image,
    survey: Survey,
    folder: Path,
    settings: TilingSettings,
    keeping: Keeping | None = None,
    report: Callable[[SlideProgress], None] | None = None,
) -> Segmentation:
    """Segment an image at the scale that an expert chooses, or wants for a known size of cells.

    Parameters
    ----------
    network : TileNetwork
        The expert.
    image : Image
        Open, of size (Y, X).
    survey : Survey
        Of the image: the percentiles of its fields normalise every region.
    folder : Path
        Where a large label image may take space.
    settings : TilingSettings
    keeping : Keeping, optional
        Go on from the blocks that an earlier run finished, and keep those of this one.
    report : callable, optional
        Called whenever a block is in the label image.

    Returns
    -------
    Segmentation

    Raises
    ------
    ImageError
        If the file's data cannot be decoded.
    MemoryError
        If not even one window fits in the device's memory.
    OSError
        If a large label image, or the blocks to keep, find no space.
    """
    settings = fit_memory(settings, network)
    normaliser = fit_normaliser(survey.fields, network.normalisation)
    told = _find_told_scale(network, image, settings.diameter_px)
    work = _Work(network, image, survey.overview, normaliser, settings, told)
    store = work.open_store(keeping) if keeping and keeping.folder.is_dir() else None
    start, labels = work.start(store.scale if store else None), new_raster(image.shape[:2], folder)
    store = (store or work.open_store(keeping)) if len(start.job.plan) > FEW_BLOCKS else None
    if store is not None and store.scale is None:
        store.begin(start.scale)
    done = segment(start.job, labels, store, report, start.run)
    logger.debug("%s: %.3g network pixels a pixel", image.path.name, start.scale)
    computed = done.n_windows - done.n_empty, done.n_windows
    logger.debug("%s: %d of %d windows computed", image.path.name, *computed)
    if done.n_stored:
        logger.info(
            "%s: %d of %d blocks were there already", image.path.name, done.n_stored, done.n_blocks
        )
    return Segmentation(labels, done.n_cells, done)


@dataclass(frozen=True, eq=False)
class _Work:
    """One image, one expert, and how the two are put together."""

    network: TileNetwork
    image: Image
    overview: npt.NDArray[np.float32]
    normaliser: Normaliser
    settings: TilingSettings
    told_scale: float | None

    def plan(self, scale: float) -> SlideJob:
        """Cut the image into blocks at a scale."""
        return plan_slide(
            self.image, self.normaliser, self.network, scale, self.settings, self.overview
        )

    def open_store(self, keeping: Keeping | None) -> "FolderStore | None":
        """Open the store of finished blocks, if they are to be kept."""
        from tiling.block_store import FolderStore, digest_key  # noqa: PLC0415 - for slides only

        if keeping is None:
            return None
        facts = describe_inputs(self.image, self.normaliser, self.network, self.settings)
        facts["expert"] = keeping.expert
        if self.told_scale is not None:  # otherwise the scale follows from the rest
            facts["told_scale"] = self.told_scale
        return FolderStore(keeping.folder, digest_key(facts))

    def start(self, stored_scale: float | None) -> Start:
        """Plan the image at the scale of stored blocks, the one told, or the network's choice."""
        scale = self.told_scale if stored_scale is None else stored_scale
        if scale is not None:
            return Start(scale, self.plan(scale))
        views = representative_views(self.image, self.overview, self.normaliser)
        return start_image(self.network, views, self.plan)


def _find_told_scale(network: TileNetwork, image: Image, diameter_px: float | None) -> float | None:
    """Give the scale for a known diameter; None if the network is to choose one."""
    if diameter_px is None:
        return None
    scale = network.scale_for(diameter_px)
    if scale is None:
        logger.debug("%s: the network does not use the known diameter", image.path.name)
    return scale


def describe_inputs(
    image: Image, normaliser: Normaliser, network: TileNetwork, settings: TilingSettings
) -> dict[str, Any]:
    """List everything but the expert's weights and scale that decides what a block gives.

    A scale that is not told follows from these (it is kept beside the blocks, so that it is chosen
    once).

    Returns
    -------
    dict
        JSON-ready.
    """
    return {
        "file": _identify(image.path),
        "image": [image.shape, str(image.dtype), image.mpp],
        "normaliser": [normaliser.low.tolist(), normaliser.high.tolist()],
        "network": [network.tile_px, network.halo_px, network.object_px, network.n_maps],
        "settings": {k: v for k, v in asdict(settings).items() if k not in NOT_IN_KEY},
    }


def _identify(path: Path) -> list[Any]:
    """Give what changes when a file, or any file of a folder, does: name, count, bytes, time."""
    files = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
    found = [part.stat() for part in files if part.exists()]
    newest = max((stat.st_mtime_ns for stat in found), default=0)
    return [path.name, len(found), sum(stat.st_size for stat in found), newest]
