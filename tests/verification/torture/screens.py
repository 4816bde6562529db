"""Judges what a watcher is told: each state, and with each `tide` its screen, by MySQL's history."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.verification.torture.judge import Answer, Judge
from tests.verification.torture.watchers import Had, Left, Tide, Told
from tidemark.gtid import EMPTY

WRONGS = ("missed", "backwards", "older_than_said")


def wrongs(judge: Judge, told: Sequence[Told]) -> Iterator[tuple[str, Answer]]:
    """Of one connection.

    `older_than_said`: a state is not what MySQL was at any moment since its as_of. `backwards`: it is older
    than a state before, or an as_of is earlier than one before; only a `tide` may be earlier than a state.
    `missed`: with a `tide`, a read on the screen is not what MySQL was at any moment since its as_of.
    """
    screen = Screen(judge)
    for one in told:
        match one:
            case Had(state):
                screen.shown[state.path] = _decoded(state)
            case Left(path):
                screen.shown.pop(path, None)
            case Tide():
                yield from screen.tide(one)
            case Answer():
                yield from screen.state(_decoded(one))


class Screen:
    """The latest state of each read."""

    def __init__(self, judge: Judge) -> None:
        self.shown: dict[str, Answer] = {}
        self._judge = judge
        self._tide = ""
        self._as_of = ""  # the latest of all
        self._point = 0  # of the history

    def state(self, state: Answer) -> Iterator[tuple[str, Answer]]:
        self.shown[state.path] = state
        point = self._judge.point(state, self._point)
        if point is None and not self._judge.allows(state):
            yield "older_than_said", state
        elif point is None or state.as_of < self._as_of:
            yield "backwards", state
        self._point, self._as_of = point or self._point, max(self._as_of, state.as_of)

    def tide(self, tide: Tide) -> Iterator[tuple[str, Answer]]:
        if tide.as_of < self._tide:
            yield "backwards", Answer("", None, **tide._asdict())
        for state in self.shown.values():
            then = replace(state, as_of=tide.as_of, received=tide.received, token=EMPTY)
            if not self._judge.allows(then):
                yield "missed", then
        self._tide, self._as_of = tide.as_of, max(self._as_of, tide.as_of)


def _decoded(state: Answer) -> Answer:
    return replace(state, body=json.loads(state.body)) if state.body is not None else state
