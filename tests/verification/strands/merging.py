"""Merging as the reader does it: the message of a batch waits until all that are present have theirs."""

from __future__ import annotations

from tests.verification.strands.rules import Rules
from tests.verification.strands.state import (
    Fill,
    Item,
    Mark,
    Message,
    Reader,
    Reply,
    Strand,
    with_one,
    with_strand,
)

TIDE_BACK = "the tide never goes back in a life"


def received(rules: Rules, reader: Reader, at: int, item: Item) -> Reader | None:
    """The queue of a connection, in order. None if it does not continue the strand."""
    strand = reader.strands[at]
    heard = strand.heard
    if heard is None:
        if isinstance(item, Message) or item.mark is None:
            return reader
        known = with_strand(reader, at, at=item.mark)
        return go_on(rules, begin(rules, known, at))
    found = item.found if isinstance(item, Message) else item.mark and item.mark.lineage
    if found != heard.lineage:
        return None
    if isinstance(item, Reply) and strand.inbox and not rules.replies_wait_behind_batches:
        return finish(rules, reader, at, item)
    fed = strand.fed or isinstance(item, Message)
    waits = with_strand(reader, at, inbox=(*strand.inbox, item), fed=fed)
    if reader.tide is None:
        waits = begin_anew(rules, waits)
    elif isinstance(item, Reply) and not strand.inbox:
        waits = join(rules, waits, at)
    return go_on(rules, waits)


def lost(rules: Rules, reader: Reader, at: int) -> Reader:
    """Nothing is known of the strand any more."""
    strand = reader.strands[at]
    inbox = () if rules.lost_strand_is_emptied else strand.inbox
    fills = tuple(fill._replace(of_strand=fill.of_strand and fill.key != at) for fill in reader.fills)
    strands = with_one(reader.strands, at, Strand(inbox=inbox, silent=strand.silent))
    return left(rules, reader._replace(fills=fills, strands=strands), at, strand.present)


def put_out(rules: Rules, reader: Reader, at: int) -> Reader:
    unheard = reader.strands[at].silent and is_another_heard(reader)
    return left(rules, with_strand(reader, at, present=False, late=not unheard, fed=False), at, gone=True)


def laggards(rules: Rules, reader: Reader) -> list[int]:
    """The strands for whose messages others wait, or that are silent while another is heard."""
    present = [strand for strand in reader.strands if strand.present]
    if not rules.late_are_put_out or not present or reader.tide is None:
        return []
    waiting = [strand.head.batch for strand in present if strand.head is not None]
    if not waiting:
        fed = rules.unfed_are_not_waited_for
        away = [one.at for one in reader.strands if one.at and not one.present and (one.fed or not fed)]
        waiting = [mark.batch for mark in away if is_ahead(rules, reader, mark)]
    awaited = min(waiting, key=newest_build, default=None)
    heard = is_another_heard(reader)
    return [
        at
        for at, strand in enumerate(reader.strands)
        if strand.present
        and (
            (strand.silent and heard)
            or (awaited is not None and (strand.head is None or strand.head.batch != awaited))
        )
    ]


def is_another_heard(reader: Reader) -> bool:
    return any(strand.present and not strand.silent for strand in reader.strands)


def is_ahead(rules: Rules, reader: Reader, mark: Mark) -> bool:
    if reader.tide is None:
        return False
    found, other = side(reader, mark), mark.batch != reader.tide.batch
    return found > 0 or (found == 0 and other and rules.other_histories_wait)


def left(rules: Rules, reader: Reader, at: int, gone: bool) -> Reader:
    """A strand is away. The present ones go on without it."""
    if gone and rules.absent_entries_leave:
        reader = reader._replace(local=with_one(reader.local, at, None))
    if any(strand.present for strand in reader.strands):
        reader = ticks(rules, reader)
    elif reader.tide is None or rules.tide_begins_anew:
        reader = begin_anew(rules, reader)
    return go_on(rules, reader)


def go_on(rules: Rules, reader: Reader) -> Reader:
    """Take what stands at the heads, as far as all that are present have it."""
    while True:
        for at in range(len(reader.strands)):
            reader = take(rules, reader, at)
        passed = pass_on(rules, reader)
        if passed is None:
            return reader
        reader = passed


def take(rules: Rules, reader: Reader, at: int) -> Reader:
    """Take the heads that wait for no other strand."""
    while (strand := reader.strands[at]).inbox:
        head, rest = strand.inbox[0], strand.inbox[1:]
        if isinstance(head, Reply):
            reader = finish(rules, with_strand(reader, at, inbox=rest), at, head)
        elif head.found == head.to.lineage or is_behind(reader, strand):
            reader = with_strand(reader, at, inbox=rest, at=head.to, late=False)
            reader = ticks(rules, reader) if strand.present else join(rules, reader, at)
        else:
            break
    return reader


def is_behind(reader: Reader, strand: Strand) -> bool:
    absent = strand.at is not None and not strand.present and reader.tide is not None
    return absent and strand.at is not None and side(reader, strand.at) < 0


def pass_on(rules: Rules, reader: Reader) -> Reader | None:
    """The batch at the heads of all that are present; None if it is not at all of them."""
    present = [at for at, strand in enumerate(reader.strands) if strand.present]
    if not rules.batches_wait_for_all:
        present = [at for at in present if reader.strands[at].head is not None][:1]
    heads = [reader.strands[at].head for at in present]
    first = heads[0] if heads else None
    by_batch = rules.waiting_compares_batches
    if first is None or not all(head and same(head, first, by_batch=by_batch) for head in heads):
        return None
    is_whole = len(present) == len(reader.strands) or not rules.batches_wait_for_all
    for at in present:
        reader = passed(reader, at, first.seq)
    reader = reader._replace(unknown=reader.unknown if is_whole else first.seq)
    reader = advance(rules, reader, first if rules.batches_wait_for_all else furthest(reader))
    for at in range(len(reader.strands)):
        reader = join(rules, reader, at)
    return reader


def passed(reader: Reader, at: int, seq: int) -> Reader:
    message, *rest = reader.strands[at].inbox
    if not isinstance(message, Message):
        raise AssertionError("a batch is at the head")
    reader = with_strand(reader, at, inbox=tuple(rest), at=message.to, late=False)
    if not message.named:
        return reader
    named, local = with_one(reader.named, at, seq), with_one(reader.local, at, None)
    return reader._replace(named=named, local=local)


def furthest(reader: Reader) -> Mark:
    marks = [mark for strand in reader.strands for mark in (strand.at, strand.head) if mark is not None]
    return max(marks, key=lambda mark: (mark.build, mark.seq, mark.as_of))


def begin(rules: Rules, reader: Reader, at: int) -> Reader:
    return begin_anew(rules, reader) if reader.tide is None else join(rules, reader, at)


def join(rules: Rules, reader: Reader, at: int) -> Reader:
    """The strand is present if it is at the tide's batch."""
    strand, tide = reader.strands[at], reader.tide
    if tide is None or strand.at is None or strand.present:
        return reader
    is_there = same(strand.at, tide, by_batch=rules.joining_compares_batches)
    is_there = is_there or (side(reader, strand.at) > 0 and not rules.ahead_waits)
    is_there = is_there or (side(reader, strand.at) < 0 and not rules.behind_comes_alone)
    if not is_there:
        return reader
    reader = with_strand(reader, at, present=True, late=False)
    if reader.is_whole and reader.watch is not None and rules.watches_are_due_once_whole:
        reader = reader._replace(watch=reader.watch._replace(placed=False))
    return reader


def begin_anew(rules: Rules, reader: Reader) -> Reader:
    """With a strand that is known and heard: the newest build, then the least number; late ones last."""
    known = {at: one.at for at, one in enumerate(reader.strands) if one.at is not None and not one.silent}
    order = sorted(known, key=lambda at: (reader.strands[at].late, newest_build(known[at].batch)))
    reader = ends(reader) if reader.tide is not None or not known else reader
    if not known:
        return reader
    reader = reader._replace(tide=known[order[0]])
    for at in known:
        reader = join(rules, reader, at)
    return reader


def ends(reader: Reader) -> Reader:
    """All that was known of the tide."""
    none = (None,) * len(reader.strands)
    strands = tuple(strand._replace(present=False) for strand in reader.strands)
    orphans = tuple(fill._replace(of_life=False) for fill in reader.fills)
    composition, watch = reader.composition, reader.watch
    return reader._replace(
        strands=strands,
        local=none,
        named=(0,) * len(strands),
        unknown=0,
        tide=None,
        fills=orphans,
        composition=composition and composition._replace(of_life=False),
        watch=watch and watch._replace(placed=False, position=0),
        floor=0,
        told=0,
    )


def finish(rules: Rules, reader: Reader, at: int, reply: Reply) -> Reader:
    """A reply of a strand that is present is valid at the tide."""
    strand, tide = reader.strands[at], reader.tide
    if tide is None or strand.at is None or not (strand.present or not rules.absent_get_no_replies):
        return reader
    if reply.granted:
        moment = tide if rules.lease_has_the_tides_moment else furthest(reader)
        fill = Fill(at, moment, tide.seq, names_epoch(rules, reader, at))
        return reader._replace(fills=(*reader.fills, fill))
    if reply.entry is None or reader.local[at] is not None:
        return reader
    return reader._replace(local=with_one(reader.local, at, reply.entry))


def names_epoch(rules: Rules, reader: Reader, at: int) -> int:
    marks = [strand.at for strand in reader.strands if strand.at is not None]
    mark = reader.strands[at].at if rules.epoch_is_of_the_shard else marks[-1]
    if mark is None:
        raise AssertionError("the strand is known")
    return mark.epoch


def ticks(rules: Rules, reader: Reader) -> Reader:
    """The tide is the watermark with the least as_of of those that are present."""
    marks = [strand.at for strand in reader.strands if strand.present and strand.at is not None]
    least = min(marks, key=lambda mark: mark.as_of)
    tide = reader.tide
    if not rules.as_of_is_of_the_tide:
        return advance(rules, reader, least)
    return advance(rules, reader, least) if tide is not None and least.as_of > tide.as_of else reader


def advance(rules: Rules, reader: Reader, to: Mark) -> Reader:
    tide = reader.tide
    if not rules.as_of_is_of_the_tide:
        to = to._replace(as_of=max(furthest(reader).as_of, to.as_of))
    back = tide is not None and (to.upto < tide.upto or (to.batch == tide.batch and to.as_of < tide.as_of))
    return reader._replace(tide=to, broken=TIDE_BACK if back else reader.broken)


def side(reader: Reader, mark: Mark) -> int:
    """Negative if it is behind the tide, positive if it is ahead."""
    if reader.tide is None:
        raise AssertionError("there is no tide")
    one, other = (mark.build, mark.seq), (reader.tide.build, reader.tide.seq)
    return (one > other) - (one < other)


def same(one: Mark, other: Mark, *, by_batch: bool) -> bool:
    return one.batch == other.batch if by_batch else one.seq == other.seq


def newest_build(batch: tuple[int, int, int]) -> tuple[int, int]:
    return -batch[0], batch[1]
