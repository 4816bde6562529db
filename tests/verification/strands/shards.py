"""The shards: each has its own stage over the journal, which applies batches and begins epochs."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.strands.merging import lost
from tests.verification.strands.mysql import content, is_named
from tests.verification.strands.rules import Rules, Scenario
from tests.verification.strands.state import (
    Former,
    Mark,
    Message,
    Moves,
    Node,
    Shard,
    World,
    mark_of,
    with_one,
)


def project(rules: Rules, scenario: Scenario, world: World) -> Moves:
    for at, shard in enumerate(world.shards):
        if not shard.hung:
            yield from lead(rules, scenario, world, at, shard.node.mark)
            if world.former is not None:
                yield from talk_on(rules, scenario, world, at, world.former)


def lead(rules: Rules, scenario: Scenario, world: World, at: int, mark: Mark | None) -> Moves:
    """The leader goes on from the watermark that it finds, in each shard at its own pace."""
    if mark is None or mark.epoch != world.epochs[at] or not world.has(mark):
        yield Step(f"shard {at} gets an epoch", begin_epoch(rules, world, at), True)
    elif mark.seq < world.last:
        seq = next_batch(rules, scenario, world, at, mark)
        if seq is not None:
            to = world.mark(mark.epoch, seq)
            applied = apply(scenario, world, at, mark, to)
            yield Step(f"shard {at}: APPLY {seq}", applied, True)
    elif scenario.ticks and mark.as_of % 2 == 0:
        ticked = mark._replace(as_of=mark.as_of + 1)
        yield Step(f"shard {at}: a tick", apply(scenario, world, at, mark, ticked))


def next_batch(rules: Rules, scenario: Scenario, world: World, at: int, mark: Mark) -> int | None:
    if rules.every_shard_gets_each_batch:
        return mark.seq + 1
    later = range(mark.seq + 1, world.last + 1)
    return next((seq for seq in later if is_named(scenario, at, mark.upto, world.history[seq].upto)), None)


def talk_on(rules: Rules, scenario: Scenario, world: World, at: int, former: Former) -> Moves:
    """A former leader applies its own batches. Redis refuses them unless they continue the watermark."""
    mark, history = world.shards[at].node.mark, former.history
    if mark is None or mark.seq >= len(history) - 1:
        return
    own = mark_of(history, former.epochs[at], mark.seq)
    if own.lineage == mark.lineage or not rules.apply_compares_lineages:
        to = mark_of(history, mark.epoch, mark.seq + 1)
        named_after = mark if own.lineage == mark.lineage else own
        label = f"the former leader: shard {at}: APPLY {to.seq}"
        yield Step(label, apply(scenario, world, at, named_after, to))


def apply(scenario: Scenario, world: World, at: int, found: Mark, to: Mark) -> World:
    """Compare, set and announce. A named entry gets its value read back; an absent one stays away."""
    node = world.shards[at].node
    named = is_named(scenario, at, found.upto, to.upto)
    entry = node.entry
    if named and entry is not None:
        entry = content(scenario, at, to.upto) if entry >= 0 and world.has(to) else None
    applied = set_node(scenario, world, at, node._replace(mark=to, entry=entry))
    if node.mark is None:
        raise AssertionError("APPLY compares with a watermark")
    return send(applied, at, Message(node.mark.lineage, to, named))


def send(world: World, at: int, message: Message) -> World:
    strand = world.reader.strands[at]
    if not strand.connected or strand.deaf:
        return world
    return world.with_strand(at, wire=(*strand.wire, message))


def set_node(scenario: Scenario, world: World, at: int, node: Node) -> World:
    """With a failover to come, the replica gets it later."""
    shard = world.shards[at]
    replica = shard.replica
    if replica is None and at == 0 and (world.left.failovers or world.left.moves):
        replica = shard.node
    return world.with_shard(at, node=node, replica=replica)


def begin_epoch(rules: Rules, world: World, at: int) -> World:
    """In one shard. It announces nothing."""
    node, epoch = world.shards[at].node, world.epochs[at] + 1
    strays = node.strays
    if not rules.epoch_is_of_the_shard and node.mark is not None and (node.entry or 0) >= 0:
        strays = (*strays, (node.mark.epoch, node.entry or 0))
    begun = Node(world.mark(epoch, world.last), None, strays)
    named = world._replace(epochs=with_one(world.epochs, at, epoch))
    return named.with_shard(at, node=begun, replica=None)


def faults(rules: Rules, world: World) -> Moves:
    """Of the first shard, but for a shard that hangs."""
    left, first = world.left, world.shards[0]
    if first.replica is not None:
        yield Step("the replica catches up", world.with_shard(0, replica=None))
    over = world.with_shard(0, node=first.replica or first.node, replica=None)
    strand = world.reader.strands[0]
    if left.failovers and first.replica is not None:
        yield Step("shard 0 fails over", lose(rules, over).spend("failovers"))
    if left.moves and strand.connected and not strand.deaf:
        yield Step("shard 0 moves", over.with_strand(0, deaf=True).spend("moves"))
    if left.flushes and first.node.mark is not None:
        yield Step("shard 0 loses its data", flushed(world).spend("flushes"))
    if left.breaks and strand.connected:
        yield Step("the connection of shard 0 breaks", lose(rules, world).spend("breaks"))
    if left.losses:
        for place, item in enumerate(strand.wire):
            if isinstance(item, Message):
                wire = (*strand.wire[:place], *strand.wire[place + 1 :])
                missed = world.with_strand(0, wire=wire).spend("losses")
                yield Step(f"message {item.to.seq} of shard 0 is lost", missed)
    last = len(world.shards) - 1
    yield from hang(world, last, world.shards[last])


def hang(world: World, at: int, shard: Shard) -> Moves:
    """The projector does not reach the last shard, or the reader hears nothing of it."""
    strand = world.reader.strands[at]
    if shard.hung:
        yield Step(f"shard {at} is reached again", world.with_shard(at, hung=False))
    elif world.left.hangs:
        yield Step(f"shard {at} is not reached", world.with_shard(at, hung=True).spend("hangs"))
    if strand.silent:
        yield Step(f"shard {at} is heard again", world.with_strand(at, silent=False))
    elif world.left.silences and strand.connected:
        yield Step(f"shard {at} is silent", world.with_strand(at, silent=True).spend("silences"))


def flushed(world: World) -> World:
    return world.with_shard(0, node=Node(None, None), replica=None)


def lose(rules: Rules, world: World) -> World:
    return world._replace(reader=lost(rules, world.reader, 0))
