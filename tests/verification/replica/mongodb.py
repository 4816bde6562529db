"""MongoDB: its batches, what a read finds at each of them, and a restore."""

from __future__ import annotations

from functools import cache

from tests.verification.protocol.checker import Step
from tests.verification.replica.rules import CHANGED, UNTOUCHED, Scenario
from tests.verification.replica.state import ENTITY, Batch, Mark, Moves, Value, World


@cache
def content(scenario: Scenario, key: int, upto: int) -> int:
    """The last transaction up to `upto` that changed the key; 0: none did."""
    effects = scenario.entity if key == ENTITY else scenario.list
    return max((at for at in range(1, upto + 1) if effects[at - 1] == CHANGED), default=0)


@cache
def names(scenario: Scenario, after: int, upto: int) -> tuple[bool, bool]:
    """Which keys a batch of the transactions from `after` to `upto` names."""
    entity, list_ = (effects[after:upto].strip(UNTOUCHED) for effects in (scenario.entity, scenario.list))
    return bool(entity), bool(list_)


@cache
def value(scenario: Scenario, key: int, history: tuple[Batch, ...], at: int) -> Value:
    """The key as of batch `at`. An entity has the version of its last change; others have `at`."""
    found = content(scenario, key, history[at].upto)
    if key != ENTITY or found in scenario.gone:
        return Value(found, at)
    changed = (seq for seq in range(1, at + 1) if history[seq - 1].upto < found <= history[seq].upto)
    return Value(found, next(changed, 0))


def is_open(scenario: Scenario, upto: int) -> bool:
    return upto in scenario.open


def mark_of(scenario: Scenario, epoch: int, history: tuple[Batch, ...], seq: int) -> Mark:
    batch = history[seq]
    return Mark(epoch, seq, batch.id, batch.upto, is_open(scenario, batch.upto))


def commits(scenario: Scenario, world: World) -> Moves:
    """A batch of one or two transactions, an empty one by a new leader, or the first one of a new build.

    MongoDB is at most two batches ahead of Redis.
    """
    upto, mark = world.history[-1].upto, world.primary.mark
    if world.last < scenario.batches and not (world.has(mark) and world.last - mark.seq >= 2):
        for to in range(upto + 1, min(upto + 2, scenario.transactions) + 1):
            yield Step(f"MongoDB commits up to {to}", committed(world, to))
        if world.left.takeovers:
            yield Step("a takeover", committed(world, upto).spend("takeovers"))
        if world.left.rebuilds:
            for to in {upto, min(upto + 1, scenario.transactions)}:
                built = committed(world, to, of_new_build=True).spend("rebuilds")
                yield Step(f"a new build serves up to {to}", built._replace(serving=world.serving + 1))


def committed(world: World, upto: int, of_new_build: bool = False) -> World:
    return world._replace(history=(*world.history, Batch(world.ids, upto, of_new_build)), ids=world.ids + 1)


def restore(scenario: Scenario, world: World) -> Moves:
    """Back to an earlier batch of the same build."""
    if world.left.restores:
        for seq in range(world.last):
            if not any(batch.of_new_build for batch in world.history[seq + 1 :]):
                restored = world._replace(history=world.history[: seq + 1]).spend("restores")
                yield Step(f"MongoDB is restored to {seq}", restored)
