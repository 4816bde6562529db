"""What can go wrong with the local stack, each named by what the reader of the message has to look at."""

from pathlib import Path

TAIL_LINES = 20


class StackError(Exception):
    """Anything that kept the local stack from doing what was asked; the message is meant for a terminal."""


class ServerFailed(StackError):
    """A server did not become ready.

    `server` is its name, `log_path` its whole log, `tail` the last lines of that log.
    """

    def __init__(self, server: str, reason: str, log_path: Path) -> None:
        self.server = server
        self.log_path = log_path
        self.tail = _last_lines(log_path)
        super().__init__(f"{server} {reason}; last lines of {log_path}:\n{self.tail}")


class PortTaken(StackError):
    """The port a server was to listen on is in use."""

    def __init__(self, server: str, port: int) -> None:
        super().__init__(
            f"{server} cannot start: port {port} is taken; stop what listens there or ask for another"
        )


class ProgramMissing(StackError):
    """No usable program for a server: none on PATH and none could be downloaded."""


class DownloadFailed(StackError):
    """A download or its verification did not succeed; what arrived is kept and the next run continues from it."""


class NotOurs(StackError):
    """A server given by URL was to be started, stopped or disturbed; only servers of this stack can be."""


def _last_lines(log_path: Path) -> str:
    if not log_path.exists():
        return "(no log was written)"
    lines = log_path.read_text(errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:]) or "(the log is empty)"
