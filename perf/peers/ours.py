"""`python -m perf.peers.ours GTID_SET ROWS`: our reader counts the rows of a backlog, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time

from perf.decode import Backlog, reader_of
from tidemark.gtid import GtidSet


def main(url: str, start: str, rows: int) -> None:
    reader, found, began = reader_of(Backlog(url, GtidSet.parse(start), rows)), 0, time.perf_counter()
    while found < rows:
        found += sum(len(transaction.changes) for transaction in reader.read())
    print(json.dumps({"rows": found, "seconds": time.perf_counter() - began}))
    reader.close()


if __name__ == "__main__":
    main(os.environ["PEER_MYSQL_URL"], sys.argv[1], int(sys.argv[2]))
