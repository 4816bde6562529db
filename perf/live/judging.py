"""Judges what clients saw by the times at which MySQL had committed each like."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perf.live.clients import Seen
from perf.live.streams import TIDE

Commits = Mapping[int, Sequence[float]]  # post -> times of its likes, sorted: the n-th leads to the count n


@dataclass
class Judged:
    """`latencies_ms`: of each change to each client. The counts are of changes and of messages."""

    latencies_ms: list[float] = field(default_factory=list)
    missed: int = 0
    backwards: int = 0
    older_than_said: int = 0
    ended: int = 0

    def latency_ms(self, percent: int) -> float:
        return percentile(sorted(self.latencies_ms), percent)

    def faults(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("missed", "backwards", "older_than_said", "ended")}


def judge(commits: Commits, clients: Iterable[Seen], judged: Judged | None = None) -> Judged:
    """MySQL tells each time right after the commit, so it had n likes no later than at the n-th time.

    A message as of T has to come with, or after, a state with all likes of times up to T.
    """
    judged = judged or Judged()
    for seen in clients:
        _judge(commits.get(seen.post, ()), seen, judged)
    return judged


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Raises RuntimeError if there is none."""
    if not ordered:
        raise RuntimeError("nothing was measured")
    return round(ordered[len(ordered) * percent // 100], 2)


def states_per_s(clients: Iterable[Seen], begun: float, ended: float) -> int:
    """States received between two times (seconds since 1970)."""
    times = (received for seen in clients for received, _, count in seen.rows() if count != TIDE)
    return round(sum(begun <= received <= ended for received in times) / (ended - begun))


def _judge(committed: Sequence[float], seen: Seen, judged: Judged) -> None:
    shown, latest = TIDE, 0.0
    for received, as_of, count in seen.rows():
        if count != TIDE:
            judged.backwards += count < shown
            if shown != TIDE:  # the first state is no news
                news = committed[shown : int(count)]
                judged.latencies_ms.extend(1e3 * (received - time) for time in news)
            shown = int(count)
        judged.backwards += as_of < latest
        judged.older_than_said += bisect_right(committed, as_of) > shown
        latest = as_of
    judged.missed += max(0, len(committed) - max(0, shown))
    judged.ended += bool(seen.ended)
