"""Plan an image at the scale that its network chooses; a small one may be labelled on the way."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from tiling.block_job import SlideJob, pack_one_window
from tiling.block_result import BlockResult
from tiling.engine import RunBlocks
from tiling.maps import TileNetwork, is_out_of_memory
from tiling.sampling import Float32

P = ParamSpec("P")
T = TypeVar("T")


@runtime_checkable
class ScaleJudge(Protocol):
    """A network that can tell from an image's maps whether it was seen at a good scale.

    Its `choose_scale` does what `guess_scale` and then `refine_scale` do.
    """

    def guess_scale(self, views: Sequence[Float32]) -> float:
        """Guess network pixels per native pixel from (Y, X, 3) normalised native views."""
        ...

    def refine_scale(self, views: Sequence[Float32], scale: float) -> float:
        """Mend a guess."""
        ...

    def judge_scale(
        self, views: Sequence[Float32], scale: float, maps: Float32
    ) -> tuple[float, npt.NDArray[np.int32]]:
        """Mend a guess by the maps (K, Y, X) of the whole image at it, and decode them.

        The guess itself is given back if the one it is mended to is so near that the labels may
        stay as they are.
        """
        ...


@dataclass(frozen=True)
class Start:
    """An image planned at its scale.

    Attributes
    ----------
    scale : float
        Network pixels a native pixel.
    job : SlideJob
        At this scale.
    only_block : BlockResult or None
        The result of its one block, if that is known already.
    """

    scale: float
    job: SlideJob
    only_block: BlockResult | None = None

    @property
    def run(self) -> RunBlocks | None:
        """What gives the known block to `tiling.engine.segment`; None if none is known."""
        result = self.only_block
        if result is None:
            return None

        def give(job: SlideJob, indices: Iterable[int]) -> Iterator[tuple[int, BlockResult]]:
            del job
            return ((index, result) for index in indices)

        return give


def start_image(
    network: TileNetwork, views: list[Float32], plan: Callable[[float], SlideJob]
) -> Start:
    """Choose the scale of an image.

    Parameters
    ----------
    network : TileNetwork
    views : list of (Y, X, 3) ndarray of float32
        From `tiling.views.representative_views`: the image itself if it is small.
    plan : callable
        Cuts the image into blocks at a scale.

    Returns
    -------
    Start
        Labelled already if the image is small, one window of the network at the scale guessed,
        and the network stays at that guess: the labels are those that any other way to this scale
        gives.

    Raises
    ------
    MemoryError
        If what the network looks at, or a single window, does not fit in the device's memory.
    """
    judge = _find_judge(network)
    if judge is None:
        scale = _ask(network.choose_scale, views)
        return Start(scale, plan(scale))
    guess = _ask(judge.guess_scale, views)
    job = plan(guess)
    if not (job.is_one_window and _is_whole(views, job)):
        scale = _ask(judge.refine_scale, views, guess)
        return Start(scale, plan(scale))
    with job.open_maps() as source:
        maps = source.read(job.plan.region(0))
    assert maps is not None  # in a single block no window is left out
    scale, labels = _ask(judge.judge_scale, views, guess, maps)
    if scale != guess:
        return Start(scale, plan(scale))
    return Start(scale, job, pack_one_window(job, maps, labels))


def _ask(choose: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Ask a network about its scale; MemoryError with a remedy where memory runs out."""
    try:
        return choose(*arguments, **named)
    except (MemoryError, RuntimeError) as error:
        has_remedy = isinstance(error, MemoryError) and str(error)
        if has_remedy or not is_out_of_memory(error):
            raise
        raise MemoryError(
            "out of memory while the scale was chosen; end other programs that use the device's"
            " memory, raise --max-gpu-memory, or use --device cpu"
        ) from error


def _find_judge(network: TileNetwork) -> ScaleJudge | None:
    """Give the network as a judge of scales, if it is one.

    Its class is asked: an object that stands in for a network and passes on what it does not have
    itself may well have a scale or a decoding of its own, which the judge would know nothing of.
    """
    return cast("ScaleJudge", network) if issubclass(type(network), ScaleJudge) else None


def _is_whole(views: Sequence[Float32], job: SlideJob) -> bool:
    """Tell whether the one view is the whole image."""
    return [view.shape[:2] for view in views] == [job.reader.geometry.native]
