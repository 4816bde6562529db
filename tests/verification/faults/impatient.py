"""A projector that waits 2 s for a server to catch up, instead of 30. It starts like the real one."""

from __future__ import annotations

import sys

from binlog_projector.__main__ import main
from binlog_projector.mysql import failover

failover.PATIENCE_SECONDS = 2.0

if __name__ == "__main__":
    sys.exit(main())
