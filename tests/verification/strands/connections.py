"""A connection for each shard: what is on its way, asks and leases, and fills."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.strands.merging import laggards, lost, names_epoch, put_out, received
from tests.verification.strands.mysql import content
from tests.verification.strands.rules import Rules, Scenario
from tests.verification.strands.state import (
    LEASED,
    Fill,
    Mark,
    Moves,
    Node,
    Reader,
    Reply,
    Strand,
    World,
    with_one,
    with_strand,
)


def follow(rules: Rules, scenario: Scenario, world: World) -> Moves:
    for at, strand in enumerate(world.reader.strands):
        node = world.shards[at].node
        if not strand.connected:
            if node.mark is not None and not strand.silent:
                wire = (Reply(node.mark),)
                connected = world.with_strand(at, connected=True, deaf=False, wire=wire)
                yield Step(f"strand {at} connects", connected, True)
        elif strand.wire and not strand.silent:
            yield Step(f"strand {at} hears {label(strand)}", hear(rules, world, at, strand), True)
        elif strand.deaf and not strand.silent:
            yield Step(f"shard {at} answers MOVED", lose(rules, world, at), True)
        if strand.connected and not strand.deaf and not strand.silent:
            yield from ask(rules, scenario, world, at, strand, node)


def label(strand: Strand) -> str:
    item = strand.wire[0]
    if isinstance(item, Reply):
        return "a lease's reply" if item.granted else "a reply"
    return f"batch {item.to.seq}" if item.found != item.to.lineage else "a tick"


def hear(rules: Rules, world: World, at: int, strand: Strand) -> World:
    come = world.with_strand(at, wire=strand.wire[1:])
    reader = received(rules, come.reader, at, strand.wire[0])
    return lose(rules, come, at) if reader is None else come._replace(reader=reader)


def lose(rules: Rules, world: World, at: int) -> World:
    return world._replace(reader=lost(rules, world.reader, at))


def ask(rules: Rules, scenario: Scenario, world: World, at: int, strand: Strand, node: Node) -> Moves:
    """For the entry, for a lease, or after a while for the watermark alone."""
    if any(isinstance(item, Reply) for item in (*strand.wire, *strand.inbox)):
        return
    heard, mark, reader = strand.heard, node.mark, world.reader
    if heard is None or strand.at is None:
        if not strand.wire and mark is not None:
            yield Step(f"shard {at} is asked again", sent(world, at, Reply(mark)), True)
        return
    comes = mark is None or mark.lineage != heard.lineage or could_join(reader, strand)
    if not strand.wire and comes:
        yield Step(f"shard {at} is asked", sent(world, at, Reply(mark)), True)
    if not strand.present or reader.local[at] is not None or mark is None:
        return
    epoch = names_epoch(rules, reader, at)
    entry = node.entry if epoch == mark.epoch else dict(node.strays).get(epoch)
    if scenario.asks and entry is not None and entry != LEASED:
        yield Step(f"shard {at}: an MGET", sent(world, at, Reply(mark, entry)))
    if world.left.leases and entry is None and epoch == mark.epoch:
        held = world.with_shard(at, node=node._replace(entry=LEASED)).spend("leases")
        yield Step(f"shard {at}: a lease", sent(held, at, Reply(mark, granted=True)))


def could_join(reader: Reader, strand: Strand) -> bool:
    """A reply lets it join, or begins a tide."""
    if strand.present or strand.inbox or strand.at is None:
        return False
    return reader.tide is None or strand.at.batch == reader.tide.batch


def sent(world: World, at: int, reply: Reply) -> World:
    return world.with_strand(at, wire=(*world.reader.strands[at].wire, reply))


def wait(rules: Rules, world: World) -> Moves:
    """The time that others wait for a strand is over. Ticks have come of what the projector reaches."""
    reader = world.reader
    for at, (shard, strand) in enumerate(zip(world.shards, reader.strands, strict=True)):
        if strand.at is not None and not shard.hung and not strand.silent and not strand.present:
            reader = with_strand(reader, at, fed=True)
    for at in laggards(rules, reader):
        yield Step(f"strand {at} is put out", world._replace(reader=put_out(rules, reader, at)), True)


def fill(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """Read MongoDB at the lease's cluster time, store under the lease, and keep the value."""
    for place, one in enumerate(world.reader.fills):
        others = (*world.reader.fills[:place], *world.reader.fills[place + 1 :])
        over = world._replace(reader=world.reader._replace(fills=others))
        if not world.has(one.mark):
            yield Step(f"the fill of key {one.key} is given up", over, True)
        elif not one.stored:
            stored = with_one(world.reader.fills, place, one._replace(stored=True))
            done = store(scenario, world, one)
            done = done._replace(reader=world.reader._replace(fills=stored))
            yield Step(f"key {one.key} is filled", done, True)
        else:
            yield Step(f"the fill of key {one.key} ends", own(rules, scenario, over, one), True)


def store(scenario: Scenario, world: World, one: Fill) -> World:
    node = world.shards[one.key].node
    is_leased = node.entry == LEASED and node.mark is not None and node.mark.epoch == one.epoch
    if not (is_leased and one.of_strand):
        return world
    value = content(scenario, one.key, one.mark.upto)
    return world.with_shard(one.key, node=node._replace(entry=value))


def own(rules: Rules, scenario: Scenario, world: World, one: Fill) -> World:
    """It enters the replica unless its key may have been named since."""
    reader = world.reader
    if reader.tide is None or not one.of_life or is_named(rules, reader, one.key, one.position):
        return world
    if not reader.strands[one.key].present and rules.fill_of_absent_is_dropped:
        return world
    value = content(scenario, one.key, one.mark.upto)
    return world._replace(reader=reader._replace(local=with_one(reader.local, one.key, value)))


def is_named(rules: Rules, reader: Reader, key: int, since: int) -> bool:
    """Whether a batch may have named the key since a position of this life."""
    return reader.named[key] > since or (reader.unknown > since and rules.absence_hides_names)


def moment_at(world: World) -> Mark:
    """MongoDB's present."""
    return world.mark(0, world.last)
