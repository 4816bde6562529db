"""Answers of all keys at one moment, with or without a token, and a watch of the same."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.strands.connections import is_named, moment_at
from tests.verification.strands.mysql import content, contents
from tests.verification.strands.rules import Rules, Scenario
from tests.verification.strands.state import (
    Composition,
    Mark,
    Moves,
    Reader,
    Told,
    Watch,
    World,
    with_one,
)


def compose(rules: Rules, scenario: Scenario, world: World) -> Moves:
    reader, tide = world.reader, world.reader.tide
    if reader.composition is not None:
        yield from go_on(rules, scenario, world, reader.composition)
    elif not world.left.answers:
        return
    elif tide is None:
        yield from session(rules, scenario, world.spend("answers"), None)
    elif tide.upto >= reader.floor and token_has_come(rules, scenario, reader, tide):
        begun = reader._replace(composition=Composition(tide, reader.local))
        yield Step("a composition begins", world._replace(reader=begun).spend("answers"))


def token_has_come(rules: Rules, scenario: Scenario, reader: Reader, tide: Mark) -> bool:
    marks = [strand.heard for strand in reader.strands if not rules.token_waits_for_the_tide]
    return any(mark is not None and mark.upto >= scenario.token for mark in (tide, *marks))


def go_on(rules: Rules, scenario: Scenario, world: World, one: Composition) -> Moves:
    """From the replica if no batch has named the key since, else from MongoDB, else from one session."""
    reader, moment = world.reader, one.moment
    missing = [key for key, part in enumerate(one.parts) if part is None]
    follows = one.of_life and reader.tide is not None
    if not missing:
        told = max(reader.told, moment.upto if one.of_life else 0)
        answered = reader._replace(composition=None, told=told)
        found = tuple(part for part in one.parts if part is not None)
        yield Step("an answer", world._replace(reader=answered), answer=Told(moment, found))
        return
    if follows and reader.tide is not None and reader.tide.batch != moment.batch:
        held = [key for key in scenario.shards if key not in missing]
        if not any(is_named(rules, reader, key, moment.seq) for key in held):
            yield Step("the composition moves on", with_composition(world, one._replace(moment=reader.tide)))
    for key in missing:
        found_here = reader.local[key]
        at_moment = follows and not is_named(rules, reader, key, moment.seq)
        if found_here is not None and (at_moment or not rules.part_is_of_the_moment):
            yield Step(f"part {key} from the replica", with_part(world, one, key, found_here))
        if world.has(moment):
            read = content(scenario, key, moment.upto)
            yield Step(f"part {key} from MongoDB", with_part(world, one, key, read))
    if world.left.too_old or not world.has(moment):
        yield from session(rules, scenario, world, one)


def with_part(world: World, one: Composition, key: int, part: int) -> World:
    return with_composition(world, one._replace(parts=with_one(one.parts, key, part)))


def with_composition(world: World, one: Composition | None) -> World:
    return world._replace(reader=world.reader._replace(composition=one))


def session(rules: Rules, scenario: Scenario, world: World, one: Composition | None) -> Moves:
    """All parts from MongoDB at present, no older than the tide and the answers of this life."""
    reader, present = world.reader, moment_at(world)
    known = max(reader.floor, 0 if reader.tide is None else reader.tide.upto, scenario.token)
    if present.upto < known:
        return
    of_life = one is None or one.of_life
    floor = present.upto if rules.session_sets_a_floor and of_life else reader.floor
    told = max(reader.told, present.upto) if of_life else reader.told
    left = world.spend("too_old") if one is not None and world.has(one.moment) else world
    done = left._replace(reader=reader._replace(composition=None, floor=floor, told=told))
    answer = Told(present, contents(scenario, present.upto))
    yield Step("an answer at present", done, answer=answer)


def watch(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """A state when it is due, and the tide when it is not."""
    reader, tide = world.reader, world.reader.tide
    one = reader.watch
    if one is None or tide is None:
        return
    shows_tide = reader.is_whole or not rules.watchers_see_no_tide_with_absent
    if one.shown is None or (shows_tide and is_due(reader, one)):
        if tide.upto >= max(one.moment, one.tided):
            shown = contents(scenario, tide.upto)
            now = one._replace(shown=shown, moment=tide.upto, position=tide.seq, placed=True)
            yield Step(f"a state of {tide.upto}", watching(world, now), True, Told(tide, shown, True))
    elif shows_tide and tide.upto > one.tided and tide.upto >= one.moment:
        told = watching(world, one._replace(tided=tide.upto))
        yield Step(f"tide {tide.upto}", told, True, Told(tide, watched=True))


def is_due(reader: Reader, one: Watch) -> bool:
    return not one.placed or any(seq > one.position for seq in reader.named)


def watching(world: World, one: Watch) -> World:
    return world._replace(reader=world.reader._replace(watch=one))
