"""The cache stage between batches: find the cache's position, go on from there, or begin a new epoch."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.protocol.naming import epochs_of, marks_of, unused
from tests.verification.protocol.projector import (
    NAMES,
    commit,
    fenced,
    forget,
    holds_checkpoint,
    known,
    mark_of,
)
from tests.verification.protocol.rules import JOURNAL_GAP
from tests.verification.protocol.setting import Setting
from tests.verification.protocol.state import (
    ALLOCATED,
    BROKEN,
    FOUND,
    IDLE,
    PROBED,
    STUCK,
    Mark,
    Moves,
    Projector,
    Redis,
    Serving,
    State,
    batch_of,
    with_projector,
    with_redis,
)


def go_on(setting: Setting, state: State, who: int) -> Moves:
    """The loop: find the cache's position, replay, notice a moved watermark, commit the next batch."""
    mine = state.projectors[who]
    if mine.mark is None:
        found = with_projector(state, who, mine._replace(phase=FOUND, mark=state.redis.mark))
        yield Step(f"{NAMES[who]} looks", found, True)
        yield from commit(setting, state, who)
    elif mine.mark == STUCK:
        yield from commit(setting, state, who)
    elif mine.mark.seq < mine.at.seq:
        yield from replay(setting, state, who, mine.mark)
    else:
        yield from tick(setting, state, who, mine.mark)
        yield from commit(setting, state, who)


def tick(setting: Setting, state: State, who: int, mark: Mark) -> Moves:
    """An APPLY without keys. A refusal means that the watermark has moved."""
    if state.redis.mark != mark and setting.rules.position_in_redis:
        yield Step(f"{NAMES[who]} ticks and is refused", forget(state, who), True)


def decide(setting: Setting, state: State, who: int) -> Moves:
    """Go on from a watermark of this history, else begin empty; stand down if another build serves."""
    mine = state.projectors[who]
    if state.serving.build != mine.at.build:
        yield fenced(state, who)
    elif mine.mark is None and not setting.rules.lost_watermark_starts_empty:
        yield Step(f"{NAMES[who]} puts a watermark back", jump(state, who, state.serving.epoch), True)
    elif mine.mark is None or not continues(setting, state, mine, mine.mark):
        broken = with_projector(state, who, mine._replace(phase=BROKEN))
        yield Step(f"{NAMES[who]} cannot go on from the watermark", broken, True)
    else:
        going = with_projector(state, who, mine._replace(phase=IDLE))
        if not setting.rules.replay_from_watermark:
            going = jump(state, who, mine.mark.epoch)
        yield Step(f"{NAMES[who]} goes on from the watermark", going, True)


def continues(setting: Setting, state: State, mine: Projector, mark: Mark) -> bool:
    if mark.epoch != state.serving.epoch or mark.seq > mine.at.seq:
        return False
    known = (
        mine.at.batch if mark.seq == mine.at.seq else batch_of(state.builds[mine.at.build].history, mark.seq)
    )
    return known == mark.batch or not setting.rules.same_history


def jump(state: State, who: int, epoch: int) -> State:
    """Against the protocol: the watermark moves to the checkpoint, and entries stay as they are."""
    at = state.projectors[who].at
    mark = mark_of(epoch, at)
    return with_projector(with_redis(state, Redis(mark, state.redis.epochs)), who, Projector(IDLE, at, mark))


def allocate(setting: Setting, state: State, who: int) -> Moves:
    """A new epoch in MongoDB. Only the holder of the checkpoint can allocate one."""
    mine = state.projectors[who]
    if not holds_checkpoint(state, who):
        yield fenced(state, who)
        return
    new = setting.rules.epochs_are_new
    epoch = unused(epochs_of(state, marks_of(state))) if new else state.serving.epoch + 1
    allocated = with_projector(state, who, Projector(ALLOCATED, mine.at, mine.mark, epoch))
    yield Step(
        f"{NAMES[who]} allocates an epoch", allocated._replace(serving=Serving(mine.at.build, epoch)), True
    )


def set_watermark(setting: Setting, state: State, who: int) -> Moves:
    """Compare-and-set. If another projector moved the watermark meanwhile, the next look decides."""
    mine = state.projectors[who]
    label = f"{NAMES[who]} sets the watermark"
    if mine.mark != state.redis.mark and setting.rules.watermark_by_compare_and_set:
        yield Step(label, forget(state, who), True)
        return
    mark = mark_of(mine.epoch, mine.at)
    redis = Redis(mark, () if setting.forgets_other_epochs else state.redis.epochs)
    yield Step(label, with_projector(with_redis(state, redis), who, Projector(IDLE, mine.at, mark)), True)


def replay(setting: Setting, state: State, who: int, mark: Mark) -> Moves:
    """Take the next entry of the journal and ask Redis which of its keys are present."""
    mine = state.projectors[who]
    history = known(setting, state, who)
    if mark.seq < len(history):
        touched = setting.touched(history, mark.seq + 1)
        values = setting.cached(state.redis, mark.epoch)
        present = tuple(key for key in touched if values[key] is not None)
        probed = Projector(PROBED, mine.at, mark, 0, history[mark.seq], touched, present)
        yield Step(f"{NAMES[who]} probes", with_projector(state, who, probed), True)
    if mark.seq >= len(history) or JOURNAL_GAP in setting.scenario.faults:
        gap = jump(state, who, mark.epoch)
        if setting.rules.journal_gap_starts_empty:
            gap = with_projector(state, who, mine._replace(phase=BROKEN))
        yield Step(f"{NAMES[who]} meets a gap in the journal", gap, owed=mark.seq >= len(history))
