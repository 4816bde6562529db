"""The result of a torture, and of two side by side, as one JSON line."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from tests.verification.torture.growth import Growth, growths
from tests.verification.torture.processes import Sample
from tests.verification.torture.screens import WRONGS
from tests.verification.torture.watchers import OTHERS, REASONS

ONE_REDIS, CLUSTER = "one Redis", "cluster"
LONG_SECONDS = 1800.0  # from here on memory and files are judged: a shorter run is all warming up


@dataclass
class Outcome:
    """The result of a torture. `as_expected`: False if any check failed."""

    seed: int
    system: str = ONE_REDIS
    faults: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)  # hindered faults
    transactions: int = 0
    rows: int = 0
    answers: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    divergences: int = 0
    stale_reads: int = 0
    watched_states: int = 0
    tides: int = 0
    wrong: Counter[str] = field(default_factory=Counter)  # of WRONGS, in what watchers were told
    ends: Counter[str] = field(default_factory=Counter)  # of watchers' connections
    audits: int = 0  # passes of an audit that ran meanwhile
    audited: list[str] = field(default_factory=list)  # its findings
    samples: list[Sample] = field(default_factory=list)  # of all processes of the system
    tortured_seconds: float = 0.0  # of work and faults
    seconds: float = 0.0  # with start and judgement
    error: str = ""  # the reason for an early end
    first: str = ""  # the first thing that was wrong

    def say(self, wrong: str) -> None:
        """Reports something wrong on stderr, and keeps the first report."""
        print(f"{self.system}, seed {self.seed}: {wrong}", file=sys.stderr, flush=True)
        self.first = self.first or wrong[:2000]

    @property
    def growths(self) -> dict[str, Growth]:
        """Of a long run, by role."""
        long = self.tortured_seconds >= LONG_SECONDS
        return growths(self.samples, self.tortured_seconds) if long else {}

    @property
    def as_expected(self) -> bool:
        wrong = self.divergences or self.stale_reads or self.wrong or self.audited or self.error
        flat = all(growth.flat for growth in self.growths.values())
        return not wrong and flat and {*self.refused} <= {0, 503} and {*self.ends} <= REASONS | OTHERS

    def as_json(self) -> dict[str, Any]:
        growths = self.growths
        return {
            "system": self.system,
            "seed": self.seed,
            "transactions": self.transactions,
            "rows": self.rows,
            "faults": dict(self.faults),
            "faults_in_all": self.faults.total(),
            "kinds": len(self.faults),
            "passed_over": dict(self.passed_over),
            "divergences": self.divergences,
            "stale_reads": self.stale_reads,
            "answers": self.answers,
            "watched_states": self.watched_states,
            "tides": self.tides,
            **{name: self.wrong[name] for name in WRONGS},
            "ends": dict(self.ends),
            "audits": self.audits,
            "audited": len(self.audited),
            "refused": dict(self.refused),
            "seconds": round(self.seconds, 1),
            **({"flat": all(growth.flat for growth in growths.values())} if growths else {}),
            **(
                {"processes": {role: growth.as_json() for role, growth in growths.items()}} if growths else {}
            ),
            **({"first": self.first} if self.first else {}),
            **({"error": self.error} if self.error else {}),
        }


def together(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The JSON of systems that ran side by side: sums, and the processes of each."""
    total = Outcome(outcomes[0].seed, " and ".join(one.system for one in outcomes))
    for name in (each.name for each in fields(Outcome) if each.name not in ("seed", "system", "samples")):
        for one in outcomes:
            setattr(total, name, _joined(getattr(total, name), getattr(one, name)))
    total.seconds = max(one.seconds for one in outcomes)
    line = total.as_json()
    if flat := [one.as_json()["flat"] for one in outcomes if one.growths]:
        line["flat"] = all(flat)
    each = ("seed", "transactions", "answers", "watched_states", "tides", "faults_in_all", "processes")
    line["systems"] = {one.system: {name: one.as_json().get(name) for name in each} for one in outcomes}
    return line


def _joined(one: Any, other: Any) -> Any:
    return one or other if isinstance(one, str) else one + other
