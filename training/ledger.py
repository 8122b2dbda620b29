"""What a run was asked to do, and whether it has done it: ``runs/NAME/plan.json``."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.data import Record

logger = logging.getLogger(__name__)

Plan = Mapping[str, Any]

MAY_CHANGE = ("steps", "validate_every", "checkpoint_every")  # between the sittings of a run


class Ledger:
    """The plan of a run beside its checkpoint, and the proof that it was carried out.

    Parameters
    ----------
    run_dir : Path
        Made when missing.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "plan.json"
        run_dir.mkdir(parents=True, exist_ok=True)

    def begin(self, plan: Plan) -> None:
        """Note a plan before work on it starts; warn where a run goes on by another one."""
        old = self._read().get("plan")
        changed = [] if old is None else _differences(old, _plain(plan))
        if changed:
            logger.warning(
                "%s: goes on by another plan (%s); remove the folder to start it anew",
                self.path.parent, ", ".join(changed),
            )  # fmt: skip
        self._write({"plan": plan, "finished": False})

    def finish(self, plan: Plan, proof: str = "") -> None:
        """Note that a plan was carried out; ``proof`` is the SHA-256 of what it made."""
        self._write({"plan": plan, "finished": True, "proof": proof})

    def is_finished(self, plan: Plan, proof: str = "") -> bool:
        """Whether this very plan was carried out, and its product is the one at hand."""
        noted = self._read()
        return bool(
            noted.get("finished")
            and noted.get("plan") == _plain(plan)
            and noted.get("proof", "") == proof
        )

    def _read(self) -> dict[str, Any]:
        """Read the file; nothing if there is none or it is damaged."""
        try:
            noted = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}

    def _write(self, content: Mapping[str, Any]) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(self.path)


def digest_records(records: Sequence[Record]) -> str:
    """Digest which images a run learns from: names, data sets, modalities and file sizes.

    Parameters
    ----------
    records : sequence of Record
        In any order.

    Returns
    -------
    str
        16 hexadecimal digits; the folder the data lie in does not matter.
    """
    lines = sorted(
        f"{r.dataset}/{r.modality}/{r.image.name}/{r.image.stat().st_size}/"
        f"{r.label.stat().st_size if r.label else 0}"
        for r in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _plain(plan: Plan) -> Any:
    """Give a plan as it is read back from its file."""
    return json.loads(json.dumps(plan))


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Name the settings that differ and should not."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted((old.keys() | new.keys()) - set(MAY_CHANGE))
        nested = (_differences(old.get(k), new.get(k), f"{path}.{k}" if path else k) for k in keys)
        return [name for names in nested for name in names]
    return [] if old == new else [path]
