"""The errors of the local stack, each named by the part to look at."""

from pathlib import Path

TAIL_LINES = 20


class StackError(Exception):
    """The local stack could not do as told; the message is meant for a terminal."""


class ServerFailed(StackError):
    """A server did not become ready. `log_path` is its whole log, `tail` the last lines."""

    def __init__(self, server: str, reason: str, log_path: Path) -> None:
        self.server = server
        self.log_path = log_path
        self.tail = _last_lines(log_path)
        super().__init__(f"{server} {reason}; last lines of {log_path}:\n{self.tail}")


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


def _last_lines(log_path: Path) -> str:
    if not log_path.exists():
        return "(no log was written)"
    lines = log_path.read_text(errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:]) or "(the log is empty)"
