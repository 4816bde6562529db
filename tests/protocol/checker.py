"""An explicit-state checker: every state that can be reached, breadth first, and the way to a broken promise."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)
A = TypeVar("A")


class Step(NamedTuple, Generic[S, A]):
    """One atomic action. `owed`: it happens by itself; a state that owes nothing is quiet. `answer`: to a client."""

    label: str
    state: S
    owed: bool = False
    answer: A | None = None


@dataclass(frozen=True)
class Finding:
    """A promise that does not hold after the steps of `trace`."""

    invariant: str
    trace: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How many states there are, and what was found first; `complete` is False if the limit ended the search."""

    states: int
    finding: Finding | None
    complete: bool


@dataclass(frozen=True)
class System(Generic[S, A]):
    """What is checked: `broken_by` names the promise that a step breaks, `broken_at` one that a quiet state breaks.

    `canonical` maps states that are alike to one of them.
    """

    start: S
    steps: Callable[[S], Iterator[Step[S, A]]]
    canonical: Callable[[S], S]
    broken_by: Callable[[S, Step[S, A]], str | None]
    broken_at: Callable[[S], str | None]


def explore(system: System[S, A], limit: int = 3_000_000) -> Outcome:
    """Without the collector of cycles: there are none, and it would walk over millions of tuples again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return _explore(system, limit)
    finally:
        if collects:
            gc.enable()


def _explore(system: System[S, A], limit: int) -> Outcome:
    before: dict[S, S | None] = {system.start: None}
    waiting = deque([system.start])
    while waiting:
        state = waiting.popleft()
        quiet = True
        for step in system.steps(state):
            quiet = quiet and not step.owed
            if broken := system.broken_by(state, step):
                return Outcome(len(before), Finding(broken, (*_trace(system, before, state), step.label)), True)
            if step.state in before:
                continue
            following = system.canonical(step.state)
            if following not in before:
                before[following] = state
                waiting.append(following)
        if quiet and (broken := system.broken_at(state)):
            return Outcome(len(before), Finding(broken, _trace(system, before, state)), True)
        if len(before) > limit:
            return Outcome(len(before), None, False)
    return Outcome(len(before), None, True)


def _trace(system: System[S, A], before: dict[S, S | None], state: S) -> tuple[str, ...]:
    labels: list[str] = []
    while (previous := before[state]) is not None:
        labels.append(next(step.label for step in system.steps(previous) if system.canonical(step.state) == state))
        state = previous
    return tuple(reversed(labels))


def follow(system: System[S, A], script: Sequence[str]) -> Finding | None:
    """Take the named steps, one after the other, as far as they are possible; the first promise that breaks."""
    state = system.start
    for at, label in enumerate(script, start=1):
        step = next((step for step in system.steps(state) if step.label == label), None)
        if step is None:
            return None
        if broken := system.broken_by(state, step):
            return Finding(broken, tuple(script[:at]))
        state = system.canonical(step.state)
    quiet = not any(step.owed for step in system.steps(state))
    broken = system.broken_at(state) if quiet else None
    return Finding(broken, tuple(script)) if broken else None
