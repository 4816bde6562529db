"""The limit of open files, for benchmarks of many connections."""

from __future__ import annotations

import resource

SPARE_FILES = 200


def allow_files(connections: int) -> None:
    """Raise the limit of open files for us and our children. Raises RuntimeError if that is forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE_FILES
    if soft >= needed:
        return
    if hard < needed:
        raise RuntimeError(
            f"{connections} connections need {needed} open files; the limit (ulimit -Hn) is {hard}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
