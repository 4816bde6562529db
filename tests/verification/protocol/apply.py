"""APPLY, step by step: probe, read bytes back, then move entries and watermark in one script."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.protocol.projector import NAMES, forget
from tests.verification.protocol.rules import FULL_MEMORY, REDIS_ERROR
from tests.verification.protocol.setting import Setting
from tests.verification.protocol.state import (
    HALF_APPLIED,
    IDLE,
    LEASE,
    READ_BACK,
    STUCK,
    Mark,
    Moves,
    Projector,
    Redis,
    State,
    Value,
    with_projector,
    with_redis,
    with_values,
)


def read_back(setting: Setting, state: State, who: int) -> Moves:
    """Reads bytes for the entities that were present, from the majority's history.

    A deposed primary may lag behind the majority, but not behind the commits that this projector knows.
    """
    yield from redis_fails(setting, state, who)
    mine = state.projectors[who]
    history, local, _ = state.builds[mine.at.build]
    if not setting.rules.read_back_by_majority and local is not None:
        history = (*history, local)
    for length in setting.reads_between(mine.at.seq, len(history)):
        values = tuple(
            setting.value(key, history[:length], following(mine).seq)
            if key in mine.present and key not in setting.scenario.lists
            else None
            for key in mine.touched
        )
        read = with_projector(state, who, mine._replace(phase=READ_BACK, present=(), values=values))
        yield Step(f"{NAMES[who]} reads back {length}", read, True)


def apply(setting: Setting, state: State, who: int) -> Moves:
    """Redis refuses unless the watermark is exactly the one before."""
    yield from redis_fails(setting, state, who)
    rules, label = setting.rules, f"{NAMES[who]} applies"
    if rules.apply_compares_previous and state.redis.mark != state.projectors[who].mark:
        yield Step(label, forget(state, who), True)
    elif not rules.atomic_apply:
        first = half(setting, state, who, entries=rules.entries_before_watermark)
        yield Step(f"{label} one half", first, True)
    else:
        done = applied(setting, state, who)
        yield Step(label, done, True)
        if FULL_MEMORY in setting.scenario.faults:
            yield Step(f"{label}, memory is full", applied(setting, state, who, memory_full=True))
        if REDIS_ERROR in setting.scenario.faults:
            yield Step(f"{label} and does not hear of it", after_error(setting, done, who))


def applied(setting: Setting, state: State, who: int, *, memory_full: bool = False) -> State:
    mine = state.projectors[who]
    mark = following(mine)
    redis = Redis(mark, with_entries(setting, state.redis, mine, memory_full).epochs)
    return with_projector(with_redis(state, redis), who, Projector(IDLE, mine.at, mark))


def following(mine: Projector) -> Mark:
    """The watermark after the batch under way."""
    if mine.mark is None or mine.batch is None:
        raise AssertionError(f"without a watermark or a batch nothing can be applied: {mine}")
    return Mark(mine.mark.epoch, mine.mark.seq + 1, *mine.batch)


def half(setting: Setting, state: State, who: int, *, entries: bool) -> State:
    """Against the protocol: entries and watermark in two commands."""
    mine = state.projectors[who]
    redis = (
        with_entries(setting, state.redis, mine) if entries else Redis(following(mine), state.redis.epochs)
    )
    return with_projector(with_redis(state, redis), who, mine._replace(phase=HALF_APPLIED))


def apply_other_half(setting: Setting, state: State, who: int) -> Moves:
    mine, entries_first = state.projectors[who], setting.rules.entries_before_watermark
    done = forget(state, who)
    if state.redis.mark == (mine.mark if entries_first else following(mine)):
        done = half(setting, state, who, entries=not entries_first)
        done = with_projector(done, who, Projector(IDLE, mine.at, following(mine)))
    yield Step(f"{NAMES[who]} applies the other half", done, True)


def with_entries(setting: Setting, redis: Redis, mine: Projector, memory_full: bool = False) -> Redis:
    mark = following(mine)
    values: list[Value | None] = list(setting.cached(redis, mark.epoch))
    for key, value in zip(mine.touched, mine.values, strict=True):
        entry = values[key]
        if entry is not None and not is_left_alone(setting, entry, mark.seq):
            values[key] = replacement(setting, key, entry, value, memory_full)
    return with_values(redis, mark.epoch, tuple(values))


def replacement(
    setting: Setting, key: int, entry: Value, value: Value | None, memory_full: bool
) -> Value | None:
    """The value after APPLY of a present key that the batch touched: fresh bytes, else nothing."""
    rules = setting.rules
    if value is None:
        deletes = rules.delete_lists if key in setting.scenario.lists else rules.delete_what_was_not_probed
        return None if deletes else entry
    if memory_full:
        return None if rules.delete_on_memory_error else entry
    return None if entry.kind != LEASE and entry.number > value.number else value


def is_left_alone(setting: Setting, entry: Value, seq: int) -> bool:
    """Whether APPLY skips an entry. Always False under the protocol."""
    rules = setting.rules
    if entry.kind == LEASE:
        return not rules.apply_ends_leases
    if rules.keep_nothing:
        return False
    return entry.number > seq or (entry.number == seq and not rules.replace_same_version)


def redis_fails(setting: Setting, state: State, who: int) -> Moves:
    if REDIS_ERROR in setting.scenario.faults:
        yield Step(f"{NAMES[who]} gets no answer from Redis", after_error(setting, state, who))


def after_error(setting: Setting, state: State, who: int) -> State:
    if setting.rules.error_forgets_watermark:
        return forget(state, who)
    return with_projector(state, who, Projector(IDLE, state.projectors[who].at, STUCK))
