"""MongoDB's commits and the tide: late messages, silence, failovers, and a batch that MySQL loses."""

from __future__ import annotations

from collections.abc import Callable

from tests.verification.live.mysql import first_named
from tests.verification.live.rules import Rules, Scenario
from tests.verification.live.state import Making, Moves, Path, State, World
from tests.verification.protocol.checker import Step

AHEAD = 2  # batches that MongoDB may be ahead of the tide; a bound of the model
UNBORN = -1  # a position that the next tide gives; only without a rule


def flow(rules: Rules, scenario: Scenario, world: World) -> Moves:
    heard, tide = world.heard, world.tide
    if world.last < world.end and (tide is None or world.last - tide < AHEAD):
        yield Step(f"MongoDB commits {world.last + 1}", world._replace(last=world.last + 1))
    if world.left.losses and world.last:
        lost = reset(rules, world, node=world.last - 1)._replace(last=world.last - 1, end=world.last - 1)
        yield Step(f"MySQL loses {world.last}", lost.spend("losses"))
    if heard is None or tide is None:
        for moment in range(world.node, world.last + 1):
            yield Step(f"a tide begins at {moment}", begin(rules, world, moment), True)
        return
    if world.blind:
        yield Step("the tide goes on", world._replace(blind=False), True)
    elif tide < world.last:
        first_of_two = heard % 2 == 0 and tide + 1 in scenario.halves
        to = heard + 1 if first_of_two or heard % 2 else heard + 2
        label = f"the first message of {tide + 1}" if first_of_two else f"batch {tide + 1} arrives"
        yield Step(label, hear(rules, scenario, world, heard, to), True)
    if world.left.silences and not world.blind:
        yield Step("the tide is silent", silent(rules, world, heard).spend("silences"))
    if world.left.failovers:
        lost = reset(rules, world, node=max(0, tide - 1)).spend("failovers")
        yield Step("Redis fails over: reset", lost)


def hear(rules: Rules, scenario: Scenario, world: World, heard: int, to: int) -> World:
    told = world._replace(heard=to)
    if rules.due_compares_positions:
        return told
    for read, path in enumerate(world.paths):
        if path.state is not None:
            named = first_named(rules, scenario, read, path.state.dependencies, heard, to) is not None
            told = told.with_path(read, path._replace(flag=path.flag or named))
    return told


def here(rules: Rules, world: World) -> int:
    """The position of a composition that begins now."""
    if world.heard is None:
        return 0 if rules.no_tide_no_position else UNBORN
    return world.heard // 2 * 2 if rules.batch_counts_at_its_last_message else world.heard


def silent(rules: Rules, world: World, heard: int) -> World:
    blind = world._replace(blind=True)
    if not rules.silence_makes_nothing_due:
        return everywhere(blind, lambda one: one._replace(placed=False), lambda making: making)
    if not rules.silence_forgets_nothing_due:
        return everywhere(blind, lambda one: one._replace(position=heard), lambda making: making)
    return blind


def reset(rules: Rules, world: World, node: int) -> World:
    """The tide is lost. The next one begins at `node` or later."""
    lost = world._replace(heard=None, node=node, blind=False)
    if not rules.reset_ends_positions:
        return everywhere(
            lost, lambda one: one._replace(position=UNBORN), lambda one: one._replace(position=UNBORN)
        )
    return everywhere(
        lost,
        lambda state: state._replace(position=0, placed=False),
        lambda making: making._replace(position=0, placed=False),
    )


def begin(rules: Rules, world: World, moment: int) -> World:
    begun = world._replace(heard=2 * moment, node=0)
    if rules.no_tide_no_position and rules.reset_ends_positions:
        return begun
    return everywhere(
        begun,
        lambda one: one._replace(position=2 * moment, placed=True) if one.position == UNBORN else one,
        lambda one: one._replace(position=2 * moment, placed=True) if one.position == UNBORN else one,
    )


def everywhere(
    world: World, of_state: Callable[[State], State], of_making: Callable[[Making], Making]
) -> World:
    def of_path(path: Path) -> Path:
        state, making = path.state, path.making
        return path._replace(
            state=None if state is None else of_state(state),
            making=None if making is None else of_making(making),
        )

    connections = (
        connection._replace(
            watches=tuple(
                watch._replace(
                    sent=None if watch.sent is None else of_state(watch.sent),
                    waiting=tuple(map(of_state, watch.waiting)),
                )
                for watch in connection.watches
            )
        )
        for connection in world.connections
    )
    return world._replace(paths=tuple(map(of_path, world.paths)), connections=tuple(connections))
