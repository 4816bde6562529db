"""Connections: clients take states when they like, `tide`, ends, and watches that come and go."""

from __future__ import annotations

from tests.verification.live.hub import complete_upto, forgotten, is_due, may_send, moment_of, offered
from tests.verification.live.making import NAMES
from tests.verification.live.rules import Rules, Scenario
from tests.verification.live.state import Connection, Moves, Told, Watch, World
from tests.verification.protocol.checker import Step


def send(rules: Rules, scenario: Scenario, world: World) -> Moves:
    for at, connection in enumerate(world.connections):
        if not connection.ended:
            for place, read in enumerate(scenario.connections[at]):
                yield from take(rules, scenario, world, at, place, read)
                yield from watching(rules, scenario, world, at, place, read)
            yield from tell_tide(rules, scenario, world, at)


def take(rules: Rules, scenario: Scenario, world: World, at: int, place: int, read: int) -> Moves:
    connection = world.connections[at]
    watch = connection.watches[place]
    if not watch.waiting:
        return
    state, *rest = watch.waiting
    moment = moment_of(rules, scenario, world, read, state)
    if may_send(rules, scenario, connection, watch, moment):
        taken = watch._replace(sent=state._replace(moment=moment), waiting=tuple(rest), known=None)
        told = world.with_connection(at, connection._replace(told=moment)).with_watch(at, place, taken)
        answer = Told("state", at, place, state.body, moment)
        yield Step(f"client {at} takes {NAMES[read]} as of {moment}", told, True, answer)


def tell_tide(rules: Rules, scenario: Scenario, world: World, at: int) -> Moves:
    """The least of the tide and of what each watch has, if it is later than the last."""
    connection = world.connections[at]
    watches = [
        (watch, read)
        for watch, read in zip(connection.watches, scenario.connections[at], strict=True)
        if watch.on
    ]
    if world.tide is None or not watches:
        return
    if not rules.tide_flows_while_something_is_due and any(
        watch.waiting or is_due(rules, scenario, world, read) for watch, read in watches
    ):
        return
    asked = watches if rules.tide_asks_every_watch else watches[-1:]
    moment = min(world.tide, *(complete_upto(rules, scenario, world, read, watch) for watch, read in asked))
    floor = connection.tided if rules.states_hold_no_tide_back else max(connection.told, connection.tided)
    later = moment > connection.tided and moment >= floor
    if later or (0 <= moment < connection.tided and not rules.tides_are_in_order):
        told = world.with_connection(at, connection._replace(tided=moment))
        yield Step(f"tide {moment} to client {at}", told, True, Told("tide", at, moment=moment))


def end(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """Nothing else happens, and something is still refused: 10 s are over."""
    if not rules.refused_too_long_ends or world.tide is None:
        return
    for at, connection in enumerate(world.connections):
        last = max(connection.told, connection.tided)
        refused = last > world.tide or any(watch.waiting for watch in connection.watches)
        if refused and not connection.ended:
            over = Connection(tuple(Watch(False) for _ in connection.watches), ended=True)
            left = world.with_connection(at, over)
            for read in scenario.connections[at]:
                left = forgotten(scenario, left, read)
            yield Step(f"the stream of client {at} ends", left, True, Told("end", at, moment=last))


def watching(rules: Rules, scenario: Scenario, world: World, at: int, place: int, read: int) -> Moves:
    """A client stops to watch, and begins again, with or without the ETag of what it has."""
    watch, name = world.connections[at].watches[place], NAMES[read]
    if watch.on:
        if world.left.unwatches:
            has = watch.known if watch.sent is None else watch.sent.body
            off = world.with_watch(at, place, Watch(False, known=has))
            yield Step(f"client {at} unwatches {name}", forgotten(scenario, off, read).spend("unwatches"))
        return
    for known in {None, watch.known}:
        begun, state = Watch(True, known=known), world.paths[read].state
        if state is not None:
            begun = offered(rules, scenario, world, at, begun, state)
        label = f"client {at} watches {name}" + (" from its ETag" if known is not None else "")
        yield Step(label, world.with_watch(at, place, begun))
