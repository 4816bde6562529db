"""Faults of the stores and of a projector, at any moment; and how MongoDB settles a batch of its primary."""

from __future__ import annotations

from tests.verification.protocol.checker import Step
from tests.verification.protocol.projector import NAMES
from tests.verification.protocol.rules import CRASH, EVICTION, FAILOVER, LOST_WATERMARK, RESTORE, ROLLBACK
from tests.verification.protocol.setting import Setting
from tests.verification.protocol.state import (
    DOWN,
    VIEWED,
    Backup,
    Moves,
    Projector,
    Reader,
    Redis,
    Serving,
    State,
    with_build,
    with_projector,
    with_redis,
)


def settle(setting: Setting, state: State) -> Moves:
    """A batch on the primary alone reaches a majority, or its primary dies before that."""
    for number, build in enumerate(state.builds):
        if build.local is not None:
            kept = build._replace(history=(*build.history, build.local), local=None)
            yield Step("a majority has it", with_build(state, number, kept), True)
            if ROLLBACK in setting.scenario.faults:
                yield Step("the primary dies with it", with_build(state, number, build._replace(local=None)))


def evict(setting: Setting, state: State) -> Moves:
    for epoch, values in state.redis.epochs:
        for key, value in enumerate(values):
            if value is not None:
                redis = setting.with_value(state.redis, epoch, key, None)
                yield Step(f"key {key} is evicted", with_redis(state, redis))


def fail_over(setting: Setting, state: State) -> Moves:
    """The replica has a prefix of Redis's history, and may take over with that prefix."""
    if state.replica != state.redis:
        yield Step("the replica catches up", state._replace(replica=state.redis))
        yield Step("the replica takes over", with_redis(state, state.replica))


def lose_watermark(setting: Setting, state: State) -> Moves:
    if state.redis.mark is not None:
        epochs = () if setting.forgets_other_epochs else state.redis.epochs
        yield Step("the watermark is lost", with_redis(state, Redis(None, epochs)))


def crash(setting: Setting, state: State) -> Moves:
    for who, projector in enumerate(state.projectors):
        if projector.phase != DOWN:
            yield Step(f"{NAMES[who]} crashes", with_projector(state, who, dead(setting, projector)))


def dead(setting: Setting, projector: Projector) -> Projector:
    return Projector(mark=None if setting.rules.position_in_redis else projector.mark)


def restore(setting: Setting, state: State) -> Moves:
    """MongoDB goes back to a backup while every projector is stopped.

    A restore takes longer than a read's timeout (2 s). So no reader has a checkpoint from before and a
    document from after the restore.
    """
    if state.backup is None:
        return
    build = state.builds[0]
    backup = Backup(len(build.history), state.serving.epoch)
    if state.backup != backup:
        yield Step("a backup is made", state._replace(backup=backup))
    if len(build.history) > state.backup.length:
        restored = with_build(
            state, 0, build._replace(history=build.history[: state.backup.length], local=None)
        )
        stops = setting.rules.restore_stops_projectors
        restored = restored._replace(
            serving=Serving(0, state.backup.epoch),
            backup=None,
            projectors=tuple(
                dead(setting, projector) if stops else projector for projector in state.projectors
            ),
            readers=tuple(Reader() if reader.phase == VIEWED else reader for reader in state.readers),
        )
        yield Step("the backup is restored", restored)


FAULTS = {
    EVICTION: evict,
    FAILOVER: fail_over,
    LOST_WATERMARK: lose_watermark,
    CRASH: crash,
    RESTORE: restore,
}
