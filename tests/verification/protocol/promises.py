"""The promises of the protocol, as checks of a step and of a quiet state."""

from __future__ import annotations

from tests.verification.protocol.rules import RESTORE
from tests.verification.protocol.setting import Setting
from tests.verification.protocol.state import LEASE, Answer, Mark, Move, Redis, State, Tag, batch_of, upto_of

COVERS = "an entry under a watermark is at least as new as the last transaction that touched its key"
NEVER_BACK = "a cached version goes back only through absence; the watermark with a failover or a restore"
WITHIN_CHECKPOINT = "the watermark never passes MongoDB's checkpoint"
BOUND = "an answer covers its claimed bound"
ONE_CONTENT = "an ETag names one content"
NEVER_UNDONE = "a build that has served is not brought back"
ALL_EQUAL = "when all is quiet, the watermark is at the head, and what is cached equals MySQL"


def broken_by(setting: Setting, before: State, step: Move) -> str | None:
    """The promise that a step breaks."""
    after = step.state
    if step.answer is not None and (broken := broken_by_answer(setting, step.answer, before.tag)):
        return broken
    if after.serving.build < before.serving.build:
        return NEVER_UNDONE
    if after.redis is before.redis:
        return None
    if not covers(setting, after.redis):
        return COVERS
    if after.redis is before.replica:  # a failover takes both back
        return None
    if (
        after.redis.mark is not None
        and after.redis.mark != before.redis.mark
        and not is_committed(after, after.redis.mark)
    ):
        return WITHIN_CHECKPOINT
    return NEVER_BACK if goes_back(setting, before.redis, after.redis) else None


def broken_by_answer(setting: Setting, answer: Answer, known: Tag | None) -> str | None:
    if answer.content < setting.last[answer.key][answer.claimed]:
        return BOUND
    tag = answer.tag
    if tag is None or known is None or tag[:2] != known[:2] or tag == known:
        return None
    return ONE_CONTENT


def covers(setting: Setting, redis: Redis) -> bool:
    """Whether every entry is as new as the watermark says; a reader gets both from one MGET."""
    if redis.mark is None:
        return True
    for key, value in enumerate(setting.cached(redis, redis.mark.epoch)):
        if value is not None and value.kind != LEASE and value.content < setting.last[key][redis.mark.upto]:
            return False
    return True


def is_committed(state: State, mark: Mark) -> bool:
    """Whether a majority has exactly the batch that the watermark names."""
    return any(
        batch_of(build.history, mark.seq) == mark.batch and upto_of(build.history, mark.seq) == mark.upto
        for build in state.builds
    )


def goes_back(setting: Setting, before: Redis, after: Redis) -> bool:
    if before.mark is None or after.mark is None:
        return False
    if before.mark.epoch != after.mark.epoch:
        return after.mark.upto < before.mark.upto and not setting.scenario.faults & {RESTORE}
    if after.mark.seq < before.mark.seq:
        return True
    epoch = after.mark.epoch
    pairs = zip(setting.cached(before, epoch), setting.cached(after, epoch), strict=True)
    return any(
        was is not None and now is not None and LEASE not in (was.kind, now.kind) and now.number < was.number
        for was, now in pairs
    )


def broken_at(setting: Setting, state: State) -> str | None:
    """The promise that a quiet state breaks."""
    mark, head = state.redis.mark, setting.transactions
    history = state.builds[state.serving.build].history
    if (
        mark is None
        or mark.epoch != state.serving.epoch
        or mark.upto != head
        or upto_of(history, len(history)) != head
    ):
        return ALL_EQUAL
    cached = enumerate(setting.cached(state.redis, mark.epoch))
    equal = (
        value is None or value.kind == LEASE or value.content == setting.last[key][head]
        for key, value in cached
    )
    return None if all(equal) else ALL_EQUAL
