"""The hub of live reads as a system of atomic steps, and its promises.

The model has MySQL's history of three keys, a MongoDB that may be ahead, the tide of one reader process, and
its hub: paths, compositions, connections, watches. A part that a composition reads is always of its moment:
the checker of the replica holds that. Batches continue one history, so a moment stands for a GTID set. Time
passes when nothing else happens: a stream ends for a refused state only then.
"""

from __future__ import annotations

from functools import partial

from tests.verification.live import making, sending, tide
from tests.verification.live.mysql import body_at, first_named, gtids
from tests.verification.live.rules import READS, Rules, Scenario
from tests.verification.live.state import Connection, Left, Moves, Path, Told, Watch, World
from tests.verification.protocol.checker import Outcome, Step, System, explore

EVERY_CHANGE = "when all is quiet, every watcher has the present, or its stream has ended"
NEVER_BACK = "nothing is sent that is older than what was sent before on the connection"
TIDE_IS_TRUE = "all changes up to a tide that is sent have been sent"
TIDE_FLOWS = "a tide is held back only by what has not been sent"
TIDE_COMES = "when all is quiet, the tide has come to every connection"
ITS_MOMENT = "a state is what MySQL was at its moment"
BOUNDED = "at most one state waits per watch"
NOT_IN_VAIN = "nothing is made or sent in vain"
NO_NEEDLESS_END = "a stream ends only if the process lacks what it has sent"


def verify(rules: Rules, scenario: Scenario, limit: int = 10_000_000) -> Outcome:
    return explore(hub(rules, scenario), limit)


def hub(rules: Rules, scenario: Scenario) -> System[World, Told]:
    left = Left(*(getattr(scenario, fault) for fault in Left._fields))
    connections = tuple(
        Connection(tuple(Watch((at, place) not in scenario.late) for place in range(len(reads))))
        for at, reads in enumerate(scenario.connections)
    )
    return System(
        World(left, scenario.batches, tuple(Path() for _ in READS), connections),
        partial(steps, rules, scenario),
        lambda world: world,
        partial(broken_by, rules, scenario, left),
        partial(broken_at, scenario),
    )


def steps(rules: Rules, scenario: Scenario, world: World) -> Moves:
    quiet = True
    for move in (tide.flow, making.make, sending.send):
        for step in move(rules, scenario, world):
            quiet = quiet and not step.owed
            yield step
    if quiet:
        yield from sending.end(rules, scenario, world)


def broken_by(
    rules: Rules, scenario: Scenario, left: Left, world: World, step: Step[World, Told]
) -> str | None:
    told = step.answer
    if any(len(watch.waiting) > 1 for one in step.state.connections for watch in one.watches):
        return BOUNDED
    if told is None:
        return None
    if told.kind == "make":
        return NOT_IN_VAIN if in_vain(rules, scenario, left, world, told.at) else None
    connection = world.connections[told.at]
    if told.kind == "end":
        return NO_NEEDLESS_END if world.tide is not None and world.tide >= told.moment else None
    last = connection.tided if told.kind == "tide" else max(connection.told, connection.tided)
    if last >= 0 and is_before(scenario, told.moment, last):
        return NEVER_BACK
    if told.kind == "state":
        return broken_state(rules, scenario, world, step.state, told)
    return None if has_all(scenario, connection, told) else TIDE_IS_TRUE


def is_before(scenario: Scenario, moment: int, other: int) -> bool:
    lacks = gtids(scenario, moment) < gtids(scenario, other)
    return lacks or scenario.as_of[moment] < scenario.as_of[other]


def broken_state(rules: Rules, scenario: Scenario, world: World, after: World, told: Told) -> str | None:
    read, watch = scenario.connections[told.at][told.place], world.connections[told.at].watches[told.place]
    if told.body != body_at(scenario, read, told.moment):
        return ITS_MOMENT
    if told.body == (watch.known if watch.sent is None else watch.sent.body):
        return NOT_IN_VAIN
    connection, tide = after.connections[told.at], after.tide
    sent = [-1 if watch.sent is None else watch.sent.moment for watch in connection.watches if watch.on]
    flows = any(sending.tell_tide(rules, scenario, after, told.at))
    return None if flows or tide is None or min(tide, *sent) <= connection.tided else TIDE_FLOWS


def has_all(scenario: Scenario, connection: Connection, told: Told) -> bool:
    """The clients of all watches have what their reads showed up to the moment."""
    for watch, read in zip(connection.watches, scenario.connections[told.at], strict=True):
        sent = watch.sent
        if watch.on and sent is None:
            return False
        lacks = sent is not None and sent.moment < told.moment
        if sent is not None and lacks and sent.body != body_at(scenario, read, told.moment):
            return False
    return True


def in_vain(rules: Rules, scenario: Scenario, left: Left, world: World, read: int) -> bool:
    """A state is made again without a tide; or without a reset before it and a name after it."""
    state, heard = world.paths[read].state, world.heard
    if state is None:
        return False
    if heard is None or world.blind:
        return True
    if (world.left.failovers, world.left.losses) != (left.failovers, left.losses):
        return False
    return first_named(rules, scenario, read, state.dependencies, state.position, heard) is None


def broken_at(scenario: Scenario, world: World) -> str | None:
    """In a state in which nothing more happens by itself."""
    for connection, reads in zip(world.connections, scenario.connections, strict=True):
        watches = [(watch, read) for watch, read in zip(connection.watches, reads, strict=True) if watch.on]
        for watch, read in watches:
            if watch.sent is None or watch.sent.body != body_at(scenario, read, world.last):
                return EVERY_CHANGE
        if watches and connection.tided != world.last:
            return TIDE_COMES
    return None
