"""The reader's steps in order: lease, watermark, checkpoint, document, set-if-still-mine."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.protocol.setting import Setting
from tests.verification.protocol.state import (
    ABSENT,
    HAS_VALUE,
    KNOWS_MARK,
    LEASE,
    LEASED,
    NOBODY,
    OUT,
    VALUE,
    VIEWED,
    Answer,
    History,
    Moves,
    Reader,
    Redis,
    State,
    Tag,
    Value,
    View,
    batch_of,
    upto_of,
    with_reader,
    with_redis,
)


def begin(setting: Setting, state: State, who: int) -> Moves:
    """Look up a key; if it is missing, take a lease on it.

    Lookup and lease are one step: a lease in a former epoch has no effect.
    """
    if state.redis.mark is None:
        return
    epoch = state.redis.mark.epoch
    for key, value in enumerate(setting.cached(state.redis, epoch)):
        missed = Reader(LEASED, key, epoch)
        if value is not None:
            if setting.scenario.watches_tags and value.kind != LEASE:
                hit = Answer(key, state.redis.mark.upto, value.content, tag_of(setting, epoch, value))
                yield Step(f"reader {who} hits key {key}", state, answer=hit)
        elif not setting.rules.fill_under_lease:
            yield Step(f"reader {who} misses key {key}", with_reader(state, who, missed))
        elif not setting.rules.lease_before_watermark:
            knows = missed._replace(mark=state.redis.mark)
            yield Step(f"reader {who} reads the watermark", with_reader(state, who, knows))
        else:
            yield Step(f"reader {who} leases key {key}", leased(setting, state, who, missed))


def leased(setting: Setting, state: State, who: int, reader: Reader) -> State:
    redis = setting.with_value(state.redis, reader.epoch, reader.key, lease_of(setting, who))
    return with_reader(with_redis(state, redis), who, reader)


def lease_of(setting: Setting, who: int) -> Value:
    """A reader's number stands for the random token of its attempt. `gave_up` gives the token to nobody."""
    return Value(LEASE, who if setting.rules.token_per_attempt else 0)


def read_watermark(setting: Setting, state: State, who: int) -> Moves:
    mine, mark = state.readers[who], state.redis.mark
    if not setting.rules.lease_before_watermark:
        if setting.cached(state.redis, mine.epoch)[mine.key] is None:
            yield Step(f"reader {who} leases", leased(setting, state, who, mine._replace(phase=KNOWS_MARK)))
        return
    knows = with_reader(state, who, mine._replace(phase=KNOWS_MARK, mark=mark))
    if setting.rules.fill_of_same_epoch and (mark is None or mark.epoch != mine.epoch):
        knows = gave_up(setting, state, who)  # it cannot fill any more, and its answer claims nothing new
    yield Step(f"reader {who} reads the watermark", knows)


def view(setting: Setting, state: State, who: int) -> Moves:
    """The serving build and its checkpoint. A deposed primary may give an older majority checkpoint."""
    mine = state.readers[who]
    if mine.value is None and not setting.rules.checkpoint_before_document:
        yield from read_first(setting, state, who)
        return
    build = state.serving.build
    history = visible(setting, state, build)
    for seq in setting.reads_between(0, len(history)):
        viewed = View(build, seq, upto_of(history, seq))
        if not may_fill(setting, state, mine, history[:seq]):
            yield from answer_only(setting, state, who, viewed)
        elif mine.value is None:
            has_view = Reader(VIEWED, mine.key, mine.epoch, None, viewed)
            yield Step(f"reader {who} views {seq}", with_reader(state, who, has_view))
        else:
            yield from view_last(state, who, viewed, mine.value)


def may_fill(setting: Setting, state: State, mine: Reader, history: History) -> bool:
    """Whether the checkpoint is of the lease's epoch and its history has reached the watermark."""
    rules, mark = setting.rules, mine.mark
    if mark is None:
        return False
    if rules.fill_of_same_epoch and not mine.epoch == state.serving.epoch == mark.epoch:
        return False
    if not rules.fill_from_floor:
        return True
    same = batch_of(history, mark.seq) == mark.batch or not rules.floor_of_same_history
    return mark.seq <= len(history) and same


def answer_only(setting: Setting, state: State, who: int, view: View) -> Moves:
    """Answers without filling."""
    mine = state.readers[who]
    value = setting.value(mine.key, visible(setting, state, view.build), view.seq)
    answer = Answer(mine.key, view.upto, value.content, tag_of(setting, state.serving.epoch, value))
    yield Step(f"reader {who} views {view.seq}", gave_up(setting, state, who), answer=answer)


def read(setting: Setting, state: State, who: int) -> Moves:
    """The document, from the same server or from one that knows more."""
    mine, view = state.readers[who], state.readers[who].view
    if view is None:
        return
    history = visible(setting, state, view.build)
    for length in setting.reads_between(min(view.seq, len(history)), len(history)):
        value = setting.value(mine.key, history[:length], view.seq)
        answer = Answer(mine.key, view.upto, value.content, tag_of(setting, mine.epoch, value))
        has_value = Reader(HAS_VALUE, mine.key, mine.epoch, value=value)
        yield Step(f"reader {who} reads", with_reader(state, who, has_value), answer=answer)


def read_first(setting: Setting, state: State, who: int) -> Moves:
    """Against the protocol: the document before the checkpoint, ..."""
    mine = state.readers[who]
    value = setting.value(mine.key, visible(setting, state, state.serving.build), 0)
    yield Step(f"reader {who} reads", with_reader(state, who, mine._replace(value=value)))


def view_last(state: State, who: int, view: View, value: Value) -> Moves:
    """... and the checkpoint after it."""
    mine = state.readers[who]
    value = value._replace(number=view.seq) if value.kind == ABSENT else value
    has_value = Reader(HAS_VALUE, mine.key, mine.epoch, value=value)
    answer = Answer(mine.key, view.upto, value.content, None)
    yield Step(f"reader {who} views {view.seq}", with_reader(state, who, has_value), answer=answer)


def fill(setting: Setting, state: State, who: int) -> Moves:
    """Set if still mine."""
    mine, redis = state.readers[who], state.redis
    value = mine.value
    if value is not None and value.kind == ABSENT and not setting.rules.absence_at_checkpoint:
        value = value._replace(number=len(visible(setting, state, state.serving.build)))
    if value is not None and may_store(setting, setting.cached(redis, mine.epoch)[mine.key], value, who):
        redis = setting.with_value(redis, mine.epoch, mine.key, value)
    yield Step(f"reader {who} fills", gave_up(setting, with_redis(state, redis), who))


def may_store(setting: Setting, entry: Value | None, value: Value, who: int) -> bool:
    if setting.rules.fill_under_lease:
        return entry == lease_of(setting, who)
    return setting.rules.fill_over_anything or entry is None or entry.number < value.number


def visible(setting: Setting, state: State, build: int) -> History:
    """The part of a build's history that a reader sees."""
    history, local, _ = state.builds[build]
    return history if setting.rules.majority_reads or local is None else (*history, local)


def tag_of(setting: Setting, epoch: int, value: Value) -> Tag | None:
    """The ETag of a present value: it names the bytes. (A restore uses epoch and version again.)"""
    if value.kind != VALUE or not setting.scenario.watches_tags:
        return None
    return Tag(0, value.content, value.content) if setting.rules.tag_names_content else Tag(epoch, *value[1:])


def gave_up(setting: Setting, state: State, who: int) -> State:
    """Ends the attempt. A lease that remains has a token that nobody will ever show again."""
    state = with_reader(state, who, Reader())
    if not setting.rules.token_per_attempt:
        return state
    lease = lease_of(setting, who)
    return state._replace(redis=orphaned(state.redis, lease), replica=orphaned(state.replica, lease))


def orphaned(redis: Redis, lease: Value) -> Redis:
    if not any(lease in values for _, values in redis.epochs):
        return redis
    nobodys = Value(LEASE, NOBODY)
    return redis._replace(
        epochs=tuple(
            (epoch, tuple(nobodys if value == lease else value for value in values))
            for epoch, values in redis.epochs
        )
    )


READER_STEPS = {OUT: begin, LEASED: read_watermark, KNOWS_MARK: view, VIEWED: read, HAS_VALUE: fill}
