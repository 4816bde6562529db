"""A reader's partial replica as a system of atomic steps, and its promises.

`reader/` and the cache stage follow this design. The model has an entity and a list, MySQL's transactions,
MongoDB's batches, one Redis with a replica, the cache stage, and one reader process with its connection,
fills and compositions. It has no shards and no size limit (an entry that leaves is like one that never came),
and an announcement is one message (Redis sends the messages of one script together).
"""

from __future__ import annotations

from functools import partial

from tests.verification.protocol.checker import Outcome, Step, System, explore
from tests.verification.replica import composing, connection, filling, mongodb, redis
from tests.verification.replica.mongodb import content, is_open
from tests.verification.replica.rules import Rules, Scenario
from tests.verification.replica.state import KEYS, Left, Moves, Node, Told, Value, World

LOCAL_AT_TIDE = "the replica shows every key as of its tide"
CACHE_AT_WATERMARK = "Redis shows every key as of its watermark"
ONE_MOMENT = "an answer shows one moment of MySQL"
FLAGGED = "an answer says whether a transaction in parts is open"
FOLLOWS = "a connection that lives follows the watermark"
LOSES_NOTHING = "without a fault there is no reset"
ENDS = "a composition reads each part at most once"
NEVER_BACK = "a process never answers older than before"


def verify(rules: Rules, scenario: Scenario, limit: int = 10_000_000) -> Outcome:
    return explore(replica(rules, scenario), limit)


def replica(rules: Rules, scenario: Scenario) -> System[World, Told]:
    left = Left(*(getattr(scenario, fault) for fault in Left._fields))
    return System(
        World(left),
        partial(steps, rules, scenario),
        lambda world: world,
        partial(broken_by, scenario, left),
        partial(broken_at, scenario),
    )


def steps(rules: Rules, scenario: Scenario, world: World) -> Moves:
    yield from mongodb.commits(scenario, world)
    yield from mongodb.restore(scenario, world)
    yield from redis.project(rules, scenario, world)
    yield from redis.faults(world)
    yield from connection.connect(rules, world)
    yield from connection.handle(rules, world)
    yield from connection.ask(rules, scenario, world)
    yield from connection.lease(rules, scenario, world)
    yield from filling.fill(rules, scenario, world)
    yield from filling.other(rules, scenario, world)
    yield from composing.compose(rules, scenario, world)


def broken_by(scenario: Scenario, left: Left, world: World, step: Step[World, Told]) -> str | None:
    told = step.answer
    if told is not None and told.reset:
        return LOSES_NOTHING if world.left == left else None
    if told is not None and (broken := broken_answer(scenario, world, told)):
        return broken
    after = step.state
    if after.reader is not world.reader and (tide := after.reader.tide) is not None:
        if not shows(scenario, Node(tide, after.reader.local)):
            return LOCAL_AT_TIDE
        if tide.open != is_open(scenario, tide.upto):
            return FLAGGED
    if after.primary is world.primary or shows(scenario, after.primary):
        return None
    return CACHE_AT_WATERMARK


def broken_answer(scenario: Scenario, world: World, told: Told) -> str | None:
    if told.moment is None:
        raise AssertionError("an answer has a moment")
    if told.contents != tuple(content(scenario, key, told.moment.upto) for key in KEYS):
        return ONE_MOMENT
    if told.moment.upto < world.reader.told:
        return NEVER_BACK
    return ENDS if told.reads > len(KEYS) else None


def broken_at(scenario: Scenario, world: World) -> str | None:
    """In a state in which nothing more happens by itself."""
    tide = world.reader.tide
    return None if tide is not None and tide.lineage == world.primary.mark.lineage else FOLLOWS


def shows(scenario: Scenario, node: Node) -> bool:
    for key, entry in enumerate(node.entries):
        if isinstance(entry, Value) and entry.content != content(scenario, key, node.mark.upto):
            return False
    return True
