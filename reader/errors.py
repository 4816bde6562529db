"""What can go wrong while reading, each named by what to do about it."""

from __future__ import annotations

from reader.parts import Origin


class CacheBypassed(Exception):
    """Nothing can come from the cache now: read MongoDB and fill nothing. `origin` says why."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(origin.cache_status)
        self.origin = origin


class DocumentsUnavailable(Exception):
    """MongoDB gives no documents now: answer what the cache has, else 503; it may be back within seconds."""


class ReadModelMissing(DocumentsUnavailable):
    """MongoDB answers, but no build serves yet: start the projector, or wait for its first snapshot."""
