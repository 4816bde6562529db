"""A projector without room on MongoDB's disk: `python -m tests.verification.faults.full_disk rebuild`."""

from __future__ import annotations

import sys
from dataclasses import replace

from binlog_projector.__main__ import main
from binlog_projector.stores.control_store import ControlStore, Needs


def needs_without_room(control: ControlStore, build: int) -> Needs:
    found = needs(control, build)
    return replace(found, free_bytes=found.disk_bytes - 1)


needs = ControlStore.needs
setattr(ControlStore, "needs", needs_without_room)  # noqa: B010 - mypy refuses a plain assignment to a method

if __name__ == "__main__":
    sys.exit(main())
