"""The protocol keeps its promises in every state within the bounds, and needs each of its rules."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest

from tests.verification.protocol.answers import IN_PARTS, WHOLE, AnswerRules, verify_answers
from tests.verification.protocol.checker import demand_broken, demand_kept
from tests.verification.protocol.model import verify
from tests.verification.protocol.mutations import (
    ANSWER_MUTATIONS,
    LONG_SCENARIOS,
    MUTATIONS,
    SCENARIOS,
    Mutation,
)
from tests.verification.protocol.rules import CRASH, EVICTION, PROTOCOL, ROLLBACK, Rules, Scenario

SIGNS = {
    "eviction": "key 0 is evicted",
    "failover": "the replica takes over",
    "lost watermark": "the watermark is lost",
    "full memory": "A applies, memory is full",
    "redis error": "A applies and does not hear of it",
    "rollback": "the primary dies with it",
    "deposed primary": "reader 0 views 1",
    "journal gap": "A meets a gap in the journal",
    "restore": "the backup is restored",
    "crash": "A crashes",
    "takeover": "B claims",
    "rebuild": "B lets the new build serve",
}


def check_scenario(scenario: Scenario) -> None:
    """Checks a scenario, and that each of its faults strikes."""
    signs = {SIGNS[fault] for fault in scenario.faults} | {"reader 0 fills", "A applies"}
    demand_kept(scenario.name, verify(PROTOCOL, scenario), signs)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_protocol_keeps_its_promises(scenario: Scenario) -> None:
    check_scenario(scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_protocol_keeps_its_promises_within_larger_bounds(scenario: Scenario) -> None:
    check_scenario(scenario)


@pytest.mark.long
def test_the_promises_do_not_depend_on_what_the_transactions_do() -> None:
    for effects in itertools.product("+-.", repeat=3):
        key = "".join(effects)
        demand_kept(key, verify(PROTOCOL, Scenario(key, (key,), frozenset({CRASH, EVICTION, ROLLBACK}))))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_a_rule_a_promise_breaks(mutation: Mutation) -> None:
    demand_broken(verify(mutation.rules, mutation.scenario), mutation.broken)


def test_every_rule_is_broken_by_a_mutation() -> None:
    assert {rule for mutation in MUTATIONS for rule in mutation.without} == {
        rule.name for rule in fields(Rules)
    }
    assert set(ANSWER_MUTATIONS) == {rule.name for rule in fields(AnswerRules)}


def test_every_answer_keeps_the_promises() -> None:
    demand_kept("answers of two parts", verify_answers(AnswerRules()))
    demand_kept("answers while a transaction comes in parts", verify_answers(AnswerRules(), IN_PARTS))


@pytest.mark.parametrize(("rule", "broken"), ANSWER_MUTATIONS.items())
def test_without_a_rule_an_answer_breaks_a_promise(rule: str, broken: str) -> None:
    rules = replace(AnswerRules(), **{rule: False})
    outcome = verify_answers(rules, IN_PARTS if rule == "gtid_with_last_part" else WHOLE)
    assert outcome.finding is not None, f"{outcome.states:,} states, and nothing broke"
    assert outcome.finding.invariant == broken, outcome.finding.trace
