"""The hub: which path is due, what a connection may send, and up to where a client has all changes."""

from __future__ import annotations

from tests.verification.live.mysql import first_named, gtids
from tests.verification.live.rules import Rules, Scenario
from tests.verification.live.state import Connection, Path, State, Watch, World


def is_watched(scenario: Scenario, world: World, read: int) -> bool:
    return any(
        watch.on and not connection.ended
        for connection, reads in zip(world.connections, scenario.connections, strict=True)
        for watch, of in zip(connection.watches, reads, strict=True)
        if of == read
    )


def is_due(rules: Rules, scenario: Scenario, world: World, read: int) -> bool:
    """With a tide: no state, no position, or a dependency named after it."""
    path, heard = world.paths[read], world.heard
    if path.state is None or heard is None:
        return path.state is None
    if not path.state.placed:
        return True
    if not rules.due_compares_positions:
        return path.flag
    dependencies, position = path.state.dependencies, path.state.position
    return first_named(rules, scenario, read, dependencies, position, heard) is not None


def moment_of(rules: Rules, scenario: Scenario, world: World, read: int, state: State) -> int:
    """A state that is not due is valid at the tide."""
    due = is_due(rules, scenario, world, read)
    if world.tide is None or due or not rules.quiet_state_has_the_tides_moment:
        return state.moment
    return max(world.tide, state.moment)


def may_send(rules: Rules, scenario: Scenario, connection: Connection, watch: Watch, moment: int) -> bool:
    """Nothing goes back on a connection, neither in GTIDs nor in `as_of`."""
    floor = max(connection.told, connection.tided) if rules.tides_count_as_sent else connection.told
    if not rules.one_order_for_a_connection:
        floor = -1 if watch.sent is None else watch.sent.moment
    if floor < 0:
        return True
    contains = gtids(scenario, moment) >= gtids(scenario, floor) or not rules.order_by_gtids
    return contains and (scenario.as_of[moment] >= scenario.as_of[floor] or not rules.order_by_as_of)


def complete_upto(rules: Rules, scenario: Scenario, world: World, read: int, watch: Watch) -> int:
    """The moment up to which the client of this watch has all changes."""
    heard, tide, sent = world.heard, world.tide, watch.sent
    if heard is None or tide is None:
        return -1
    if not rules.taken_is_sent and watch.waiting:
        sent = watch.waiting[-1]
    if sent is None:
        return -1 if rules.first_state_before_a_tide else tide
    if not sent.placed:
        return sent.moment if rules.reset_leaves_what_was_sent else tide
    named = first_named(rules, scenario, read, sent.dependencies, sent.position, heard)
    if named is None or not rules.tide_stops_before_what_is_due:
        return tide
    return max((named + 1) // 2 - 1, sent.moment)


def offered(rules: Rules, scenario: Scenario, world: World, at: int, watch: Watch, state: State) -> Watch:
    """A new state goes to a watch: it is what the client has, or it waits until the client takes it."""
    has = watch.known if watch.sent is None else watch.sent.body
    if has == state.body and rules.equal_body_is_not_sent:
        if watch.sent is None and not rules.known_body_is_spared:
            return watch._replace(waiting=(state,))
        sent = state if rules.equal_body_becomes_sent else watch.sent
        waiting = () if rules.equal_body_takes_the_waiting_away else watch.waiting
        return watch._replace(sent=sent, waiting=waiting)
    connection = world.connections[at]
    if not rules.refused_state_waits and not may_send(rules, scenario, connection, watch, state.moment):
        return watch
    return watch._replace(waiting=(state,) if rules.latest_replaces_the_waiting else (*watch.waiting, state))


def forgotten(scenario: Scenario, world: World, read: int) -> World:
    """A path without watchers has no state. A composition under way goes on, for whoever watches then."""
    if is_watched(scenario, world, read):
        return world
    return world.with_path(read, Path(making=world.paths[read].making))
