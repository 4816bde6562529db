"""The errors of reads, each named by what to do."""

from __future__ import annotations

from collections.abc import Mapping

from reader.parts import Origin
from tidemark.problem import Problem


class CacheBypassed(Exception):
    """The cache cannot be used now: read MongoDB and fill nothing. `origin` says why."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin.cache_status)
        self.origin = origin


class MomentGone(Exception):
    """MongoDB does not have this moment: its history has another one, or none that old. Read at present."""


class DocumentsUnavailable(Exception):
    """MongoDB gives no documents now: answer from the cache, else 503. MongoDB may be back within seconds."""


class ReadModelMissing(DocumentsUnavailable):
    """MongoDB answers, but no build serves yet: start the projector, or wait for its first snapshot."""


NOTHING = "not-found", "There is nothing here."  # the type and detail of a 404


def no_such(kind: str) -> tuple[str, str]:
    return "not-found", f"There is no such {kind}."


def not_found(code: str, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    return Problem(404, code, detail, headers=headers)


def stores_unavailable() -> Problem:
    detail = "The data cannot be read now; try again."
    return Problem(503, "stores-unavailable", detail, headers={"retry-after": "1"})
