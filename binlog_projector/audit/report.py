"""The result of an audit's pass: as a value, as JSON, as lines for people, and as metrics."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from binlog_projector.domain.truth import MISSING, PHANTOM, STALE
from binlog_projector.leading.health import seconds
from binlog_projector.metrics import AuditMetrics

CONSISTENT, UNSETTLED = "consistent", "unsettled"
DOCUMENT_RESULTS = (CONSISTENT, STALE, MISSING, PHANTOM, UNSETTLED)
MAX_LISTED = 100


@dataclass(frozen=True)
class Difference:
    """`what`: "document", "cache entry" or "answer". `fields`: names of a document's wrong fields."""

    what: str
    kind: str
    name: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.what} {self.name} {', '.join(self.fields)}".rstrip()


@dataclass
class Report:
    """One pass. `verified_through`: the read model has all that MySQL had committed by then, if proved."""

    documents: Tally[str] = field(default_factory=lambda: Tally(dict.fromkeys(DOCUMENT_RESULTS, 0)))
    samples: dict[str, Tally[str]] = field(default_factory=lambda: {"redis": Tally(), "reader": Tally()})
    staleness_seconds: dict[str, float] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    repaired: int = 0
    verified_through: dict[str, str] | None = None

    def compared(self, documents: int) -> None:
        self.documents[CONSISTENT] += documents

    def found(self, differences: list[Difference], unsettled: int) -> None:
        """Add proved differences, and the number of documents that changed at every look."""
        self.differences += differences
        self.documents.update(one.kind for one in differences)
        self.documents[UNSETTLED] += unsettled
        present = sum(one.kind != MISSING for one in differences)
        self.documents[CONSISTENT] = max(0, self.documents[CONSISTENT] - present - unsettled)

    def sampled(self, store: str, after_seconds: float, result: str) -> None:
        self.samples[store][f"{result} after {after_seconds:g} s"] += 1

    def stale(self, store: str, now: datetime, as_of: str) -> None:
        """Note how old the contents of `store` may be at most. The report keeps the worst."""
        age = max(0.0, now.timestamp() - seconds(as_of))
        self.staleness_seconds[store] = max(age, self.staleness_seconds.get(store, 0.0))

    @property
    def remaining(self) -> int:
        return len(self.differences) - self.repaired

    def finish(self, time: str, gtid_set: str) -> None:
        if self.remaining == 0 and not self.documents[UNSETTLED]:
            self.verified_through = {"time": time, "gtid_set": gtid_set}

    def as_json(self) -> dict[str, Any]:
        return {
            "verified_through": self.verified_through,
            "documents": dict(self.documents),
            "samples": {store: dict(results) for store, results in self.samples.items()},
            "staleness_seconds": {store: round(age, 3) for store, age in self.staleness_seconds.items()},
            "found": len(self.differences),
            "repaired": self.repaired,
            "differences": [asdict(one) for one in self.differences[:MAX_LISTED]],
        }

    def lines(self) -> list[str]:
        through = self.verified_through
        return [
            f"verified through   {through['time']} ({through['gtid_set']})"
            if through
            else "verified through   -",
            *(f"documents          {count} {result}" for result, count in self.documents.items()),
            *(
                f"{store:18} {count} {result}"
                for store in self.samples
                for result, count in self.samples[store].items()
            ),
            *(f"staleness          {store}: {age:.3f} s" for store, age in self.staleness_seconds.items()),
            *(f"found              {one}" for one in self.differences[:MAX_LISTED]),
            f"repaired           {self.repaired}",
        ]

    def count(self, metrics: AuditMetrics) -> None:
        """Add this pass to the metrics."""
        for result, count in self.documents.items():
            metrics.documents.labels(result).inc(count)
        for store, results in self.samples.items():
            for result, count in results.items():
                kind, _, after = result.partition(" after ")
                metrics.samples.labels(store, kind, after.removesuffix(" s")).inc(count)
        for store, age in self.staleness_seconds.items():
            metrics.staleness.labels(store).set(age)
        metrics.differences.set(self.remaining)
        metrics.repaired.inc(self.repaired)
        if self.verified_through:
            metrics.verified_through.set(seconds(self.verified_through["time"]))
