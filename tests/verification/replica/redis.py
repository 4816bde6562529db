"""Redis: the cache stage's APPLY and what it announces, new epochs, evictions and failovers."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.replica.connection import has_room, hear, lose
from tests.verification.replica.mongodb import mark_of, names, value
from tests.verification.replica.rules import Rules, Scenario
from tests.verification.replica.state import (
    ENTITY,
    KEYS,
    LIST,
    Message,
    Moves,
    Node,
    ReadBack,
    Sunsubscribe,
    Taken,
    Value,
    World,
    with_one,
)

EPOCHS = 4


def project(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """The cache stage takes the next batch, reads back, and applies; or it begins an empty epoch."""
    mark = world.primary.mark
    if isinstance(world.stage, Taken):
        yield from read_back(rules, scenario, world, world.stage)
    elif isinstance(world.stage, ReadBack):
        yield from apply(scenario, world, world.stage)
    elif not world.has(mark):
        yield from begin_epoch(scenario, world)
    elif mark.seq < world.last:
        to = mark_of(scenario, mark.epoch, world.history, mark.seq + 1)
        for replayed in {False, scenario.replays}:
            label = f"the stage {'replays' if replayed else 'takes'} {to.seq}"
            yield Step(label, world._replace(stage=Taken(mark, to, replayed)), True)


def read_back(rules: Rules, scenario: Scenario, world: World, taken: Taken) -> Moves:
    """At the batch's own cluster time; in a replay the entity at present, if its version is not newer."""
    to, last = taken.to, world.last
    times = [last] if taken.replayed else [min(to.seq, last)]
    if not rules.read_back_at_its_batch:
        times = [*range(min(to.seq, last), last + 1)]
    for at in times:
        found: Value | None = value(scenario, ENTITY, world.history, at)
        if found is not None and (found.content in scenario.gone or not counts(rules, world, taken, found)):
            found = None
        done = ReadBack(taken.found, to, found)
        yield Step(f"the stage reads back at {at}", world._replace(stage=done), True)
        listed = None if taken.replayed else value(scenario, LIST, world.history, at)
        if listed is not None and counts(rules, world, taken, listed):
            yield Step(
                f"the stage reads all back at {at}", world._replace(stage=done._replace(list=listed)), True
            )


def counts(rules: Rules, world: World, taken: Taken, found: Value) -> bool:
    """The read-back's session shows that the batch is in MongoDB's history."""
    ours = world.has_batch(taken.to)
    if taken.replayed:
        return found.version <= taken.to.seq and (ours or not rules.replay_asks_the_journal)
    return ours or not rules.read_back_verifies_its_batch


def apply(scenario: Scenario, world: World, ready: ReadBack) -> Moves:
    """Compare, set and announce. What is present gets the value read back, or is deleted.

    With a list, an entity that is not present gets its value, too.
    """
    label = f"APPLY {ready.to.seq}"
    if world.primary.mark.lineage != ready.found.lineage:
        yield Step(f"{label} is refused", world._replace(stage=None), True)
    elif has_room(world):
        named = names(scenario, ready.found.upto, ready.to.upto)
        entity, list_ = world.primary.entries
        fresh = named[LIST] and list_ is not None and ready.list is not None
        if named[ENTITY] and (entity is not None or fresh):
            entity = ready.value
        if named[LIST] and list_ is not None:
            list_ = ready.list
        applied = Node(ready.to, (entity, list_))
        heard = hear(world, Message(ready.found, ready.to, named))
        yield Step(label, heard._replace(primary=applied, stage=None), True)


def begin_epoch(scenario: Scenario, world: World) -> Moves:
    """SET_WATERMARK, which announces nothing. A build's first epoch is the one that its switch has named."""
    mark = world.primary.mark
    epoch = world.serving if mark.epoch < world.serving else world.serving + 1
    if epoch < EPOCHS:
        begun = Node(mark_of(scenario, epoch, world.history, world.last))
        yield Step("an epoch begins", world._replace(serving=epoch, primary=begun), True)


def faults(world: World) -> Moves:
    left, mark, entries = world.left, world.primary.mark, world.primary.entries
    if world.replica != world.primary:
        yield Step("the replica catches up", world._replace(replica=world.primary))
        over = world._replace(primary=world.replica)
        if left.failovers:
            yield Step("the replica takes over", lose(over).spend("failovers"))
        if left.demotions and world.demoted is None:
            stays = over._replace(demoted=world.primary).spend("demotions")
            yield Step("the replica takes over, connections stay", stays)
    if world.demoted is not None:
        yield Step("the demoted node loads the primary's data", world._replace(demoted=None), True)
    if left.unsubscribes and world.reader.subscribed and world.demoted is None and has_room(world):
        moved = hear(world, Sunsubscribe())._replace(primary=world.replica).with_reader(deaf=True)
        yield Step("the slots move to the replica", moved.spend("unsubscribes"))
    if left.evictions:
        for key in KEYS:
            if entries[key] is not None:
                evicted = world._replace(primary=Node(mark, with_one(entries, key, None)))
                yield Step(f"key {key} is evicted", evicted.spend("evictions"))
