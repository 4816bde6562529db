"""What no row event shows stops the projector, and nothing else does: statements executed on a real MySQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from ops.stack import Stack
from tests.conftest import empty_stores
from tests.projector.judging import Bench, bench
from tests.statements_at_random import at_random


@pytest.fixture(scope="module")
def judge(shared_stack: Stack) -> Iterator[Bench]:
    empty_stores(shared_stack)
    with bench(shared_stack) as found:
        yield found


def differ(judge: Bench, seed: int, statements: int) -> Counter[str]:
    """Executes so many statements that MySQL takes; fails at the first one that hides a change."""
    random, found = Random(seed), Counter[str]()
    samples = at_random(random)
    while found["statements"] < statements:
        if not random.randrange(8) or not found:
            judge.is_fresh = False
        judge.reset()
        for sample in samples:
            judged = judge.sample(sample, afterwards=random.random() < 0.5)
            found["refused by MySQL"] += bool(judged.error)
            if judged.error and not judged.stopped and not judged.differences:
                continue
            found["statements"] += 1
            found["stopped"] += bool(judged.stopped)
            found["harmless"] += sample.harmless
            found["harmless stopped"] += sample.harmless and bool(judged.stopped)
            assert not judged.differences, (seed, sample, judged)
            if sample.harmless and judged.stopped:
                print(sample, judged.stopped)
            if judged.stopped or not random.randrange(8):
                break
    print(f"seed {seed}:", dict(found))
    return found


def test_statements_at_random_stop_or_leave_the_read_model_equal(judge: Bench) -> None:
    found = differ(judge, seed=1, statements=150)
    assert found["harmless stopped"] <= found["harmless"] / 100


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 8))
def test_thousands_of_statements_stop_or_leave_the_read_model_equal(judge: Bench, seed: int) -> None:
    found = differ(judge, seed, statements=1000)
    assert found["harmless stopped"] <= found["harmless"] / 100
