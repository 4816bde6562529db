"""Under any order of commands and any faults between them, readers and projectors keep the promises.

`SCHEDULE_SEED=5 pytest tests/verification/schedules -k thousands` repeats schedule 5 alone.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest

from tests.verification.schedules.faults import PROJECTORS
from tests.verification.schedules.mutations import MUTATIONS
from tests.verification.schedules.running import SHIPPING, Runner

SHORT, LONG = range(2_000), range(2_000, 22_000)
RESTORES, LONG_RESTORES = range(100), range(100, 1_000)
SEED = os.environ.get("SCHEDULE_SEED")
PROJECTORS_ALONE = replace(SHIPPING, asked=False)
NUMBER = re.compile(r"\d{2,}|e\d+:|\d+$")  # of ids, epochs and batches, which grow from run to run


def test_promises_hold_in_thousands_of_schedules(runner: Runner) -> None:
    print(runner.count(SHORT if SEED is None else [int(SEED)]))


def test_projectors_alone_keep_the_cache_true_to_a_restored_mongodb(runner: Runner) -> None:
    """Readers' fills are left out: they are judged above, without restores."""
    print(runner.count(RESTORES, PROJECTORS_ALONE, PROJECTORS))


@pytest.mark.long
def test_promises_hold_in_twenty_thousand_schedules(runner: Runner) -> None:
    print(runner.count(LONG))


@pytest.mark.long
def test_projectors_alone_keep_the_cache_true_in_hundreds_of_restores(runner: Runner) -> None:
    print(runner.count(LONG_RESTORES, PROJECTORS_ALONE, PROJECTORS))


def test_a_seed_decides_every_step(runner: Runner) -> None:
    first, again = (
        [[NUMBER.sub("#", step) for step in trace] for trace in runner.run(range(40))] for _ in range(2)
    )
    assert first == again


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_found(runner: Runner, name: str) -> None:
    mutation = MUTATIONS[name]
    found = (
        runner.finds(mutation.product, mutation.faults, seeds)
        for seeds in ([mutation.seed], range(mutation.within))
    )
    assert any(found), f"{name}: not found in {mutation.within} schedules"
