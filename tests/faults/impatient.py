"""A projector that waits for 2 s for a server to catch up, instead of 30: `python -m tests.faults.impatient run`."""

from __future__ import annotations

import sys

from binlog_projector import failover
from binlog_projector.__main__ import main

failover.PATIENCE_SECONDS = 2.0

if __name__ == "__main__":
    sys.exit(main())
