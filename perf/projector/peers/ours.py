"""`python -m perf.projector.peers.ours GTID_SET ROWS`: our reader counts a backlog in its own process."""

from __future__ import annotations

import json
import os
import sys
import time

from perf.projector.backlog import Backlog
from tidemark.gtid import GtidSet


def main(url: str, start: str, rows: int) -> None:
    began = time.perf_counter()
    found = Backlog(url, GtidSet.parse(start), rows).count()
    print(json.dumps({"rows": found, "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(os.environ["PEER_MYSQL_URL"], sys.argv[1], int(sys.argv[2]))
