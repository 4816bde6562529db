"""MySQL's transactions and MongoDB's batches: commits, a takeover, a rebuild, a restore."""

from __future__ import annotations

from functools import cache

from tests.verification.protocol.checker import Step
from tests.verification.strands.rules import CHANGED, Scenario
from tests.verification.strands.state import Batch, Former, Moves, World


@cache
def content(scenario: Scenario, key: int, upto: int) -> int:
    """The last transaction up to `upto` that changed the key; 0: none did."""
    return scenario.keys[key].rfind(CHANGED, 0, upto) + 1


@cache
def contents(scenario: Scenario, upto: int) -> tuple[int, ...]:
    return tuple(content(scenario, key, upto) for key in scenario.shards)


@cache
def is_named(scenario: Scenario, key: int, after: int, upto: int) -> bool:
    return CHANGED in scenario.keys[key][after:upto]


def commits(scenario: Scenario, world: World) -> Moves:
    """A batch of one or two transactions, or an empty one by a new leader."""
    batch, left = world.history[-1], world.left
    if world.last < scenario.batches:
        for upto in range(batch.upto + 1, min(batch.upto + 2, scenario.transactions) + 1):
            yield Step(f"MongoDB commits up to {upto}", committed(world, batch.build, upto))
        if left.takeovers:
            yield Step("a takeover", committed(talking(world, "takeovers"), batch.build, batch.upto))
    if left.rebuilds:
        yield from rebuild(scenario, talking(world, "rebuilds"), batch)
    for seq in range(world.last if left.restores else 0):
        if world.history[seq].build == batch.build:
            restored = talking(world, "restores")._replace(history=world.history[: seq + 1])
            yield Step(f"MongoDB is restored to {seq}", restored)
    if world.former is not None:
        yield Step("the former leader ends", world._replace(former=None))


def rebuild(scenario: Scenario, world: World, batch: Batch) -> Moves:
    """The first batch of a new build. It may have the number that another one has in the former build."""
    if world.last < scenario.batches:
        yield Step("a new build serves", committed(world, batch.build + 1, batch.upto))
    if world.last:
        beside = world._replace(history=world.history[:-1])
        yield Step("a new build serves beside", committed(beside, batch.build + 1, batch.upto))


def talking(world: World, fault: str) -> World:
    """The leader of now talks on, with what it knows."""
    return world._replace(former=Former(world.history, world.epochs)).spend(fault)


def committed(world: World, build: int, upto: int) -> World:
    return world._replace(history=(*world.history, Batch(build, world.ids, upto)), ids=world.ids + 1)
