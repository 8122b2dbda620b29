"""All benchmarks by one command: ``python -m bench -o OUT``.

Prints a table in Markdown and writes OUT/bench.json and OUT/bench.svg. Every measurement is
repeated after a run that warms up; medians count, lowest and highest show the noise. Images are
synthetic, so that nothing else is needed; the peer, stock Cellpose, is installed into an
environment of its own below the cache folder. Nothing else should use the machine meanwhile.
Exit code: 0 all ran and none got worse than the baseline, 1 otherwise, 2 wrong usage.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arguments import read_count
from bench.baseline import MIN_VALUES, Change, compare_reports, name_baseline
from bench.device import DEVICES, HELP, prepare_device
from bench.execution import BUILD
from bench.machine import describe_machine
from bench.picture import draw_report
from bench.rows import Report, ReportError, read_report, write_report
from bench.suite import BENCHES, N_IMAGES, Bench, Plan, run_bench
from bench.table import format_report
from eval.run_file import name_commit, now_utc
from models.registry import DeviceError
from synthetic import KINDS

logger = logging.getLogger("bench")

EXIT_FINE, EXIT_WORSE, EXIT_USAGE = 0, 1, 2
QUICK_REPEATS = 1
BY_MACHINE = Path("by-machine")  # an option without its file: the one that bears the machine's name


def main(arguments: Sequence[str] | None = None, benches: Mapping[str, Bench] = BENCHES) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.
    benches : mapping of str to Bench
        What can be run.

    Returns
    -------
    int
        Exit code.
    """
    options = build_parser(benches).parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if options.list:
        for name, bench in benches.items():
            sys.stdout.write(f"{name:<12}{bench.line}\n")
        return EXIT_FINE
    try:
        machine = describe_machine(prepare_device(options.device))
        baseline = _choose_file(options.compare, machine)
        before = read_report(baseline) if baseline else None  # now, not after the work
    except (DeviceError, ReportError) as error:
        logger.error("%s", error)
        return EXIT_USAGE
    report = run_benches(options, benches, machine)
    changes = compare_reports(report, before)
    _write(options.output, report, changes)
    sys.stdout.write(format_report(report, changes, before))
    stored = _choose_file(options.save_baseline, machine)
    if stored:
        _save_baseline(stored, report)
    is_worse = any(change.verdict == "worse" for change in changes)
    return EXIT_WORSE if report.failures or is_worse else EXIT_FINE


def run_benches(
    options: argparse.Namespace, benches: Mapping[str, Bench], machine: Mapping[str, Any]
) -> Report:
    """Run the benchmarks that the command line chose.

    Parameters
    ----------
    options : Namespace
        Of :func:`build_parser`.
    benches : mapping of str to Bench
    machine : mapping
        From :func:`bench.machine.describe_machine`.

    Returns
    -------
    Report
        With the failures of those that did not end well.
    """
    chosen = _choose_benches(options, benches)
    repeats = options.repeat or (QUICK_REPEATS if options.quick else 3)
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        plan = Plan(
            folder=Path(folder),
            cache=options.cache.resolve(),
            n_repeats=repeats,
            n_images=options.images,
            kinds=tuple(options.kinds),
            is_quick=options.quick,
            torch_index_url=options.torch_index_url,
            device=options.device,
        )
        for name, bench in chosen.items():
            logger.info("%s: %s", name, bench.title)
            outcomes[name] = run_bench(name, bench, plan)
            failure = outcomes[name].failure
            logger.info("%s: %.0f s", name, outcomes[name].seconds)
            if failure:
                logger.error("%s: %s", name, failure.error)
    return Report(
        created=now_utc(),
        commit=name_commit(),
        machine=machine,
        settings={
            "repeats": repeats,
            "quick": options.quick,
            "only": sorted(chosen),
            "device": options.device,
        },
        rows=tuple(row for outcome in outcomes.values() for row in outcome.rows),
        failures=tuple(o.failure for o in outcomes.values() if o.failure),
        seconds={name: round(outcome.seconds, 1) for name, outcome in outcomes.items()},
    )


def _choose_benches(options: argparse.Namespace, benches: Mapping[str, Bench]) -> dict[str, Bench]:
    """Choose the benchmarks to run: those named, else all that end in time on the device."""
    is_slow = options.device == "cpu"
    usual = [name for name, bench in benches.items() if not (bench.is_long and is_slow)]
    return {
        name: bench
        for name, bench in benches.items()
        if name in (options.only or usual) and not (bench.needs_peer and options.no_peer)
    }


def build_parser(benches: Mapping[str, Bench]) -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, default=BUILD, metavar="OUT", help="(default: build/bench)")
    add("--cache", type=Path, default=BUILD, metavar="DIR", help="holds the peer's environment")
    add("--only", nargs="+", choices=tuple(benches), metavar="NAME", help="leave out the others")
    add("--list", action="store_true", help="name the benchmarks and end")
    add("--device", choices=DEVICES, default="cpu", help=HELP)
    add("--no-peer", action="store_true", help="leave out stock Cellpose; installs nothing")
    add("--repeat", type=read_count, metavar="N", help="of each measurement (default: 3)")
    add("--quick", action="store_true", help="small work, once: shows that all runs, not how fast")
    add(
        "--images",
        type=read_count,
        default=N_IMAGES,
        metavar="N",
        help=f"of the folder (default: {N_IMAGES})",
    )
    add(
        "--kinds",
        nargs="+",
        choices=tuple(KINDS),
        default=["phase"],
        metavar="KIND",
        help=f"of the folder and the large image: {', '.join(KINDS)} (default: phase)",
    )
    add("--torch-index-url", default="", metavar="URL", help="index of PyTorch's CPU wheels")
    stored = "(without FILE: bench/baselines/PROCESSOR-CORES-PRECISION[-GPU].json)"
    _add_file(parser, "--compare", f"mark what got worse than this run {stored}")
    _add_file(parser, "--save-baseline", f"store this run, if nothing failed {stored}")
    return parser


def _add_file(parser: argparse.ArgumentParser, name: str, purpose: str) -> None:
    """Add an option whose file may be left out."""
    parser.add_argument(name, type=Path, nargs="?", const=BY_MACHINE, metavar="FILE", help=purpose)


def _choose_file(path: Path | None, machine: Mapping[str, Any]) -> Path | None:
    """Give the file that an option names; None if the option was not given."""
    return name_baseline(machine) if path == BY_MACHINE else path


def _write(folder: Path, report: Report, changes: Sequence[Change]) -> None:
    """Write the file and the picture."""
    write_report(folder / "bench.json", report)
    (folder / "bench.svg").write_text(draw_report(report, changes), encoding="utf-8")


def _save_baseline(path: Path, report: Report) -> None:
    """Store a run to compare with; not one with holes."""
    if report.failures:
        logger.error("%s: not stored, since a benchmark failed", path)
        return
    if report.settings["repeats"] < MIN_VALUES:
        logger.warning("%s: times of fewer than %d runs judge nothing", path, MIN_VALUES)
    write_report(path, report)
    logger.info("stored %s", path)


if __name__ == "__main__":
    raise SystemExit(main())
