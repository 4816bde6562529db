"""A scenario under some rules: the effect of transactions on keys, and the possible reads of MongoDB."""

from __future__ import annotations

from tests.verification.protocol.rules import DEPOSED, Rules, Scenario
from tests.verification.protocol.state import (
    ABSENT,
    VALUE,
    History,
    Redis,
    Value,
    Values,
    upto_of,
    with_values,
)


class Setting:
    """Constant during a check. `last[key][upto]`: the last transaction up to `upto` that touched the key."""

    def __init__(self, rules: Rules, scenario: Scenario) -> None:
        self.rules = rules
        self.scenario = scenario
        self.transactions = scenario.transactions
        self.last = tuple(
            tuple(last_touch(key, upto) for upto in range(len(key) + 1)) for key in scenario.keys
        )
        self.nothing: Values = (None,) * len(scenario.keys)

    @property
    def forgets_other_epochs(self) -> bool:
        """Drops keys of an epoch without a watermark: nobody reads them as long as no epoch comes back."""
        rules = self.rules
        return (
            rules.epochs_are_new and rules.lost_watermark_starts_empty and rules.watermark_by_compare_and_set
        )

    def value(self, key: int, history: History, checkpoint: int) -> Value:
        """The result of a read of MongoDB: a document, or an absence or a list as of a checkpoint."""
        content = self.last[key][upto_of(history, len(history))]
        if key in self.scenario.lists:
            return Value(VALUE, checkpoint, content)
        if content == 0 or self.scenario.keys[key][content - 1] == "-":
            return Value(ABSENT, checkpoint, content)
        return Value(
            VALUE, next(seq for seq, batch in enumerate(history, 1) if batch.upto >= content), content
        )

    def touched(self, history: History, seq: int) -> tuple[int, ...]:
        """The keys that the journal names for a batch."""
        after, upto = upto_of(history, seq - 1), upto_of(history, seq)
        return tuple(key for key, last in enumerate(self.last) if last[upto] > after)

    def reads_between(self, least: int, most: int) -> range:
        """The numbers of batches of the majority's history that a read may see."""
        lags = DEPOSED in self.scenario.faults and least < most
        return range(least if lags else most, most + 1)

    def cached(self, redis: Redis, epoch: int) -> Values:
        for known, values in redis.epochs:
            if known == epoch:
                return values
        return self.nothing

    def with_value(self, redis: Redis, epoch: int, key: int, value: Value | None) -> Redis:
        values = self.cached(redis, epoch)
        return with_values(redis, epoch, (*values[:key], value, *values[key + 1 :]))


def last_touch(key: str, upto: int) -> int:
    return max((at for at, effect in enumerate(key[:upto], start=1) if effect != "."), default=0)
