"""One name for all states that differ only in the random ids of epochs and batches."""

from __future__ import annotations

from dataclasses import dataclass

from tests.verification.protocol.state import (
    STUCK,
    Batch,
    Build,
    Mark,
    Projector,
    Reader,
    Redis,
    Serving,
    State,
)


def canonical(state: State) -> State:
    """The state with epochs and batches numbered in order of appearance. 0 stands for none."""
    marks = marks_of(state)
    epochs, batches = epochs_of(state, marks), batches_of(state, marks)
    if in_order(epochs) and in_order(batches):
        return state
    return Names(numbered(epochs), numbered(batches)).state(state)


def unused(names: list[int]) -> int:
    """The least number that the state does not refer to. Such ids keep the number of states finite."""
    used = set(names)
    return next(number for number in range(1, len(used) + 2) if number not in used)


def marks_of(state: State) -> list[Mark]:
    held = [state.redis.mark, state.replica.mark]
    held += [projector.mark for projector in state.projectors if projector.mark != STUCK]
    held += [reader.mark for reader in state.readers]
    return [mark for mark in held if mark is not None]


def epochs_of(state: State, marks: list[Mark]) -> list[int]:
    found = [0, state.serving.epoch]
    if state.backup is not None:
        found.append(state.backup.epoch)
    found += [mark.epoch for mark in marks]
    found += [epoch for epoch, _ in state.redis.epochs]
    found += [epoch for epoch, _ in state.replica.epochs]
    found += [projector.epoch for projector in state.projectors]
    found += [reader.epoch for reader in state.readers]
    if state.tag is not None:
        found.append(state.tag.epoch)
    return found


def batches_of(state: State, marks: list[Mark]) -> list[int]:
    found = [0]
    for build in state.builds:
        found += [batch.id for batch in build.history]
        if build.local is not None:
            found.append(build.local.id)
    found += [mark.batch for mark in marks]
    for projector in state.projectors:
        found.append(projector.at.batch)
        if projector.batch is not None:
            found.append(projector.batch.id)
    return found


def in_order(names: list[int]) -> bool:
    most = 0
    for name in names:
        if name > most:
            if name > most + 1:
                return False
            most = name
    return True


def numbered(names: list[int]) -> dict[int, int]:
    return {name: at for at, name in enumerate(dict.fromkeys(names))}


@dataclass(frozen=True)
class Names:
    """Old name -> new name."""

    epochs: dict[int, int]
    batches: dict[int, int]

    def state(self, state: State) -> State:
        backup, tag = state.backup, state.tag
        return State(
            tuple(self.build(build) for build in state.builds),
            Serving(state.serving.build, self.epochs[state.serving.epoch]),
            self.redis(state.redis),
            self.redis(state.replica),
            None if backup is None else backup._replace(epoch=self.epochs[backup.epoch]),
            tuple(self.projector(projector) for projector in state.projectors),
            tuple(self.reader(reader) for reader in state.readers),
            None if tag is None else tag._replace(epoch=self.epochs[tag.epoch]),
        )

    def build(self, build: Build) -> Build:
        history = tuple(Batch(self.batches[batch.id], batch.upto) for batch in build.history)
        return Build(history, self.batch(build.local), build.fence)

    def batch(self, batch: Batch | None) -> Batch | None:
        return None if batch is None else Batch(self.batches[batch.id], batch.upto)

    def mark(self, mark: Mark | None) -> Mark | None:
        if mark is None or mark == STUCK:
            return mark
        return Mark(self.epochs[mark.epoch], mark.seq, self.batches[mark.batch], mark.upto)

    def redis(self, redis: Redis) -> Redis:
        renamed = sorted((self.epochs[epoch], at) for at, (epoch, _) in enumerate(redis.epochs))
        return Redis(self.mark(redis.mark), tuple((epoch, redis.epochs[at][1]) for epoch, at in renamed))

    def projector(self, mine: Projector) -> Projector:
        at = mine.at._replace(batch=self.batches[mine.at.batch])
        return mine._replace(
            at=at, mark=self.mark(mine.mark), epoch=self.epochs[mine.epoch], batch=self.batch(mine.batch)
        )

    def reader(self, mine: Reader) -> Reader:
        return mine._replace(epoch=self.epochs[mine.epoch], mark=self.mark(mine.mark))
