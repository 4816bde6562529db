"""MySQL's history: what each read shows at each moment, and which keys each message names."""

from __future__ import annotations

from functools import cache

from tests.verification.live.rules import (
    CHANGED,
    COUNTED,
    FEED,
    FOLLOWEES,
    GONE,
    HEAD,
    KEYS,
    OTHER,
    POST,
    UNTOUCHED,
    Rules,
    Scenario,
)
from tests.verification.live.state import Body


@cache
def content(scenario: Scenario, key: int, moment: int) -> int:
    """The last batch that changed the key; 0: it is absent."""
    effects = scenario.effects[key][:moment]
    return effects.rfind(CHANGED) + 1 if effects.rfind(CHANGED) > effects.rfind(GONE) else 0


@cache
def counter(scenario: Scenario, key: int, moment: int) -> int:
    return scenario.effects[key][:moment].count(COUNTED)


@cache
def body_at(scenario: Scenario, read: int, moment: int) -> Body:
    if read == POST:
        return content(scenario, OTHER, moment), counter(scenario, OTHER, moment)
    heads = (key for key in dependencies_at(scenario, FEED, moment) if key != FOLLOWEES)
    return tuple(found for key in heads if (found := content(scenario, key, moment)))


@cache
def dependencies_at(scenario: Scenario, read: int, moment: int) -> tuple[int, ...]:
    if read == POST:
        return (OTHER,)
    return KEYS if content(scenario, FOLLOWEES, moment) else (FOLLOWEES, HEAD)


def gtids(scenario: Scenario, moment: int) -> int:
    return moment - sum(tick <= moment for tick in scenario.ticks)


@cache
def first_named(
    rules: Rules, scenario: Scenario, read: int, keys: tuple[int, ...], after: int, upto: int
) -> int | None:
    """The first position of the tide, after one and up to another, whose message names one of the keys."""
    positions = (at for at in range(after + 1, upto + 1) if at % 2 == 0 or (at + 1) // 2 in scenario.halves)
    return next((at for at in positions if names(rules, scenario, read, keys, at)), None)


def names(rules: Rules, scenario: Scenario, read: int, keys: tuple[int, ...], position: int) -> bool:
    batch, is_last = (position + 1) // 2, position % 2 == 0
    if rules.batch_counts_at_its_last_message:
        told: tuple[int, ...] = KEYS if is_last else ()
    elif batch in scenario.halves:
        told = (OTHER,) if is_last else (FOLLOWEES, HEAD)
    else:
        told = KEYS
    silent = UNTOUCHED if read == POST and rules.counters_are_names else UNTOUCHED + COUNTED
    return any(key in told and scenario.effects[key][batch - 1] not in silent for key in keys)
