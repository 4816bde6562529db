"""One client's interest in one read: what the client has of it, and what it lacks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from reader.live.hub import Hub
from reader.live.watch import State, Touch, Turn, Watched, contains
from reader.read_model.cached_values import Watermark


class Client(Protocol):
    """Of `pending` it lacks the latest state."""

    pending: dict[Subscription, None]

    def wake(self) -> object: ...

    def offer(self, subscription: Subscription, turn: Turn) -> None:
        """Its read may have another state."""


class Subscription:
    """`sent`: what the client has, and as of when."""

    def __init__(
        self,
        hub: Hub,
        watched: Watched,
        path: str,
        client: Client,
        *,
        minimal: bool,
    ) -> None:
        self.path = path
        self.minimal = minimal
        self.sent: tuple[State, Watermark] | None = None
        self._client = client
        self._pending = client.pending
        self.watch = hub.watch(watched, self)

    def begin(self, known: Collection[str]) -> None:
        """Send the present state, unless the client has one of that ETag."""
        state = self.watch.state
        assert state is not None
        if state.etag and state.etag in known:
            self.has(state, state.moment)
        else:
            self._pending[self] = None
        self._client.wake()

    def has(self, state: State, moment: Watermark) -> None:
        self.sent = state, moment
        self._pending.pop(self, None)

    def state(self, tide: Watermark | None) -> tuple[State, Watermark]:
        """The latest state, and the moment at which it is valid: the tide, unless the watch is due."""
        state = self.watch.state
        assert state is not None
        if tide is not None and self.watch.before is None and contains(tide, state.moment):
            return state, tide
        return state, state.moment

    def complete_to(self, tide: Watermark) -> Watermark | None:
        """The moment up to which this client has all that changes the read; of equal GTIDs, the later."""
        if self.sent is None:
            return None
        lacks = self.lacks
        moment, own = self.watch.before or tide if lacks is None else lacks.before, self.sent[1]
        return own if own.as_of > moment.as_of and contains(own, moment) else moment

    @property
    def lacks(self) -> Touch | None:
        """The first batch that this client lacks, if there is another state than it has."""
        return None if self.sent is None or self.sent[0] is self.watch.state else self.sent[0].lacks

    def is_pending(self) -> bool:
        """Whether there is a state to send."""
        state = self.watch.state
        if self.sent is None or state is None or self.sent[0] is state:
            return self in self._pending
        if state.shows_as(self.sent[0]):
            self.has(state, self.sent[1])
            return False
        self._pending[self] = None
        return True

    def tell(self, turn: Turn) -> None:
        self._client.offer(self, turn)
