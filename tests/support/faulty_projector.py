"""A projector that kills or pauses itself: `python -m tests.support.faulty_projector run`.

`AT=point:SIGNAL:count`: it signals itself when it reaches the fault point for the `count`th time; without a
count, at the first time after SIGUSR1.

With ELSEWHERE set it claims to run on another machine, so a standby cannot see whether its process lives.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import typing

from binlog_projector import fault_points
from binlog_projector.__main__ import main
from binlog_projector.fault_points import FaultPoint


class Fault:
    """Sends the signal to its own process, once. `remaining`: passes of the point until then; 0: unarmed."""

    def __init__(self, point: str, signal_name: str, count: str = "0") -> None:
        assert point in typing.get_args(FaultPoint), f"there is no fault point {point}"
        self.point = point
        self.signal = signal.Signals[signal_name]
        self.remaining = int(count)

    def arm(self, *_: object) -> None:
        self.remaining = 1

    def reached(self, point: FaultPoint) -> None:
        if point == self.point and self.remaining:
            self.remaining -= 1
            if not self.remaining:
                os.kill(os.getpid(), self.signal)


if __name__ == "__main__":
    fault = Fault(*os.environ["AT"].split(":"))
    fault_points.listener = fault.reached
    signal.signal(signal.SIGUSR1, fault.arm)
    if "ELSEWHERE" in os.environ:
        setattr(socket, "gethostname", lambda: "another-machine")  # noqa: B010 - mypy refuses an assignment
    sys.exit(main())
