"""`python -m ops.demo` starts all of Tidemark, checks a round trip, and stops all; status 0 if all held."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

import httpx2
from rich.console import Console
from rich.table import Table

from ops.observer import NotAsPromised, Step
from ops.round_trip import RoundTrip
from ops.stack import StackError
from ops.stack.progress import say
from ops.system import System, interrupt_on_signals

PLAIN_WIDTH = 200
COLUMNS = ("\nstep", "\nrequest", "visible\nafter", "read\nfrom", "\ncounts")
NEXT = (
    "All held. README.md tells what happened here and how.\n"
    "Next: make run, which prints the address of a page: two people, and each write on its way."
)


@dataclass(frozen=True)
class Failure:
    """The first wrong answer; `logs` are the last lines of each service."""

    step: str
    expected: str
    found: str
    logs: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Report:
    """The output of `--json`: the steps and checks that held, in order, and the failure if any."""

    held: bool = False
    seconds: float = 0.0
    steps: Sequence[Step] = ()
    checks: Sequence[str] = ()
    failure: Failure | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 if all held, 130 if interrupted, else 1."""
    as_json: bool = _parser().parse_args(arguments).json
    interrupt_on_signals()
    started = time.monotonic()
    try:
        report = perform(os.environ)
    except KeyboardInterrupt:
        say("interrupted; what was started is stopped")
        return 130
    report.seconds = round(time.monotonic() - started, 1)
    show(report, as_json=as_json)
    return 0 if report.held else 1


def perform(environ: Mapping[str, str]) -> Report:
    """The whole demo, in a temporary folder."""
    report = Report()
    try:
        with System(environ) as system, closing(RoundTrip(system)) as trip:
            report.steps, report.checks = trip.steps, trip.checks
            report.failure = failure_of(system, trip)
    except (StackError, OSError) as error:
        report.failure = Failure("the processes", "all of them running", str(error))
    report.held = report.failure is None
    return report


def failure_of(system: System, trip: RoundTrip) -> Failure | None:
    """Run the round trip. Raises ServerFailed if a process has ended: that explains a missing answer."""
    say("jane and joe write, and every answer is checked")
    try:
        trip.run()
    except NotAsPromised as error:
        return Failure(error.step, error.expected, error.found, system.tails())
    except httpx2.TransportError as error:
        system.check()
        return Failure(f"after {len(trip.steps)} steps", "an answer", repr(error), system.tails())
    return None


def show(report: Report, *, as_json: bool) -> None:
    """Print a table, the checks and the next command, or one JSON object."""
    if as_json:
        print(json.dumps(asdict(report)))
        return
    _print_table(report.steps)
    for check in report.checks:
        print(check)
    if report.failure is None:
        print(f"{report.seconds:g} s in all, with starting and stopping", NEXT, sep="\n\n")
    else:
        sys.stdout.flush()
        say(_in_words(report.failure))


def _print_table(steps: Sequence[Step]) -> None:
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    table = Table(*COLUMNS, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for step in steps:
        counts = ", ".join(f"{name.removesuffix('_count')} {count}" for name, count in step.counts.items())
        table.add_row(step.step, step.request, f"{step.visible_ms:.1f} ms", step.served_from, counts)
    if steps:
        console.print(table)


def _in_words(failure: Failure) -> str:
    logs = [f"last lines of {name}:\n{tail}" for name, tail in failure.logs.items()]
    what = f"FAILED: {failure.step}\n  expected: {failure.expected}\n  found:    {failure.found}"
    return "\n\n".join([*logs, what])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
