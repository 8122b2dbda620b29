"""What a run tells while it goes on: CSV files, a picture of the curves, TensorBoard events."""

import csv
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from training.curves import draw_curves

logger = logging.getLogger(__name__)

Rows = Sequence[dict[str, float]]


class Monitor:
    """Writes the progress of one run into its folder.

    ``losses.csv`` and ``metrics.csv`` hold a row every 25 steps and a row a validation,
    ``curves.svg`` shows both, ``events/`` is for TensorBoard and stays away where the package
    ``tensorboard`` is not installed. A resumed run writes the same files as one in one go.

    Parameters
    ----------
    run_dir : Path
        Exists.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._events: Any = None

    def __enter__(self) -> Self:
        self._events = open_events(self.run_dir / "events")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def note_loss(self, losses: Rows) -> None:
        """Write all rows of the losses; the last one is new."""
        write_rows(self.run_dir / "losses.csv", losses)
        self._add("train/loss", losses[-1]["loss"], losses[-1]["step"])
        self._add("train/learning_rate", losses[-1]["lr"], losses[-1]["step"])

    def note_validation(self, history: Rows, losses: Rows) -> None:
        """Write all rows of the validations, of which the last one is new, and the picture."""
        write_rows(self.run_dir / "metrics.csv", history)
        self._add("validation/f1", history[-1]["val_f1"], history[-1]["step"])
        svg = draw_curves(
            self.run_dir.name,
            {
                "loss": [(row["step"], row["loss"]) for row in losses],
                "validation F1": [(row["step"], row["val_f1"]) for row in history],
            },
        )
        (self.run_dir / "curves.svg").write_text(svg, encoding="utf-8")

    def _add(self, name: str, value: float, step: float) -> None:
        if self._events is not None:
            self._events.add_scalar(name, value, int(step))


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows of the same columns as a CSV file; an empty list writes nothing."""
    if not rows:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def open_events(folder: Path) -> Any:
    """Open a TensorBoard writer; None where the package is missing."""
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        logger.debug("no TensorBoard events: the package tensorboard is not installed")
        return None
    return writer(str(folder))
