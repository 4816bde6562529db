"""The errors of the local stack, each named by the part to look at."""

from pathlib import Path

TAIL_LINES = 20


class StackError(Exception):
    """The local stack could not do as told; the message is meant for a terminal."""


class ServerFailed(StackError):
    """A process failed to start, or ended. `log_path`: its whole log; the reason stands below its `tail`."""

    def __init__(self, server: str, reason: str, log_path: Path) -> None:
        self.server = server
        self.log_path = log_path
        self.tail = last_lines(log_path)
        self.reason = f"{server} {reason}"
        lines = [f"last lines of {log_path}:", self.tail] if self.tail else []
        super().__init__("\n".join([*lines, self.reason]))


class PortTaken(StackError):
    """The port of a server is in use."""

    def __init__(self, server: str, port: int) -> None:
        super().__init__(
            f"{server} cannot start: port {port} is taken; stop what listens there or ask for another"
        )


class ProgramMissing(StackError):
    """A server has no usable program: there is none on PATH and none to download."""


class DownloadFailed(StackError):
    """A download or its verification failed; the next run continues with the received files."""


class NotOurs(StackError):
    """A server given by URL cannot be started, stopped or disturbed: only servers of this stack can."""


def last_lines(log_path: Path) -> str:
    """Of a log, for people; "" if there is none."""
    lines = log_path.read_text(errors="replace").splitlines() if log_path.exists() else []
    return "\n".join(lines[-TAIL_LINES:])
