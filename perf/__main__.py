"""Benchmarks on real servers that each run starts and stops."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.stack import StackError
from ops.system import interrupt_on_signals
from perf.against import against
from perf.authorizer import authorizer
from perf.cluster import cluster
from perf.compare import readme, report
from perf.compare.options import more_options
from perf.compare.run import compare
from perf.feed import command as feed
from perf.live.push import more_options as push_options
from perf.live.push import push
from perf.overload import overload
from perf.projector import applying, growth, lag, stages
from perf.projector.cpu import LOADS, cpu
from perf.projector.decode import decode
from perf.projector.everything import everything
from perf.projector.noise import noise
from perf.projector.peers.run import peers
from perf.projector.project import project
from perf.projector.snapshot import snapshot
from perf.reader.read import read
from tidemark import command_line
from tidemark.command_line import end_with, fail


@dataclass(frozen=True)
class Command:
    """`run` gets the options and returns the figures. `options`: name -> default and meaning.

    `more` adds options that are no numbers; `show` makes text of the figures.
    """

    run: Callable[..., dict[str, Any]]
    help: str
    options: Mapping[str, tuple[float, str]]
    more: Callable[[argparse.ArgumentParser], object] = lambda parser: None
    show: Callable[[Mapping[str, Any]], str] | None = None


SEED = (7, "of the rows")
COMMANDS = {
    "read": Command(
        read,
        "what one reader process can do, and what other code does",
        {"seconds": (6.0, "per lane"), "seed": SEED},
    ),
    "feed": Command(
        feed.feed,
        "what one reader process can do with feeds, and whether they are true",
        {
            "seconds": (6.0, "per lane"),
            "posts-per-s": (50.0, "by authors who are followed"),
            "celebrity": (0, "followers of one more author, whose posts are timed; 0: none"),
            "seed": SEED,
        },
        feed.more_options,
    ),
    "push": Command(
        push,
        "how soon connections that watch posts are sent each like, next to polling and to a bare loop",
        {
            "connections": (5_000, "at a time"),
            "watched": (500, "posts"),
            "writes-per-s": (200.0, "likes of the watched posts, in turn"),
            "seconds": (60.0, "of these likes"),
            "seed": SEED,
        },
        push_options,
    ),
    "cluster": Command(
        cluster,
        "reads and projecting on a Redis Cluster, next to one Redis",
        {
            "seconds": (18.0, "of each lane, in three rounds"),
            "nodes": (3, "primaries, each with a replica"),
            "rate": (4_000.0, "transactions per second of a backlog, of 5 s each"),
            "seed": SEED,
        },
    ),
    "overload": Command(
        overload,
        "twice what the reader and the writer can serve: what is answered, refused, and soon as before",
        {"seconds": (120.0, "of too much, for each of the two"), "seed": SEED},
    ),
    "decode": Command(
        decode,
        "rows per second out of the binlog, next to mysql-replication",
        {"transactions": (200_000, "in the binlog, one row each"), "seed": SEED},
    ),
    "project": Command(
        project,
        "rows per second into MongoDB and Redis, next to plain bulk writes",
        {"transactions": (200_000, "in the binlog, one row each"), "seed": SEED},
    ),
    "lag": Command(
        lag.lag,
        "from the commit in MySQL to an answer of the reader, next to a floor and to Debezium (needs a JDK)",
        {
            "seconds": (60.0, "of load, in three rounds"),
            "rate": (500, "transactions per second"),
            "seed": SEED,
        },
        lag.more_options,
    ),
    "noise": Command(
        noise,
        "lag and processor time of the projector, beside tables of others in the same MySQL",
        {
            "seconds": (60.0, "of load of each kind, in three rounds"),
            "rate": (200, "transactions per second of ours"),
            "rows": (10_000, "of others per second, 50 in a transaction"),
            "seed": SEED,
        },
    ),
    "cpu": Command(
        cpu,
        "processor time per transaction of each service and server, at a steady rate",
        {"seconds": (30.0, "of load"), "rate": (200.0, "transactions per second"), "seed": SEED},
        lambda parser: parser.add_argument(
            "--through",
            choices=LOADS,
            default="writer",
            help="who writes: clients of the writer, or MySQL alone, which can do more (default: writer)",
        ),
    ),
    "snapshot": Command(
        snapshot,
        "rows per second of the first fill",
        {"rows": (200_000, "in MySQL"), "seed": SEED},
    ),
    "stages": Command(
        stages.stages,
        "what each stage of the projector costs per row, and its table in docs/performance.md",
        {"transactions": (100_000, "in the binlog, one row each"), "seed": SEED},
        show=stages.table,
    ),
    "apply": Command(
        applying.apply,
        "what APPLY pays for reading a batch back at its time, and for announcing it",
        {"repeats": (300, "of each way")},
    ),
    "peers": Command(
        peers,
        "the same backlogs through Debezium's embedded engine, and their table (needs a JDK)",
        {"rows": (200_000, "in each backlog; half as many updates"), "seed": SEED},
    ),
    "all": Command(
        everything,
        "all benchmarks of the projector and all tables of docs/performance.md (needs a JDK; takes an hour)",
        {
            "transactions": (200_000, "in the binlog, or rows to copy"),
            "seconds": (60, "of load"),
            "rate": (500, "transactions per second"),
            "seed": SEED,
        },
    ),
    "growth": Command(
        growth.growth,
        "rows per second by number of rows and MongoDB's cache, and their table in docs/performance.md",
        {"rows": (10_000_000, "in the binlog, each in a transaction of its own"), "seed": SEED},
        growth.more_options,
    ),
    "compare": Command(
        compare,
        "the same reads before and after CQRS, with JMeter and a report",
        {
            "seed": SEED,
            "threads": (8, "of JMeter"),
            "writes": (200.0, "a second, where reads compete with them"),
        },
        more_options,
        report.summary,
    ),
    "report": Command(
        report.make,
        "the report of a comparison, beside its result",
        {},
        lambda parser: parser.add_argument("result", type=Path, help="a result.json that compare wrote"),
    ),
    "readme": Command(readme.write, "README's figures, from the result that README names", {}),
    "authorizer": Command(
        authorizer,
        "what a decision of the Lambda costs, also in AWS's own runtime",
        {"decisions": (5000, "of each algorithm"), "starts": (7, "of fresh processes")},
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(arguments))
    command, as_json = COMMANDS[options.pop("command")], options.pop("json")
    checkout, show = options.pop("against"), command.show or _table
    interrupt_on_signals()
    try:
        if checkout:
            found, show = against(checkout, command.run, options), _table
        else:
            found = command.run(**options)
    except (StackError, RuntimeError, OSError) as error:
        return fail("perf", 1, error)
    except KeyboardInterrupt:
        return 130
    print(json.dumps(found) if as_json else show(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("perf", __doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help)
        own.add_argument("--json", action="store_true", help="one JSON object on the last line")
        own.add_argument(
            "--against",
            type=Path,
            metavar="CHECKOUT",
            help="three rounds here and with the services of another checkout, in turn",
        )
        for option, (default, meaning) in command.options.items():
            own.add_argument(
                f"--{option}", type=type(default), default=default, help=f"{meaning} (default: {default})"
            )
        command.more(own)
    return parser


def _table(found: Mapping[str, Any]) -> str:
    lines, width = [], max(map(len, found)) + 2
    for name, figures in found.items():
        shown = figures if isinstance(figures, dict) else {"": figures}
        lines.append(
            f"{name:{width}}" + "  ".join(f"{figure} {value!s:>8}" for figure, value in shown.items())
        )
    return "\n".join(lines)


if __name__ == "__main__":
    end_with(main)
