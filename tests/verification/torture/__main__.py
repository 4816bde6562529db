"""`make torture`: random work and faults. The last line of the output is the outcome, as JSON.

A run of half an hour or more without --cluster is of two systems side by side: one has a single Redis, the
other a cluster of three primaries.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ops.stack.servers.redis_cluster import FEWEST_PRIMARIES, PROGRAMS
from tests.verification.torture.outcome import LONG_SECONDS, together
from tests.verification.torture.plot import plotted
from tests.verification.torture.running import side_by_side, torture


def clusters_of(seconds: float, engine: str, primaries: int | None) -> list[tuple[str, int] | None]:
    """Engine and primaries of each system that is tortured; None for a single Redis."""
    if primaries is not None:
        return [(engine, primaries)]
    return [None, (engine, FEWEST_PRIMARIES)] if seconds >= LONG_SECONDS else [None]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verification.torture", description=__doc__)
    parser.add_argument(
        "--duration", type=float, default=900, help="seconds of work and faults (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=7, help="of everything random (%(default)s)")
    parser.add_argument("--cluster", type=int, metavar="PRIMARIES", help="a cluster in place of one Redis")
    parser.add_argument("--engine", choices=PROGRAMS, default="redis", help="of the cluster (%(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="memory and open files over time, as SVG")
    options = parser.parse_args()
    clusters = clusters_of(options.duration, options.engine, options.cluster)
    if len(clusters) == 1:
        outcomes = [torture(options.duration, options.seed, *clusters)]
    else:
        outcomes = side_by_side(options.duration, options.seed, clusters)
    line = together(outcomes) if len(outcomes) > 1 else outcomes[0].as_json()
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(plotted({one.system: one.samples for one in outcomes}))
    print(json.dumps(line))
    return 0 if all(one.as_expected for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
