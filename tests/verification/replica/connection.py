"""The one connection: subscription and commands in one order, and what ends what the reader knows."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.replica.rules import Rules, Scenario
from tests.verification.replica.state import (
    KEYS,
    Fill,
    Granted,
    Item,
    Lease,
    Mark,
    Message,
    Moves,
    Node,
    Reader,
    Reply,
    Sunsubscribe,
    Told,
    Value,
    Watermark,
    World,
    with_one,
)

ROOM = 2  # items under way to the reader; a bound of the model
RESET = Told(reset=True)


def has_room(world: World) -> bool:
    return len(world.reader.inbox) < ROOM


def hear(world: World, item: Item) -> World:
    """The item goes to the reader, if it has subscribed and its node still has the slots."""
    if not world.reader.subscribed or world.reader.deaf or world.demoted is not None:
        return world
    return send(world, item)


def send(world: World, item: Item) -> World:
    return world.with_reader(inbox=(*world.reader.inbox, item))


def lose(world: World) -> World:
    """A reset: the replica is emptied, its fills are orphans, and the connection is made anew."""
    reader = world.reader
    orphans = tuple(fill._replace(orphan=True) for fill in reader.fills)
    return world._replace(
        demoted=None, reader=Reader(fills=orphans, leases=reader.leases, answers=reader.answers)
    )


def connect(rules: Rules, world: World) -> Moves:
    """Subscribe, then ask for the watermark."""
    reader = world.reader
    if reader.tide is None and not reader.deaf:
        asked = any(isinstance(item, Watermark) for item in reader.inbox)
        if not reader.subscribed and (rules.subscribe_before_watermark or asked):
            yield Step("the reader subscribes", world.with_reader(subscribed=True), True)
        elif not asked and has_room(world):
            yield Step("the reader asks for the watermark", send(world, Watermark(world.node.mark)), True)


def ask(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """An MGET of what is missing; else, after 100 ms, of the watermark alone."""
    reader, node = world.reader, world.node
    if reader.tide is None or not has_room(world):
        return
    if reader.deaf:
        if rules.sunsubscribe_resets and not reader.inbox:
            yield Step("the node answers MOVED", send(world, Sunsubscribe()), True)
        return
    if any(isinstance(item, Reply) for item in reader.inbox):
        return
    if any(reader.local[key] is None and isinstance(node.entries[key], Value) for key in KEYS):
        yield Step("an MGET", send(world, reply(node)))
    if rules.idle_connection_asks and not reader.inbox and node.mark != reader.tide:
        yield Step("an idle connection asks", send(world, reply(node)), True)


def reply(node: Node) -> Reply:
    entity, list_ = (entry if isinstance(entry, Value) else None for entry in node.entries)
    return Reply(node.mark, (entity, list_))


def lease(rules: Rules, scenario: Scenario, world: World) -> Moves:
    """A lease for a key that neither the replica nor Redis has; its reply brings the watermark."""
    reader, (mark, entries) = world.reader, world.node
    on_this = rules.lease_on_the_connection
    if (
        reader.tide is None
        or reader.leases == scenario.leases
        or reader.deaf
        or (on_this and not has_room(world))
    ):
        return
    under_way = [fill.key for fill in reader.fills]
    under_way += [item.key for item in reader.inbox if isinstance(item, Granted)]
    if mark.epoch != reader.tide.epoch or len(under_way) == scenario.fills:
        return
    for key in KEYS:
        if entries[key] is None and reader.local[key] is None and key not in under_way:
            token = reader.leases
            held = world.with_node(Node(mark, with_one(entries, key, Lease(token))))
            held = held.with_reader(leases=token + 1)
            done = (
                send(held, Granted(key, token, mark)) if on_this else granted(held, Granted(key, token, mark))
            )
            yield Step(f"the reader leases key {key}", done)


def granted(world: World, item: Granted) -> World:
    fill = Fill("leased", item.key, item.token, item.mark)
    return world.with_reader(fills=(*world.reader.fills, fill))


def handle(rules: Rules, world: World) -> Moves:
    """The first item of the inbox."""
    if not world.reader.inbox:
        return
    item, *rest = world.reader.inbox
    taken, tide = world.with_reader(inbox=tuple(rest)), world.reader.tide
    if isinstance(item, Watermark):
        first = item.mark if rules.watermark_says_open else item.mark._replace(open=False)
        yield Step("the watermark arrives", taken.with_reader(tide=first), True)
    elif isinstance(item, Sunsubscribe):
        ignored = Step("sunsubscribe is ignored", taken, True)
        yield reset(taken, "sunsubscribe") if rules.sunsubscribe_resets else ignored
    elif tide is None:
        yield Step("the reader skips what came before the watermark", taken, True)
    elif isinstance(item, Message):
        yield message(rules, taken, tide, item)
    elif rules.replies_have_the_lineage and not agree(rules, item.mark, tide):
        yield reset(taken, "a reply of another lineage")
    elif isinstance(item, Granted):
        yield Step("a lease's reply arrives", granted(taken, item), True)
    else:
        pairs = zip(world.reader.local, item.entries, strict=True)
        local = tuple(there if there is not None else new for there, new in pairs)
        yield Step("an MGET's reply arrives", taken.with_reader(local=local), True)


def message(rules: Rules, world: World, tide: Mark, item: Message) -> Step[World, Told]:
    """It continues the tide, and takes away what it names."""
    if rules.messages_continue and not agree(rules, item.found, tide):
        return reset(world, "a message that does not continue")
    reader, drops = world.reader, rules.messages_drop_entries
    local = tuple(
        None if named and drops else value for named, value in zip(item.names, reader.local, strict=True)
    )
    named = tuple(item.to.seq if new else old for new, old in zip(item.names, reader.named, strict=True))
    composition = reader.composition
    if composition is not None and not rules.composition_holds_its_moment:
        entity, list_ = (
            None if new else part for new, part in zip(item.names, composition.parts, strict=True)
        )
        composition = composition._replace(moment=item.to, parts=(entity, list_))
    told = world.with_reader(tide=item.to, local=local, named=named, composition=composition)
    return Step(f"message {item.to.seq} arrives", told, True)


def reset(world: World, why: str) -> Step[World, Told]:
    return Step(f"{why}: reset", lose(world), True, RESET)


def agree(rules: Rules, one: Mark, other: Mark) -> bool:
    if rules.lineage_names_the_batch:
        return one.lineage == other.lineage
    return (one.epoch, one.seq) == (other.epoch, other.seq)
