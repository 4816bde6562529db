"""An explicit-state checker: every reachable state, breadth first, and the way to a broken promise."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)
A = TypeVar("A")


class Step(NamedTuple, Generic[S, A]):
    """One atomic action. `owed`: happens by itself (no owed step: a quiet state). `answer`: to a client."""

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
    """The number of states and of steps between them, and the first finding.

    `complete` is False if the limit ended the search.
    """

    states: int
    labels: frozenset[str]
    finding: Finding | None = None
    complete: bool = True


def demand_kept(name: str, outcome: Outcome, signs: Set[str] = frozenset()) -> None:
    """No promise broke in any state, and each step of `signs` was seen."""
    print(f"{name}: {outcome.states:,} states")
    assert outcome.finding is None, "\n".join([outcome.finding.invariant, *outcome.finding.trace])
    assert outcome.complete
    assert signs <= outcome.labels


def demand_broken(outcome: Outcome, promise: str) -> None:
    """This promise was the first to break."""
    assert outcome.finding is not None, f"{outcome.states:,} states, and nothing broke"
    assert outcome.finding.invariant == promise, outcome.finding.trace


@dataclass(frozen=True)
class System(Generic[S, A]):
    """A system to check. `broken_by`: the promise that a step breaks; `broken_at`: that a quiet state breaks.

    `canonical` maps equivalent states to one of them.
    """

    start: S
    steps: Callable[[S], Iterator[Step[S, A]]]
    canonical: Callable[[S], S]
    broken_by: Callable[[S, Step[S, A]], str | None]
    broken_at: Callable[[S], str | None]


def explore(system: System[S, A], limit: int = 10_000_000) -> Outcome:
    """Visits every state. The cycle collector is off: it would walk over millions of tuples in vain."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return Search(system).run(limit)
    finally:
        if collects:
            gc.enable()


def follow(system: System[S, A], script: Sequence[str]) -> Finding | None:
    """Takes the named steps in order, as far as possible. Returns the first promise that breaks."""
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


class Search(Generic[S, A]):
    """The states seen, each with its predecessor, and those whose steps have not been taken."""

    def __init__(self, system: System[S, A]) -> None:
        self.system = system
        self.before: dict[S, S | None] = {system.start: None}
        self.waiting = deque([system.start])
        self.labels: set[str] = set()

    def run(self, limit: int) -> Outcome:
        finding, complete = None, True
        while self.waiting and finding is None and complete:
            finding = self._expand(self.waiting.popleft())
            complete = len(self.before) <= limit
        return Outcome(len(self.before), frozenset(self.labels), finding, complete)

    def _expand(self, state: S) -> Finding | None:
        """Takes every step of a state."""
        system, quiet = self.system, True
        for step in system.steps(state):
            self.labels.add(step.label)
            quiet = quiet and not step.owed
            if broken := system.broken_by(state, step):
                return Finding(broken, (*self._trace(state), step.label))
            if step.state not in self.before:
                self._see(system.canonical(step.state), state)
        broken = system.broken_at(state) if quiet else None
        return Finding(broken, self._trace(state)) if broken else None

    def _see(self, state: S, before: S) -> None:
        if state not in self.before:
            self.before[state] = before
            self.waiting.append(state)

    def _trace(self, state: S) -> tuple[str, ...]:
        labels: list[str] = []
        while (before := self.before[state]) is not None:
            steps = self.system.steps(before)
            labels.append(next(step.label for step in steps if self.system.canonical(step.state) == state))
            state = before
        return tuple(reversed(labels))
