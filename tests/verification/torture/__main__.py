"""`make torture`: random work and faults. The last line of the output is the outcome, as JSON."""

from __future__ import annotations

import argparse
import json
import sys

from ops.stack.servers.redis_cluster import PROGRAMS
from tests.verification.torture.running import torture


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verification.torture", description=__doc__)
    parser.add_argument(
        "--duration", type=float, default=900, help="seconds of work and faults (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=7, help="of everything random (%(default)s)")
    parser.add_argument("--cluster", type=int, metavar="PRIMARIES", help="a cluster in place of one Redis")
    parser.add_argument("--engine", choices=PROGRAMS, default="redis", help="of the cluster (%(default)s)")
    options = parser.parse_args()
    cluster = (options.engine, options.cluster) if options.cluster else None
    outcome = torture(options.duration, options.seed, cluster)
    print(json.dumps(outcome.as_json()))
    return 0 if outcome.as_expected else 1


if __name__ == "__main__":
    sys.exit(main())
