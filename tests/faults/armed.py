"""A projector that kills or pauses itself: `python -m tests.faults.armed run`, AT=point:SIGNAL.

It is armed by SIGUSR1, or from the start if ARMED is set.

It says that it runs on another machine, so that a standby cannot see whether its process is alive, unless SEEN is set.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence

from pymongo import monitoring

from binlog_projector.__main__ import main
from binlog_projector.cache import CacheStage
from binlog_projector.document_store import DocumentStore
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint, Position

POINT, NAME = os.environ["AT"].split(":")
armed = threading.Event()
if "ARMED" in os.environ:
    armed.set()


def reached(point: str) -> None:
    """Send ourselves the signal if this is the point, once."""
    if point == POINT and armed.is_set():
        armed.clear()
        os.kill(os.getpid(), signal.Signals[NAME])


class CommitListener(monitoring.CommandListener):
    """Sees the commit before it is sent."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "commitTransaction":
            reached("inside_transaction")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Too late."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """The product's business."""


def send_when_reached(
    stage: CacheStage, watermark: Watermark, following: Checkpoint, values: Mapping[str, bytes], others: Sequence[str]
) -> None:
    reached("before_apply" if values else "before_tick")
    send(stage, watermark, following, values, others)


def serve_when_reached(documents: DocumentStore, former: Position | None, as_of: str) -> None:
    reached("before_switch")
    serve(documents, former, as_of)
    reached("after_switch")


serve = DocumentStore.serve
setattr(DocumentStore, "serve", serve_when_reached)  # noqa: B010
send = CacheStage._send
setattr(CacheStage, "_send", send_when_reached)  # noqa: B010 - mypy refuses a plain assignment to a method
if "SEEN" not in os.environ:
    setattr(socket, "gethostname", lambda: "another-machine")  # noqa: B010
monitoring.register(CommitListener())
signal.signal(signal.SIGUSR1, lambda *_: armed.set())

if __name__ == "__main__":
    sys.exit(main())
