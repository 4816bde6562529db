"""A partial replica keeps its promises in every state within the bounds, and no rule is there for nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.verification.protocol.checker import Finding, demand_broken, demand_kept, follow
from tests.verification.replica.model import LOCAL_AT_TIDE, replica, verify
from tests.verification.replica.mutations import (
    LINEAGE,
    LINEAGE_BY_SEQ,
    LONG_SCENARIOS,
    MUTATIONS,
    SCENARIOS,
    Mutation,
)
from tests.verification.replica.rules import DESIGN, Rules, Scenario

BY_SEQ = "lineage_names_the_batch"
SIGNS = {
    "restores": "MongoDB is restored to 0",
    "failovers": "the replica takes over",
    "demotions": "the demoted node loads the primary's data",
    "unsubscribes": "sunsubscribe: reset",
    "evictions": "key 0 is evicted",
    "takeovers": "a takeover",
    "rebuilds": "a new build serves up to 1",
    "others": "another process fills",
    "replays": "the stage replays 1",
    "answers": "an answer",
}


def check(scenario: Scenario) -> None:
    """All promises are kept, and each fault and each demand of the scenario is seen."""
    signs = {sign for name, sign in SIGNS.items() if getattr(scenario, name)}
    signs |= {"the reader takes its own fill"} if scenario.leases else set()
    signs |= {"the reader reads at present"} if scenario.too_old and scenario.leases else set()
    demand_kept(scenario.name, verify(DESIGN, scenario), signs | {"APPLY 1"})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_replica_keeps_its_promises(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_replica_keeps_its_promises_within_larger_bounds(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_a_rule_a_promise_of_the_replica_breaks(mutation: Mutation) -> None:
    demand_broken(verify(mutation.rules, mutation.scenario), mutation.broken)


def test_a_lineage_names_its_batch_and_not_only_its_seq() -> None:
    without = follow(replica(replace(DESIGN, **{BY_SEQ: False}), LINEAGE), LINEAGE_BY_SEQ)
    assert without == Finding(LOCAL_AT_TIDE, LINEAGE_BY_SEQ)
    assert follow(replica(DESIGN, LINEAGE), LINEAGE_BY_SEQ) is None


def test_every_rule_of_the_replica_is_broken_by_a_mutation() -> None:
    assert {mutation.without for mutation in MUTATIONS} | {BY_SEQ} == {rule.name for rule in fields(Rules)}
