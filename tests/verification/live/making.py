"""The hub makes the state of a path: at the tide, holding its moment, or at present."""

from __future__ import annotations

from tests.verification.live.hub import is_due, is_watched, offered
from tests.verification.live.mysql import body_at, content, dependencies_at, first_named
from tests.verification.live.rules import FEED, FOLLOWEES, POST, READS, Rules, Scenario
from tests.verification.live.state import Making, Moves, Path, State, Told, World
from tests.verification.live.tide import here
from tests.verification.protocol.checker import Step

NAMES = {FEED: "the feed", POST: "the post"}
HELD = {(FEED, 1): (FOLLOWEES,)}  # keys that a composition has, by read and level


def make(rules: Rules, scenario: Scenario, world: World) -> Moves:
    for read in READS:
        path, name = world.paths[read], NAMES[read]
        if path.making is not None:
            yield from go_on(rules, scenario, world, read, path.making)
        elif is_watched(scenario, world, read):
            if world.tide is not None and not world.blind:
                if is_due(rules, scenario, world, read):
                    begun = Making(world.tide, here(rules, world), True)
                    yield step(f"{name} is begun at {world.tide}", world, read, begun)
            elif path.state is None or not (path.state.placed or rules.due_waits_for_a_tide):
                yield step(f"{name} is begun at present", world, read, at_present(rules, world))


def step(label: str, world: World, read: int, begun: Making) -> Step[World, Told]:
    made = world.with_path(read, world.paths[read]._replace(making=begun))
    return Step(label, made, True, Told("make", read))


def at_present(rules: Rules, world: World) -> Making:
    return Making(None, here(rules, world), world.heard is not None, present=True)


def go_on(rules: Rules, scenario: Scenario, world: World, read: int, making: Making) -> Moves:
    path, name = world.paths[read], NAMES[read]
    if making.present and making.moment is None:
        found = path._replace(making=making._replace(moment=world.last))
        yield Step(f"{name} is read at {world.last}", world.with_path(read, found), True)
        return
    if making.moment is None:
        raise AssertionError("a composition at the tide has a moment")
    if read == FEED and making.level == 0 and not making.present:
        deeper = path._replace(making=making._replace(level=1))
        yield Step("followees are read", world.with_path(read, deeper), True)
    else:
        yield Step(f"{name} is made", made(rules, scenario, world, read, making, making.moment), True)
    if making.present:
        return
    if making.placed and world.tide is not None and making.moment != world.tide and world.heard is not None:
        held = HELD.get((read, making.level), ())
        if first_named(rules, scenario, read, held, making.position, world.heard) is None:
            moved = making._replace(moment=world.tide, position=here(rules, world))
            yield Step(f"{name} moves on", world.with_path(read, path._replace(making=moved)))
    if world.left.presents:
        session = path._replace(making=at_present(rules, world))
        yield Step(f"{name} at present instead", world.with_path(read, session).spend("presents"))


def made(rules: Rules, scenario: Scenario, world: World, read: int, making: Making, moment: int) -> World:
    """State, moment, position and dependencies are replaced together, and every watch hears of it."""
    if not is_watched(scenario, world, read):
        return world.with_path(read, Path())
    state = composed(rules, scenario, world, read, making, moment)
    done = world.with_path(read, Path(state))
    for at, (connection, reads) in enumerate(zip(world.connections, scenario.connections, strict=True)):
        for place, (watch, of) in enumerate(zip(connection.watches, reads, strict=True)):
            if of == read and watch.on and not connection.ended:
                done = done.with_watch(at, place, offered(rules, scenario, done, at, watch, state))
    return done


def composed(rules: Rules, scenario: Scenario, world: World, read: int, making: Making, moment: int) -> State:
    former, marked = world.paths[read].state, moment
    dependencies = dependencies_at(scenario, read, moment)
    if not rules.absences_are_dependencies:
        dependencies = tuple(key for key in dependencies if content(scenario, key, moment))
    if making.present and not rules.heads_are_dependencies_at_present and read == FEED:
        dependencies = (FOLLOWEES,)
    if former is not None and not rules.dependencies_are_replaced:
        dependencies = former.dependencies
    position, placed = making.position, making.placed
    ends = rules.present_counts_from_its_start if making.present else rules.position_is_the_moments
    if not ends and placed:
        position = here(rules, world)
    if making.present and not rules.present_has_its_own_moment and world.tide is not None:
        marked = world.tide
    return State(body_at(scenario, read, moment), marked, dependencies, position, placed)
