"""Fills: a lease, a read of MongoDB at the lease's cluster time, FILL, and the reader's own copy."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.replica.mongodb import value
from tests.verification.replica.rules import Rules, Scenario
from tests.verification.replica.state import KEYS, Fill, Lease, Moves, Node, Told, World, with_one

OTHERS_TOKEN = -1


def fill(rules: Rules, scenario: Scenario, world: World) -> Moves:
    for at, one in enumerate(world.reader.fills):
        if one.phase == "stored":
            yield own(rules, world, at, one)
        else:
            for label, left, next_ in advance(rules, scenario, world, one):
                yield Step(f"the reader {label}", with_fill(left, at, next_), True)


def other(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """Another process that fills Redis, and has no part in this one's connection."""
    mark, entries = world.primary
    if world.other is None and world.left.others:
        for key in KEYS:
            if entries[key] is None:
                held = world._replace(primary=Node(mark, with_one(entries, key, Lease(OTHERS_TOKEN))))
                leased = held._replace(other=Fill("leased", key, OTHERS_TOKEN, mark)).spend("others")
                yield Step(f"another process leases key {key}", leased)
    elif world.other is not None:
        for label, left, next_ in advance(rules, scenario, world, world.other):
            over = next_ is None or next_.phase == "stored"
            yield Step(f"another process {label}", left._replace(other=None if over else next_), True)


def advance(
    rules: Rules, scenario: Scenario, world: World, one: Fill
) -> list[tuple[str, World, Fill | None]]:
    """One step of a fill: its label, the world, and what the fill is then (None: given up)."""
    if one.phase == "leased":
        return read(rules, scenario, world, one)
    if one.phase == "viewed":
        found = value(scenario, one.key, world.history, world.last)
        return [("reads the document", world, one._replace(phase="read", value=found))]
    return [("fills", stored(world, one), one._replace(phase="stored"))]


def stored(world: World, one: Fill) -> World:
    """FILL stores under the lease alone."""
    mark, entries = world.primary if one.token == OTHERS_TOKEN else world.node
    if entries[one.key] != Lease(one.token):
        return world
    node = Node(mark, with_one(entries, one.key, one.value))
    return world._replace(primary=node) if one.token == OTHERS_TOKEN else world.with_node(node)


def read(rules: Rules, scenario: Scenario, world: World, one: Fill) -> list[tuple[str, World, Fill | None]]:
    """At the watermark's cluster time. If MongoDB has it no longer, at present, if that is the same batch."""
    mark, last = one.mark, world.last
    known = world.has(mark) or not rules.fill_compares_checkpoint
    at = min(mark.seq, last) if rules.fill_at_its_lease else last
    moves = [("reads at its lease's time", world, at_time(scenario, world, one, at) if known else None)]
    if world.left.too_old:
        same = (known and mark.seq == last) or not rules.fill_compares_checkpoint
        moves.append(
            (
                "reads at present",
                world.spend("too_old"),
                present(rules, scenario, world, one) if same else None,
            )
        )
    return moves


def present(rules: Rules, scenario: Scenario, world: World, one: Fill) -> Fill:
    if not rules.fill_in_one_snapshot:
        return one._replace(phase="viewed")
    return at_time(scenario, world, one, world.last)


def at_time(scenario: Scenario, world: World, one: Fill, at: int) -> Fill:
    return one._replace(phase="read", value=value(scenario, one.key, world.history, at))


def own(rules: Rules, world: World, at: int, one: Fill) -> Step[World, Told]:
    """The value enters the replica, unless a message since the lease's reply has named the key."""
    reader = world.reader
    tide, over = reader.tide, with_fill(world, at, None)
    unnamed = reader.named[one.key] <= one.mark.seq or not rules.fill_guarded_by_messages
    alive = not (one.orphan and rules.fills_die_at_a_reset)
    if tide is not None and tide.epoch == one.mark.epoch and unnamed and alive:
        over = over.with_reader(local=with_one(reader.local, one.key, one.value))
        return Step("the reader takes its own fill", over, True)
    return Step("the reader drops its own fill", over, True)


def with_fill(world: World, at: int, one: Fill | None) -> World:
    fills = world.reader.fills
    middle = () if one is None else (one,)
    return world.with_reader(fills=(*fills[:at], *middle, *fills[at + 1 :]))
