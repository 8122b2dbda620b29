"""Read what the report shows besides the run: the times, and the router's tables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.runtime_file import TOLERANCE_PX, TOLERANCE_S


@dataclass(frozen=True)
class TimedImage:
    """One process that labelled one image.

    Attributes
    ----------
    system, image : str
        Who, and what.
    n_px : int
        Pixels of the image.
    repeat : int
        Which of several rounds.
    real_s, rank_s : float
        Wall clock, and what of it is beyond the tolerance.
    exit_code : int
        0 when it went well.
    host_mib, gpu_mib, gpu_mib_s : float or None
        Peaks of memory, and the area under the GPU's; None where not measured.
    stages : mapping of str to float
        Seconds of each part; empty where not known.
    """

    system: str
    image: str
    n_px: int
    repeat: int
    real_s: float
    rank_s: float
    exit_code: int
    host_mib: float | None
    gpu_mib: float | None
    gpu_mib_s: float | None
    stages: Mapping[str, float]


@dataclass(frozen=True)
class Timing:
    """A runtime file.

    Attributes
    ----------
    created, commit : str
        When it was measured, and of what.
    machine : str
        In words.
    images : tuple of TimedImage
        Every process, in the order of the file.
    """

    created: str
    commit: str
    machine: str
    images: tuple[TimedImage, ...]

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the systems, in the order they first appear."""
        return tuple(dict.fromkeys(image.system for image in self.images))

    def of(self, system: str) -> tuple[TimedImage, ...]:
        """Give the processes of one system that went well."""
        return tuple(i for i in self.images if i.system == system and i.exit_code == 0)


@dataclass(frozen=True)
class ConfusionTable:
    """How many images of each true name were given each name.

    Attributes
    ----------
    names : tuple of str
        In the order of rows and columns.
    counts : tuple of tuple of int
        A row a true name, a column a given one.
    """

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def n_images(self) -> int:
        """Number of images in the table."""
        return sum(map(sum, self.counts))

    @property
    def n_right(self) -> int:
        """Number of images on the diagonal."""
        return sum(row[i] for i, row in enumerate(self.counts))


@dataclass(frozen=True)
class Routing:
    """A router file.

    Attributes
    ----------
    modality, expert : ConfusionTable
        Of the modalities, and of the experts of brightfield images.
    errors : mapping of str to mapping of str to int
        Data set to what became of its images; only sets with errors.
    """

    modality: ConfusionTable
    expert: ConfusionTable
    errors: Mapping[str, Mapping[str, int]]


def read_timing(path: Path) -> Timing:
    """Read the file that ``python -m eval.runtime --json`` writes.

    Parameters
    ----------
    path : Path
        JSON of format 1.

    Returns
    -------
    Timing
        May hold no image.

    Raises
    ------
    ValueError
        If it is no such file; the message names it.
    OSError
        If it cannot be read.
    """
    try:
        plain = _read_object(path)
        if plain["format"] != 1:
            raise ValueError(f"format {plain['format']}, wanted 1")
        images = tuple(_timed_image(entry) for entry in plain["runs"])
        machine = _words_of_machine(plain.get("machine") or {})
        created, commit = (str(plain.get(key, "unknown")) for key in ("created", "commit"))
        return Timing(created, commit, machine, images)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: no runtime file of eval.runtime ({_reason(error)})") from error


def read_routing(path: Path) -> Routing:
    """Read the file that ``python -m eval.router --json`` writes.

    Parameters
    ----------
    path : Path
        JSON with the tables ``modality``, ``expert`` and ``errors``.

    Returns
    -------
    Routing
        The tables.

    Raises
    ------
    ValueError
        If it is no such file; the message names it.
    OSError
        If it cannot be read.
    """
    try:
        plain = _read_object(path)
        errors = {
            str(name): {str(key): int(n) for key, n in group.items()}
            for name, group in plain["errors"].items()
        }
        return Routing(_confusion(plain["modality"]), _confusion(plain["expert"]), errors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: no router file of eval.router ({_reason(error)})") from error


def tolerance_s(n_px: float) -> float:
    """Give the seconds that the organisers do not count for an image of so many pixels."""
    return TOLERANCE_S * max(1.0, n_px / TOLERANCE_PX)


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(plain, dict):
        raise TypeError(f"wanted an object, got {type(plain).__name__}")
    return plain


def _reason(error: Exception) -> str:
    """Say what was wrong, on one line."""
    return f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())


def _timed_image(entry: Mapping[str, Any]) -> TimedImage:
    """Read one process."""
    stages = entry.get("stages") or {}
    return TimedImage(
        system=str(entry["system"]),
        image=str(entry["image"]),
        n_px=int(entry["height"]) * int(entry["width"]),
        repeat=int(entry["repeat"]),
        real_s=float(entry["real_s"]),
        rank_s=float(entry["rank_s"]),
        exit_code=int(entry["exit_code"]),
        host_mib=_number_or_none(entry.get("peak_host_mib")),
        gpu_mib=_number_or_none(entry.get("peak_gpu_mib")),
        gpu_mib_s=_number_or_none(entry.get("gpu_mib_s")),
        stages={str(name): float(seconds) for name, seconds in stages.items()},
    )


def _number_or_none(value: Any) -> float | None:
    """Read a figure that may not have been measured."""
    return None if value is None else float(value)


def _words_of_machine(machine: Mapping[str, Any]) -> str:
    """Describe the machine on one line."""
    memory = machine.get("memory_gib")
    parts = [
        str(machine.get("processor") or ""),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{float(memory):.0f} GiB" if memory else "",
        str(machine.get("gpu") or "no GPU"),
    ]
    return ", ".join(part for part in parts if part)


def _confusion(plain: Mapping[str, Any]) -> ConfusionTable:
    """Read a table of counts by true, then given name."""
    counts = plain["counts"]
    names = tuple(counts)
    rows = tuple(tuple(int(counts[t].get(r, 0)) for r in names) for t in names)
    return ConfusionTable(tuple(map(str, names)), rows)
