"""Strands of shards become one tide that keeps its promises in every state, and needs each rule."""

from __future__ import annotations

from dataclasses import fields, replace
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.verification.protocol.checker import demand_broken, demand_kept
from tests.verification.strands.model import strands, verify
from tests.verification.strands.mutations import (
    BESIDE,
    LONG_SCENARIOS,
    MUTATIONS,
    QUIET,
    SCENARIOS,
    Mutation,
)
from tests.verification.strands.rules import DESIGN, Rules, Scenario
from tests.verification.strands.state import World

UNFED = "unfed_are_not_waited_for"
SIGNS = {
    "takeovers": "a takeover",
    "restores": "MongoDB is restored to 0",
    "rebuilds": "a new build serves beside",
    "ticks": "strand 0 hears a tick",
    "hangs": "shard 1 is reached again",
    "failovers": "shard 0 fails over",
    "flushes": "shard 0 loses its data",
    "moves": "shard 0 answers MOVED",
    "breaks": "the connection of shard 0 breaks",
    "losses": "message 1 of shard 0 is lost",
    "silences": "shard 1 is heard again",
    "lates": "strand 1 is put out",
    "too_old": "an answer at present",
    "leases": "key 0 is filled",
    "answers": "an answer",
    "watched": "tide 2",
}


def check(scenario: Scenario) -> None:
    """All promises are kept, and each fault and each demand of the scenario is seen."""
    signs = {sign for name, sign in SIGNS.items() if getattr(scenario, name)}
    demand_kept(scenario.name, verify(DESIGN, scenario), signs | {f"shard 0: APPLY {scenario.batches}"})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_strands_keep_their_promises(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_SCENARIOS, ids=lambda scenario: scenario.name)
def test_strands_keep_their_promises_within_larger_bounds(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_a_rule_a_promise_of_strands_breaks(mutation: Mutation) -> None:
    demand_broken(verify(mutation.rules, mutation.scenario), mutation.broken)


def owed_steps(rules: Rules, scenario: Scenario) -> dict[World, list[World]]:
    """Each state, and those that follow by themselves."""
    system = strands(rules, scenario)
    owed: dict[World, list[World]] = {}
    waiting = [system.start]
    while waiting:
        state = waiting.pop()
        if state not in owed:
            steps = [*system.steps(state)]
            owed[state] = [step.state for step in steps if step.owed]
            waiting += [step.state for step in steps]
    return owed


@pytest.mark.parametrize("scenario", QUIET, ids=lambda scenario: scenario.name)
def test_all_becomes_quiet_once_faults_have_ended(scenario: Scenario) -> None:
    """No order of what happens by itself leads back to a state."""
    TopologicalSorter(owed_steps(DESIGN, scenario)).prepare()


def test_strands_of_two_histories_would_put_each_other_out_for_ever() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter(owed_steps(replace(DESIGN, **{UNFED: False}), BESIDE)).prepare()


def test_every_rule_of_strands_is_broken_by_a_mutation() -> None:
    assert {mutation.without for mutation in MUTATIONS} | {UNFED} == {rule.name for rule in fields(Rules)}
