"""The merged strands of a cluster as a system of atomic steps, and their promises.

`reader/merging.py`, `reader/following.py` and the cache stages follow this design. The model has MySQL's
transactions, MongoDB's batches, a key in each shard of Redis, each shard's stage, a leader and a former one,
and one reader process: a strand for each shard, the tide, the replica, fills, compositions, a watch. An
announcement is one message; the checker of the replica has what one strand does by itself.
"""

from __future__ import annotations

from functools import partial

from tests.verification.protocol.checker import Outcome, Step, System, explore
from tests.verification.strands import answering, connections, mysql, shards
from tests.verification.strands.mysql import content, contents
from tests.verification.strands.rules import Rules, Scenario
from tests.verification.strands.state import Left, Moves, Node, Reader, Shard, Strand, Told, Watch, World

LOCAL_AT_TIDE = "the replica shows every key as of the tide, and none of a shard that is away"
CACHE_AT_WATERMARK = "each shard shows its key as of its watermark"
ONE_MOMENT = "an answer shows one moment of MySQL"
NEVER_BACK = "nothing is answered that is older than what was answered before"
CONTAINS_TOKEN = "an answer to a token contains its write"
AS_OF_IS_TRUE = "the tide contains all that MySQL had at its as_of"
TIDE_IS_TRUE = "a watcher of a tide has all changes up to it"
EVERY_CHANGE = "when all is quiet, a watcher has the present, and its tide"
ALL_COME_BACK = "when all is quiet, the tide is at the journal's end, with every shard that can be reached"


def verify(rules: Rules, scenario: Scenario, limit: int = 10_000_000) -> Outcome:
    return explore(strands(rules, scenario), limit)


def strands(rules: Rules, scenario: Scenario) -> System[World, Told]:
    zeros = (0,) * len(scenario.keys)
    left = Left(*(getattr(scenario, name) for name in Left._fields))
    mark = Node().mark if scenario.connected else None
    strand = Strand(mark, present=scenario.connected, connected=scenario.connected)
    reader = Reader((strand,) * len(zeros), (None,) * len(zeros), zeros, mark)
    if scenario.watched:
        reader = reader._replace(watch=Watch())
    return System(
        World(left, (Shard(),) * len(zeros), zeros, reader),
        partial(steps, rules, scenario),
        lambda world: world,
        partial(broken_by, scenario),
        partial(broken_at, scenario),
    )


def steps(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """A strand is put out when nothing else happens, or at once at the cost of a fault."""
    quiet = True
    yield from mysql.commits(scenario, world)
    for move in (shards.project, connections.follow, connections.fill, answering.watch):
        for step in move(rules, scenario, world):
            quiet = quiet and not step.owed
            yield step
    yield from shards.faults(rules, world)
    yield from answering.compose(rules, scenario, world)
    if quiet:
        yield from connections.wait(rules, world)
    elif world.left.lates:
        for step in connections.wait(rules, world):
            yield step._replace(state=step.state.spend("lates"), owed=False)


def broken_by(scenario: Scenario, world: World, step: Step[World, Told]) -> str | None:
    after = step.state
    reader = after.reader
    if reader.broken is not None:
        return reader.broken
    if reader is not world.reader and (broken := broken_reader(scenario, reader)):
        return broken
    told = step.answer
    if told is not None and (broken := broken_answer(scenario, world.reader, told)):
        return broken
    if after.shards is world.shards:
        return None
    for key, shard in enumerate(after.shards):
        mark, entry = shard.node.mark, shard.node.entry
        if (
            mark is not None
            and entry is not None
            and entry >= 0
            and entry != content(scenario, key, mark.upto)
        ):
            return CACHE_AT_WATERMARK
    return None


def broken_reader(scenario: Scenario, reader: Reader) -> str | None:
    tide = reader.tide
    if tide is not None and tide.as_of // 2 > tide.upto:
        return AS_OF_IS_TRUE
    for key, entry in enumerate(reader.local):
        at_tide = tide is not None and entry == content(scenario, key, tide.upto)
        if entry is not None and not (at_tide and reader.strands[key].present):
            return LOCAL_AT_TIDE
    return None


def broken_answer(scenario: Scenario, reader: Reader, told: Told) -> str | None:
    moment, watch = told.moment.upto, reader.watch
    if told.contents is not None and told.contents != contents(scenario, moment):
        return ONE_MOMENT
    if told.watched:
        if watch is None or moment < max(watch.moment, watch.tided):
            return NEVER_BACK
        return TIDE_IS_TRUE if told.contents is None and watch.shown != contents(scenario, moment) else None
    if moment < scenario.token:
        return CONTAINS_TOKEN
    of_life = reader.composition is None or reader.composition.of_life
    return NEVER_BACK if of_life and moment < reader.told else None


def broken_at(scenario: Scenario, world: World) -> str | None:
    """In a state in which nothing more happens by itself."""
    reader, last = world.reader, world.mark(0, world.last)
    away = [at for at in scenario.shards if world.shards[at].hung or reader.strands[at].silent]
    if len(away) == len(scenario.keys) or (away and is_overtaken(world)):
        return None
    for at, strand in enumerate(reader.strands):
        if at not in away and not (
            strand.present and strand.at is not None and strand.at.batch == last.batch
        ):
            return ALL_COME_BACK
    if reader.tide is None or reader.tide.batch != last.batch:
        return ALL_COME_BACK
    watch, upto = reader.watch, world.history[-1].upto
    if watch is not None and not away and (watch.shown != contents(scenario, upto) or watch.tided < upto):
        return EVERY_CHANGE
    return None


def is_overtaken(world: World) -> bool:
    """The tide is of a history that MongoDB has lost, and has gone further than the new one."""
    tide = world.reader.tide
    return tide is not None and not world.has(tide) and world.mark(0, world.last).batch[:2] < tide.batch[:2]
