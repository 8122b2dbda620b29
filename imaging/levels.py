"""Which resolution of an image is read: a pyramid level by its number or its pixel size."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.image import ImageError, PixelSource, SourceImage

logger = logging.getLogger(__name__)

SIZE_TOLERANCE = 0.02  # share by which a level's proportions may differ from the image's
ROUNDING_PX = 2  # sides of a level are rounded up or down, at worst at every halving
MPP_TOLERANCE = 0.02  # share by which a pixel size may exceed the one asked for: headers round


@dataclass(frozen=True)
class LevelChoice:
    """The resolution that is asked for; the file's own by default.

    Attributes
    ----------
    level : int or None
        Number of a pyramid level, 0 is the full resolution.
    mpp : float or None
        Micrometres a pixel; stands for the coarsest level that is at least this fine.

    Raises
    ------
    ValueError
        If both are given, or one is out of range.
    """

    level: int | None = None
    mpp: float | None = None

    def __post_init__(self) -> None:
        if self.level is not None and self.mpp is not None:
            raise ValueError("wanted a level or a pixel size, got both")
        if self.level is not None and self.level < 0:
            raise ValueError(f"level must be at least 0, got {self.level}")
        if self.mpp is not None and not (math.isfinite(self.mpp) and self.mpp > 0):
            raise ValueError(f"mpp must be a positive number, got {self.mpp}")


FULL_RESOLUTION = LevelChoice()


@dataclass(frozen=True)
class Level:
    """One level of a pyramid as its file describes it.

    Attributes
    ----------
    shape_yx : (int, int)
        Rows and columns.
    source : PixelSource or None
        Its pixels; None if the level cannot be used.
    mpp : float or None
        Micrometres a pixel, if the file tells.
    problem : str
        Why it cannot be used.
    """

    shape_yx: tuple[int, int]
    source: PixelSource | None
    mpp: float | None = None
    problem: str = ""


def build_level(full: PixelSource, source: PixelSource, full_mpp: float | None) -> Level:
    """Check that a reduced level can be what it claims to be: the same image, smaller.

    Parameters
    ----------
    full : PixelSource
        The full resolution.
    source : PixelSource
        The level.
    full_mpp : float or None
        Micrometres a pixel of the full resolution.

    Returns
    -------
    Level
        With a problem and no source if channels, dtype or proportions differ, or if it is not
        smaller.
    """
    shape_yx = source.shape[:2]
    factor = max(full.shape[:2]) / max(shape_yx)
    mpp = None if full_mpp is None else full_mpp * factor
    if source.shape[2] != full.shape[2] or source.dtype != full.dtype:
        return Level(shape_yx, None, mpp, "has other channels or another depth than the image")
    misfits = [
        abs(reduced * factor - whole) > SIZE_TOLERANCE * whole + ROUNDING_PX * factor
        for whole, reduced in zip(full.shape[:2], shape_yx, strict=True)
    ]
    if factor <= 1 or any(misfits):
        return Level(shape_yx, None, mpp, f"claims {_size(shape_yx)} px, which does not fit")
    return Level(shape_yx, source, mpp)


def open_levels(
    path: Path,
    levels: Sequence[Level],
    choice: LevelChoice = FULL_RESOLUTION,
    release: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> SourceImage:
    """Open the chosen level of an image; coarser ones serve its overviews.

    Parameters
    ----------
    path : Path
        The file, for messages.
    levels : sequence of Level
        Level 0 can be used; from fine to coarse.
    choice : LevelChoice
        What is asked for.
    release, check : callable
        As for :class:`SourceImage`.

    Returns
    -------
    SourceImage

    Raises
    ------
    ImageError
        If there is no such level, it cannot be used, or the pixel size is asked for and unknown.
    """
    number = _choose(path, levels, choice)
    chosen = levels[number]
    for n, level in enumerate(levels):
        if level.problem:
            logger.warning("%s: level %d %s; it is not used", path.name, n, level.problem)
    coarser = [level.source for level in levels[number + 1 :] if level.source is not None]
    if chosen.source is None:
        raise ImageError.about(
            path, f"level {number} {chosen.problem}", "choose another level or export it again"
        )
    return SourceImage(path, chosen.source, tuple(coarser), release, mpp=chosen.mpp, check=check)


def _choose(path: Path, levels: Sequence[Level], choice: LevelChoice) -> int:
    """Find the number of the level asked for."""
    if choice.level is not None:
        if choice.level >= len(levels):
            sizes = ", ".join(f"{n}: {_size(level.shape_yx)}" for n, level in enumerate(levels))
            raise ImageError.about(
                path, f"has no level {choice.level} (only {sizes})", "choose one of these"
            )
        return choice.level
    if choice.mpp is None:
        return 0
    if levels[0].mpp is None:
        raise ImageError.about(
            path, "does not tell the size of its pixels", "choose the resolution by its level"
        )
    limit = choice.mpp * (1 + MPP_TOLERANCE)
    usable = [
        (level.mpp, n)
        for n, level in enumerate(levels)
        if level.source is not None and level.mpp is not None
    ]
    fine_enough = [(mpp, n) for mpp, n in usable if mpp <= limit]
    if not fine_enough:
        logger.warning(
            "%s: has %.3g micrometres a pixel at best, coarser than the %.3g asked for",
            path.name,
            levels[0].mpp,
            choice.mpp,
        )
    return max(fine_enough, default=(0.0, 0))[1]


def _size(shape_yx: tuple[int, int]) -> str:
    """Write rows and columns."""
    return f"{shape_yx[0]} x {shape_yx[1]}"
