"""The protocol as built keeps its promises in every state; without any one of its rules it does not."""

from __future__ import annotations

import pytest

from tests.protocol.model import verify
from tests.protocol.mutations import MUTATIONS, SCENARIOS, Mutation
from tests.protocol.rules import PROTOCOL, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_protocol_keeps_its_promises(scenario: Scenario) -> None:
    outcome = verify(PROTOCOL, scenario)
    print(f"{scenario.name}: {outcome.states} states")
    assert outcome.finding is None, "\n".join([outcome.finding.invariant, *outcome.finding.trace])
    assert outcome.complete


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_a_rule_a_promise_breaks(mutation: Mutation) -> None:
    outcome = verify(mutation.rules, mutation.scenario)
    assert outcome.finding is not None, f"{outcome.states} states, and nothing broke"
    assert outcome.finding.invariant == mutation.broken
