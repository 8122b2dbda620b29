"""Write a model card for every weight file: ``python -m training.cards --run RUN.json``.

A card says what the weights were trained on and under which terms, how, how well they do on
validation and test images, and where they fail. Everything in it is read: from the manifest, from
``training/sources.csv`` and from run files of ``python -m eval.f1 --json``.
"""

import argparse
import csv
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.run_file import Run, RunSummary, read_run
from manifest import WEIGHTS_DIR, WeightsError, read_manifest
from router.names import EXPERT_TABLES
from training.data import DataError
from training.recipes import RECIPES

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).resolve().parent / "sources.csv"
RENDERED = ("_as_phase", "_as_dic")  # behind a data set's name: simulated from it
WEAK_F1 = 0.7  # a data set below it is listed among the failures
UNKNOWN = "not stated"
TERMS = """\
Terms that are not stated may forbid commercial use, or any; the images themselves are
not part of this project.
"""


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes
    ----------
    origin, licence : str
        As its authors or the collection state them; ``not stated`` where they do not.
    """

    origin: str
    licence: str


def read_sources(path: Path = SOURCES) -> dict[str, Source]:
    """Read the table of data sets; DataError if it is damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {row["dataset"]: Source(row["origin"], row["licence"]) for row in rows}
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: not the table of data sets ({error})") from error


def write_card(
    expert: str,
    entry: Mapping[str, Any],
    sources: Mapping[str, Source],
    runs: Sequence[Run] = (),
    notes: str = "",
) -> str:
    """Write one card as Markdown.

    Parameters
    ----------
    expert : str
        Its name.
    entry : mapping
        Of the manifest.
    sources : mapping of str to Source
        By data set; one that is missing is written as unknown.
    runs : sequence of Run
        Evaluations through ``predict.py``; those with images of the expert's modalities count.
    notes : str
        Further failures in words, as Markdown.

    Returns
    -------
    str
    """
    parts = [
        f"# {expert}\n",
        _describe_training(expert, entry),
        "## Data\n",
        *_describe_start(entry, sources),
        _table_of_sets(
            "Trained on" if entry["steps"] else "Size model fitted on",
            entry.get("trained_on", {}),
            sources,
        ),
        _table_of_sets("Without labels", entry.get("unlabelled", {}), sources),
        _table_of_sets("Validated on", entry.get("validated_on", {}), sources),
        TERMS,
        *_describe_scores(expert, entry, runs),
        *_describe_failures(expert, runs),
    ]
    if notes.strip():
        parts.append(notes.strip() + "\n")
    parts.append(
        "Pictures of failures are not shown here: the licences of the images do not allow to hand\n"
        "them on. With the images at hand, `python predict.py -i IMAGES -o OUT --overlays DIR`\n"
        "draws them.\n"
    )
    return "\n".join(part for part in parts if part)


def _describe_training(expert: str, entry: Mapping[str, Any]) -> str:
    """List what the manifest knows of the training."""
    settings = entry.get("settings", {})
    facts = {
        "File": f"`{expert}.safetensors`, {entry['bytes']} bytes, SHA-256 `{entry['sha256']}`",
        "Network": f"{entry['network']}, {entry['parameters'] / 1e6:.2f} M parameters",
        "Images": " and ".join(RECIPES[expert].modalities),
        "Started from": entry["started_from"],
        "Unlabelled images": entry.get("semi_supervision", "not used"),
        "Weights of": _describe_weights(entry),
        "Steps": f"{entry['steps']}, the best validation at {entry['best_step']}"
        if entry["steps"]
        else "none of its own",
        "Optimiser": f"{settings.get('optimiser')} at {settings.get('lr')}, batches of "
        f"{settings.get('batch')} crops of {settings.get('crop_px')} px, "
        f"augmentation `{settings.get('augment', 'short')}`, seed {settings.get('seed')}",
        "Time": f"{entry['hours']} h on {entry['device']}, PyTorch {entry['torch']}",
        "Commit": f"`{entry['commit']}`",
        "Images, digest": f"`{entry['data_digest']}`" if "data_digest" in entry else "not noted",
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows, ""])


def _describe_weights(entry: Mapping[str, Any]) -> str:
    """Tell which of the trainings the weights come from."""
    stage = str(entry.get("stage", "the supervised training"))
    parts = [f"{part['share']} of `{part['sha256'][:12]}`" for part in entry.get("average_of", ())]
    size = f"; the size model of `{entry['size_of'][:12]}`" if "size_of" in entry else ""
    return f"{stage}, averaged: {' and '.join(parts)}{size}" if parts else stage


def _describe_start(entry: Mapping[str, Any], sources: Mapping[str, Source]) -> Iterator[str]:
    """Tell how the weights it started from were trained, and those they started from."""
    start = entry.get("start")
    if not start:
        return
    yield (
        f"Before that, `{entry['started_from']}`: {start['steps']} steps in {start['hours']} h on "
        f"{start['device']} at commit `{start['commit']}`, validation F1 {start['validation_f1']}, "
        f"itself started from {start['started_from']}.\n"
    )
    yield _table_of_sets(f"`{entry['started_from']}` trained on", start["trained_on"], sources)
    yield from _describe_start(start, sources)


def _table_of_sets(title: str, counts: Mapping[str, int], sources: Mapping[str, Source]) -> str:
    """Write the data sets with their number of images, origin and licence."""
    if not counts:
        return ""
    lines = [f"{title}:\n", "| data set | images | origin | licence |", "|---|---|---|---|"]
    for name, count in counts.items():
        source, how = find_source(name, sources)
        lines.append(f"| {name} | {count} | {source.origin}{how} | {source.licence} |")
    return "\n".join([*lines, ""])


def find_source(name: str, sources: Mapping[str, Source]) -> tuple[Source, str]:
    """Find a data set's source, and in words what was simulated from it."""
    for suffix in RENDERED:
        if name.endswith(suffix):
            contrast = suffix.removeprefix("_as_")
            return sources.get(name.removesuffix(suffix), Source("unknown", UNKNOWN)), (
                f", rendered as {contrast}"
            )
    return sources.get(name, Source("unknown", UNKNOWN)), ""


def _describe_scores(expert: str, entry: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    """Write validation and test scores."""
    without = entry.get("supervised_f1")
    aside = "" if without is None else f" ({without} before the unlabelled images)"
    parts = [
        "## Scores\n",
    ]
    parts.append(
        "Mean F1 at IoU 0.5 on validation images, cells at their true size where the network\n"
        f"needs it: **{entry['validation_f1']}**{aside}.\n"
    )
    if "validation_f1_note" in entry:
        parts.append(f"{entry['validation_f1_note']}\n")
    if "size_ratio_error" in entry:
        again = f", fitted anew at `{entry['size_commit']}`" if "size_commit" in entry else ""
        unseen = entry.get("size_ratio_error_unseen")
        further = f" ({unseen} on data sets left out of its fit)" if unseen else ""
        parts.append(
            "Median error of the cell size estimated from one view: a factor of "
            f"{entry['size_ratio_error']}{further}{again}.\n"
        )
    found = [(run, [line for line in run.summaries if _concerns(line, expert)]) for run in runs]
    tables = [_table_of_scores(run, lines) for run, lines in found if lines]
    instead = EXPERT_TABLES["best"].get(expert)
    unmeasured = "Test images: not measured for this card" + (
        f"; `{instead}` serves them unless `--experts paper` is given.\n" if instead else ".\n"
    )
    return [*parts, *(tables or [unmeasured])]


def _concerns(line: RunSummary, expert: str) -> bool:
    """Whether a group's images are of an expert's modalities, and labelled by it by default."""
    if expert in EXPERT_TABLES["best"]:
        return False
    return line.kind != "all" and line.name.partition("/")[0] in RECIPES[expert].modalities


def _table_of_scores(run: Run, lines: Sequence[RunSummary]) -> str:
    """Write the scores of one evaluation."""
    head = (
        f"{run.system} at commit `{run.commit}` ({run.created}), F1 at IoU {run.thresholds[0]:g}"
        " through `predict.py`, router included:\n"
    )
    text = [
        head,
        "| images | number | mean F1 | median F1 |",
        "|---|---|---|---|",
    ]
    for line in lines:
        apart = " (reported apart)" if line.apart else ""
        text.append(
            f"| {line.name}{apart} | {line.n_images} | {line.f1_mean:.3f} | {line.f1_median:.3f} |"
        )
    return "\n".join([*text, ""])


def _describe_failures(expert: str, runs: Sequence[Run]) -> list[str]:
    """List the data sets with a low F1, and how their cells were missed."""
    measured = [line for run in runs for line in run.summaries if _concerns(line, expert)]
    weak = [line for line in measured if line.kind == "dataset" and line.f1_mean < WEAK_F1]
    parts = ["## Known failures\n"]
    for line in sorted(weak, key=lambda line: line.f1_mean):
        errors = line.errors
        parts.append(
            f"- {line.name}: mean F1 {line.f1_mean:.3f}; of {line.n_cells} cells {errors.missed} "
            f"missed, {errors.merged} merged and {errors.split} split, and {errors.invented} "
            "invented."
        )
    if not weak:
        what = f"No data set is below a mean F1 of {WEAK_F1}." if measured else "Not measured."
        parts.append(what)
    return [*parts, ""]


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m training.cards", description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS_DIR, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: cards/ in the weights")
    parser.add_argument(
        "--run", type=Path, nargs="+", default=[], metavar="FILE", help="run files of eval.f1"
    )
    parser.add_argument(
        "--notes",
        type=Path,
        metavar="DIR",
        help="folder of EXPERT.md with known failures in words, put into the cards",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the cards; 2 if a file they are made from is missing or damaged."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    args = build_parser().parse_args(argv)
    out = args.out or args.weights / "cards"
    try:
        runs = [read_run(path) for path in args.run]
        sources, entries = read_sources(), read_manifest(args.weights)
        out.mkdir(parents=True, exist_ok=True)
        for expert in RECIPES:
            entry = entries.get(f"{expert}.safetensors")
            if entry is None:
                continue
            notes = args.notes / f"{expert}.md" if args.notes else None
            text = notes.read_text(encoding="utf-8") if notes and notes.is_file() else ""
            path = out / f"{expert}.md"
            path.write_text(write_card(expert, entry, sources, runs, text), encoding="utf-8")
            logger.info("%s", path)
    except (DataError, WeightsError, ValueError, OSError, KeyError) as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
