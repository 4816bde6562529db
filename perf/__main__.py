"""`python -m perf read [--json]`: benchmarks on real servers that are started for the run and stopped after it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from ops.stack import StackError
from ops.system import interrupt_on_signals
from perf.read import read


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reading = commands.add_parser("read", help="what one reader process can do, and what other code does")
    reading.add_argument("--seconds", type=float, default=6.0, help="per lane (default: %(default)s)")
    reading.add_argument("--seed", type=int, default=7, help="of the dataset (default: %(default)s)")
    reading.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(arguments)
    interrupt_on_signals()
    try:
        found = read(options.seconds, options.seed)
    except (StackError, RuntimeError) as error:
        print(f"perf: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(found) if options.json else _table(found))
    return 0


def _table(found: dict[str, Any]) -> str:
    lines = []
    for lane, figures in found.items():
        lines.append(f"{lane:14}" + "  ".join(f"{name} {value:>10}" for name, value in figures.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
