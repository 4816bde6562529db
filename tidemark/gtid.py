"""GTIDs and immutable GTID sets, in the text form of MySQL's reference manual ("GTID Format and Storage")."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec

Interval = tuple[int, int]  # first and last number, both included


class Gtid(msgspec.Struct, frozen=True, gc=False):
    """One transaction: the source's UUID (lower case; with ":tag" if it has one) and its number."""

    source: str
    number: int

    def __str__(self) -> str:
        return f"{self.source}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> Gtid:
        source, _, number = text.strip().lower().rpartition(":")
        if not source or not number.isdecimal():
            raise ValueError(f"not a GTID: {text!r}")
        return cls(source, int(number))


@dataclass(frozen=True)
class GtidSet:
    """A set of GTIDs: the intervals of each source, ascending; they neither touch nor overlap."""

    intervals: Mapping[str, tuple[Interval, ...]]

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Parse the server's text form. Raises ValueError."""
        return _parse(text)

    def __str__(self) -> str:
        return ",".join(
            source + "".join(f":{first}" if first == last else f":{first}-{last}" for first, last in spans)
            for source, spans in sorted(self.intervals.items())
        )

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __iter__(self) -> Iterator[str]:
        return iter(self.intervals)

    def __contains__(self, gtid: Gtid) -> bool:
        spans = self.intervals.get(gtid.source, ())
        at = bisect_right(spans, gtid.number, key=lambda span: span[0]) - 1
        return at >= 0 and gtid.number <= spans[at][1]

    def __ge__(self, other: GtidSet) -> bool:
        """True if every GTID of `other` is in this set."""
        return all(self._covers(source, span) for source, spans in other.intervals.items() for span in spans)

    def __or__(self, other: GtidSet) -> GtidSet:
        merged = {
            source: (*self.intervals.get(source, ()), *spans) for source, spans in other.intervals.items()
        }
        return GtidSet({**self.intervals, **{source: _normal(spans) for source, spans in merged.items()}})

    def __sub__(self, other: GtidSet) -> GtidSet:
        kept = {
            source: _cut(spans, other.intervals.get(source, ())) for source, spans in self.intervals.items()
        }
        return GtidSet({source: spans for source, spans in kept.items() if spans})

    def with_gtid(self, gtid: Gtid) -> GtidSet:
        return self | GtidSet({gtid.source: ((gtid.number, gtid.number),)})

    def without_gtid(self, gtid: Gtid) -> GtidSet:
        return self - GtidSet({gtid.source: ((gtid.number, gtid.number),)})

    def last_of(self, source: str) -> Gtid | None:
        """The highest GTID of `source`, or None."""
        spans = self.intervals.get(source.lower(), ())
        return Gtid(source.lower(), spans[-1][1]) if spans else None

    def _covers(self, source: str, span: Interval) -> bool:
        spans = self.intervals.get(source, ())
        at = bisect_right(spans, span[0], key=lambda known: known[0]) - 1
        return at >= 0 and span[1] <= spans[at][1]


EMPTY = GtidSet({})


class GrowingGtidSet:
    """A set that grows by one GTID at a time; cheap while most GTIDs follow the one before."""

    def __init__(self, start: GtidSet) -> None:
        self.settled = start
        self.source = ""
        self.first = self.last = 0
        self.known: GtidSet | None = start  # the set so far, if it was asked for

    def add(self, gtid: Gtid) -> None:
        self.known = None
        if gtid.number == self.last + 1 and gtid.source == self.source:
            self.last = gtid.number
            return
        self.settled = self._current()
        self.source, self.first, self.last = gtid.source, gtid.number, gtid.number

    def current(self) -> GtidSet:
        """The set so far."""
        if self.known is None:
            self.known = self._current()
        return self.known

    def _current(self) -> GtidSet:
        return (
            self.settled | GtidSet({self.source: ((self.first, self.last),)}) if self.source else self.settled
        )


@lru_cache(maxsize=256)
def _parse(text: str) -> GtidSet:
    found: dict[str, tuple[Interval, ...]] = {}
    for part in filter(None, (piece.strip().lower() for piece in text.split(","))):
        uuid, *tokens = part.split(":")
        if len(uuid) != 36:
            raise ValueError(f"not a GTID set: {text!r}")
        source = uuid
        for token in tokens:
            if token[:1].isdigit():
                found[source] = _normal((*found.get(source, ()), _interval(token, text)))
            else:
                source = f"{uuid}:{token}"
    return GtidSet(found)


def _interval(token: str, text: str) -> Interval:
    first, _, last = token.partition("-")
    if (
        not first.isdecimal()
        or (last and not last.isdecimal())
        or int(last or first) < int(first)
        or int(first) < 1
    ):
        raise ValueError(f"not a GTID set: {text!r}")
    return int(first), int(last or first)


def _normal(spans: tuple[Interval, ...]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _cut(spans: tuple[Interval, ...], holes: tuple[Interval, ...]) -> tuple[Interval, ...]:
    for hole_first, hole_last in holes:
        pieces = [
            piece
            for first, last in spans
            for piece in ((first, min(last, hole_first - 1)), (max(first, hole_last + 1), last))
        ]
        spans = tuple(sorted({(first, last) for first, last in pieces if first <= last}))
    return spans
