"""The hub of live reads keeps its promises in every state within the bounds, and needs each of its rules."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.verification.live.model import verify
from tests.verification.live.mutations import LONG_SCENARIOS, MUTATIONS, SCENARIOS, Mutation
from tests.verification.live.rules import DESIGN, Rules, Scenario
from tests.verification.protocol.checker import demand_broken, demand_kept

SIGNS = {
    "failovers": "Redis fails over: reset",
    "losses": "the stream of client 0 ends",
    "silences": "the tide goes on",
    "presents": "the feed at present instead",
    "unwatches": "client 0 unwatches the post",
    "halves": "the first message of 2",
}


def check(scenario: Scenario) -> None:
    """All promises are kept, and each fault of the scenario is seen."""
    signs = {sign for name, sign in SIGNS.items() if getattr(scenario, name)}
    demand_kept(scenario.name, verify(DESIGN, scenario), signs | {f"tide {scenario.batches} to client 0"})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_live_reads_keep_their_promises(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_SCENARIOS, ids=lambda scenario: scenario.name)
def test_live_reads_keep_their_promises_within_larger_bounds(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_a_rule_a_promise_of_live_reads_breaks(mutation: Mutation) -> None:
    demand_broken(verify(mutation.rules, mutation.scenario), mutation.broken)


def test_every_rule_of_live_reads_is_broken_by_a_mutation() -> None:
    assert {mutation.without for mutation in MUTATIONS} == {rule.name for rule in fields(Rules)}
