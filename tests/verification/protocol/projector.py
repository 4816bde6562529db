"""The projector: claims the checkpoint of the build that serves, commits batches, or makes a new build."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.protocol.naming import batches_of, epochs_of, marks_of, unused
from tests.verification.protocol.rules import REBUILD, TAKEOVER
from tests.verification.protocol.setting import Setting
from tests.verification.protocol.state import (
    CAUGHT_UP,
    COMMITTING,
    DOWN,
    IDLE,
    OUTRUN,
    SNAPSHOT,
    Batch,
    Build,
    History,
    Mark,
    Move,
    Moves,
    Position,
    Projector,
    Redis,
    Serving,
    State,
    batch_of,
    upto_of,
    with_build,
    with_projector,
    with_redis,
)

NAMES = "AB"


def begin(setting: Setting, state: State, who: int) -> Moves:
    """With the lease: open the serving build, or make a new one. Some projector always comes up again."""
    build = state.builds[state.serving.build]
    leader = state.projectors[build.fence].phase
    paused = who > build.fence
    if leader in (DOWN, CAUGHT_UP) or (paused and TAKEOVER in setting.scenario.faults):
        nobody_is_up = all(projector.phase == DOWN for projector in state.projectors)
        if build.local is None:
            yield Step(f"{NAMES[who]} claims", claimed(state, who), owed=nobody_is_up)
    if paused and REBUILD in setting.scenario.faults and len(state.builds) == 1:
        yield from snapshots(setting, state, who)


def claimed(state: State, who: int) -> State:
    """A write: it settles batches that no majority has yet, and fences the former leader of this build."""
    number = state.serving.build
    kept = state.projectors[who].mark  # None, unless the position is kept outside Redis
    others = tuple(
        mine._replace(phase=OUTRUN) if mine.phase == CAUGHT_UP else mine for mine in state.projectors
    )
    state = with_projector(
        state._replace(projectors=others), who, Projector(IDLE, position(state, number), kept)
    )
    return with_build(state, number, state.builds[number]._replace(fence=who))


def snapshots(setting: Setting, state: State, who: int) -> Moves:
    """A new build is filled from MySQL while the old one goes on."""
    former = state.builds[0]
    id = unused(batches_of(state, marks_of(state)))
    for upto in range(upto_of(former.history, len(former.history)), setting.transactions + 1):
        begun = Projector(SNAPSHOT, Position(1, 0, 0, 0), batch=Batch(id, upto))
        yield Step(f"{NAMES[who]} takes a snapshot of {upto}", with_projector(state, who, begun))


def catch_up(setting: Setting, state: State, who: int) -> Moves:
    """With the lease, which the leader has handed over or lost: claim the former build, so it stands still.
    Then the stream brings the new build at least to the same point."""
    mine, former = state.projectors[who], state.builds[0]
    if mine.batch is None:
        return
    if setting.rules.rebuild_claims_former_build:
        if former.local is not None:
            return
        state = with_build(state, 0, former._replace(fence=who))
    least = mine.batch.upto
    if setting.rules.new_build_contains_former:
        least = max(least, upto_of(former.history, len(former.history)))
    for upto in range(least, setting.transactions + 1):
        caught_up = mine._replace(phase=CAUGHT_UP, batch=mine.batch._replace(upto=upto))
        yield Step(f"{NAMES[who]} catches up to {upto}", with_projector(state, who, caught_up), True)


def switch(setting: Setting, state: State, who: int) -> Moves:
    """The new build serves, with an empty cache. The same transaction claims the former build's checkpoint.

    So a remaining leader of the former build cannot write any more, and a rebuild without the lease cannot
    switch.
    """
    mine, former = state.projectors[who], state.builds[0]
    if mine.batch is None:
        return
    if setting.rules.switch_claims_former_build:
        if mine.phase == OUTRUN:
            yield fenced(state, who)
        if mine.phase == OUTRUN or former.local is not None:
            return
        former = former._replace(fence=who)
    epoch = unused(epochs_of(state, marks_of(state)))
    switched = with_projector(state, who, Projector(IDLE, Position(1, 1, *mine.batch)))
    switched = switched._replace(builds=(former, Build((mine.batch,), None, who)), serving=Serving(1, epoch))
    yield Step(f"{NAMES[who]} lets the new build serve", switched, True)


def commit(setting: Setting, state: State, who: int) -> Moves:
    """Compare-and-set of the checkpoint with a new random id, first on the primary alone.

    (Without a batch, a compare-and-set writes the checkpoint's freshness.)
    """
    mine = state.projectors[who]
    if not holds_checkpoint(state, who):
        yield fenced(state, who)
        return
    if mine.at.upto == setting.transactions:
        return
    id = unused(batches_of(state, marks_of(state)))
    for upto in range(mine.at.upto + 1, setting.transactions + 1):
        batch = Batch(id, upto)
        committing = with_projector(state, who, mine._replace(phase=COMMITTING, batch=batch))
        build = state.builds[mine.at.build]._replace(local=batch)
        yield Step(f"{NAMES[who]} commits to {upto}", with_build(committing, mine.at.build, build), True)
    if not setting.rules.filtered_through_mongodb:
        yield from move_watermark_alone(setting, state, who)


def move_watermark_alone(setting: Setting, state: State, who: int) -> Moves:
    """Against the protocol: a transaction without keys reaches the cache and skips MongoDB."""
    mine = state.projectors[who]
    if mine.mark is None or mine.mark != state.redis.mark or mine.mark.upto == setting.transactions:
        return
    if all(key[mine.mark.upto] == "." for key in setting.scenario.keys):
        mark = mine.mark._replace(upto=mine.mark.upto + 1)
        moved = with_projector(state, who, mine._replace(mark=mark))
        yield Step(
            f"{NAMES[who]} moves the watermark alone",
            with_redis(moved, Redis(mark, state.redis.epochs)),
            True,
        )


def learn(setting: Setting, state: State, who: int) -> Moves:
    """Acknowledged by a majority: go on. Settled but not in the history: forget everything in memory."""
    mine = state.projectors[who]
    if mine.batch is None:
        return
    if batch_of(known(setting, state, who), mine.at.seq + 1) == mine.batch.id:
        at = Position(mine.at.build, mine.at.seq + 1, *mine.batch)
        yield Step(
            f"{NAMES[who]} has committed", with_projector(state, who, Projector(IDLE, at, mine.mark)), True
        )
    elif state.builds[mine.at.build].local != mine.batch:
        yield Step(f"{NAMES[who]} has lost its batch", with_projector(state, who, Projector()), True)


def known(setting: Setting, state: State, who: int) -> History:
    """The history that a projector takes for committed."""
    history, local, _ = state.builds[state.projectors[who].at.build]
    return history if setting.rules.commit_by_majority or local is None else (*history, local)


def position(state: State, number: int) -> Position:
    history = state.builds[number].history
    seq = len(history)
    return Position(number, seq, batch_of(history, seq) or 0, upto_of(history, seq))


def mark_of(epoch: int, at: Position) -> Mark:
    """The watermark of a cache that is where MongoDB is."""
    return Mark(epoch, at.seq, at.batch, at.upto)


def holds_checkpoint(state: State, who: int) -> bool:
    """Whether a compare-and-set of the checkpoint succeeds."""
    at = state.projectors[who].at
    build = state.builds[at.build]
    return build.fence == who and build.local is None and position(state, at.build) == at


def fenced(state: State, who: int) -> Move:
    return Step(f"{NAMES[who]} is fenced", with_projector(state, who, Projector()), True)


def forget(state: State, who: int) -> State:
    """The watermark differs from this projector's memory: look again."""
    return with_projector(state, who, Projector(IDLE, state.projectors[who].at))
