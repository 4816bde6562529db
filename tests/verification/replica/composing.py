"""Compositions: an answer of both keys, at one moment that it holds until it has all parts."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.replica.mongodb import mark_of, value
from tests.verification.replica.rules import Rules, Scenario
from tests.verification.replica.state import KEYS, Composition, Moves, Told, World, with_one


def compose(rules: Rules, scenario: Scenario, world: World) -> Moves:
    reader = world.reader
    if reader.composition is not None:
        yield from go_on(rules, scenario, world, reader.composition)
    elif reader.tide is not None and reader.answers < scenario.answers and reader.tide.upto >= reader.floor:
        entity, list_ = (None if found is None else found.content for found in reader.local)
        begun = Composition(reader.tide, (entity, list_))
        yield Step("a composition begins", world.with_reader(composition=begun))


def go_on(rules: Rules, scenario: Scenario, world: World, under_way: Composition) -> Moves:
    """From the replica if no message has named it since, else from MongoDB, else from one session."""
    tide, moment = world.reader.tide, under_way.moment
    missing = [key for key in KEYS if under_way.parts[key] is None]
    if not missing:
        yield answer(world, under_way)
    elif tide is not None and tide.lineage != moment.lineage and moves_on(rules, world, under_way):
        moved = under_way._replace(moment=tide)
        yield Step("the composition moves on", world.with_reader(composition=moved))
    for key in missing:
        found = world.reader.local[key]
        at_moment = tide is not None and world.reader.named[key] <= moment.seq
        if found is not None and (at_moment or not rules.replica_is_at_the_moment):
            yield Step(
                f"part {key} from the replica", with_part(world, under_way, key, found.content, reads=0)
            )
        if world.has(moment):
            read = value(scenario, key, world.history, moment.seq).content
            yield Step(f"part {key} from MongoDB", with_part(world, under_way, key, read, reads=1))
    if missing and (world.left.too_old or not world.has(moment)):
        yield from session(rules, scenario, world, under_way)


def moves_on(rules: Rules, world: World, under_way: Composition) -> bool:
    held = [key for key in KEYS if under_way.parts[key] is not None]
    unnamed = all(world.reader.named[key] <= under_way.moment.seq for key in held)
    return unnamed or not rules.moment_moves_on_unnamed


def with_part(world: World, under_way: Composition, key: int, content: int, *, reads: int) -> World:
    parts = with_one(under_way.parts, key, content)
    return world.with_reader(composition=under_way._replace(parts=parts, reads=under_way.reads + reads))


def session(rules: Rules, scenario: Scenario, world: World, under_way: Composition) -> Moves:
    """All parts from one session at present, if it contains the moment and the floor."""
    present = mark_of(scenario, world.serving, world.history, world.last)
    if present.upto >= max(under_way.moment.upto, world.reader.floor):
        entity, list_ = (value(scenario, key, world.history, world.last).content for key in KEYS)
        read = Composition(present, (entity, list_), under_way.reads)
        left = world.spend("too_old") if world.has(under_way.moment) else world
        if rules.session_sets_a_floor:
            left = left.with_reader(floor=present.upto)
        yield answer(left, read)


def answer(world: World, done: Composition) -> Step[World, Told]:
    entity, list_ = done.parts
    if entity is None or list_ is None:
        raise AssertionError(f"a part is missing: {done}")
    reader = world.reader
    over = world.with_reader(
        composition=None, answers=reader.answers + 1, told=max(reader.told, done.moment.upto)
    )
    return Step("an answer", over, answer=Told((entity, list_), done.moment, done.reads))
