"""The cache protocol as a system of atomic steps: projectors, readers and faults, each at any moment.

All of MySQL's transactions exist from the start, and a batch takes any number of the remaining ones: this
leaves out no order. Ids are random in the protocol; here an id is the least number not in use. The cache
treats a part of a transaction like a transaction. Not in the model: as-of times and tokens (see `answers`),
Redis Cluster.
"""

from __future__ import annotations

from functools import partial

from tests.verification.protocol.apply import apply, apply_other_half, read_back
from tests.verification.protocol.catching_up import allocate, decide, go_on, set_watermark
from tests.verification.protocol.checker import Outcome, Step, System, explore
from tests.verification.protocol.faults import FAULTS, settle
from tests.verification.protocol.naming import canonical
from tests.verification.protocol.projector import begin, catch_up, learn, switch
from tests.verification.protocol.promises import broken_at, broken_by
from tests.verification.protocol.readers import READER_STEPS
from tests.verification.protocol.rules import FAILOVER, RESTORE, Rules, Scenario
from tests.verification.protocol.setting import Setting
from tests.verification.protocol.state import (
    ALLOCATED,
    BROKEN,
    CAUGHT_UP,
    COMMITTING,
    DOWN,
    FOUND,
    HALF_APPLIED,
    IDLE,
    NOWHERE,
    OUTRUN,
    PROBED,
    READ_BACK,
    SNAPSHOT,
    Answer,
    Backup,
    Build,
    Mark,
    Moves,
    Projector,
    Reader,
    Redis,
    Serving,
    State,
)

PROJECTOR_STEPS = {
    DOWN: begin,
    IDLE: go_on,
    COMMITTING: learn,
    FOUND: decide,
    BROKEN: allocate,
    ALLOCATED: set_watermark,
    PROBED: read_back,
    READ_BACK: apply,
    HALF_APPLIED: apply_other_half,
    SNAPSHOT: catch_up,
    CAUGHT_UP: switch,
    OUTRUN: switch,
}


def verify(rules: Rules, scenario: Scenario, limit: int = 10_000_000) -> Outcome:
    """Visits every state of the scenario, or stops at the first broken promise."""
    return explore(system(rules, scenario), limit)


def system(rules: Rules, scenario: Scenario) -> System[State, Answer]:
    setting = Setting(rules, scenario)
    return System(
        start=start(scenario),
        steps=partial(steps_and_tags if scenario.watches_tags else steps, setting),
        canonical=canonical if rules.epochs_are_new else as_it_is,
        broken_by=partial(broken_by, setting),
        broken_at=partial(broken_at, setting),
    )


def as_it_is(state: State) -> State:
    """Renames nothing: epochs that are counted instead of drawn differ by their numbers."""
    return state


def start(scenario: Scenario) -> State:
    """An empty build in epoch 1, opened by the first projector, and its watermark."""
    mark = Mark(1, 0, 0, 0)
    redis = Redis(mark)
    return State(
        builds=(Build(),),
        serving=Serving(0, 1),
        redis=redis,
        replica=redis if FAILOVER in scenario.faults else Redis(),
        backup=Backup(0, 1) if RESTORE in scenario.faults else None,
        projectors=(Projector(IDLE, NOWHERE, mark), *[Projector()] * (scenario.projectors - 1)),
        readers=(Reader(),) * scenario.readers,
        tag=None,
    )


def steps(setting: Setting, state: State) -> Moves:
    """Every step that is possible."""
    for who, projector in enumerate(state.projectors):
        yield from PROJECTOR_STEPS[projector.phase](setting, state, who)
    yield from settle(setting, state)
    for who, reader in enumerate(state.readers):
        yield from READER_STEPS[reader.phase](setting, state, who)
    for name, fault in FAULTS.items():
        if name in setting.scenario.faults:
            yield from fault(setting, state)


def steps_and_tags(setting: Setting, state: State) -> Moves:
    """Every possible step. In addition, a client may keep the tag of one answer."""
    for step in steps(setting, state):
        yield step
        if state.tag is None and step.answer is not None and step.answer.tag is not None:
            yield Step(f"{step.label}, and a client keeps the tag", step.state._replace(tag=step.answer.tag))
