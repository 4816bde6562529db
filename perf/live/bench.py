"""Clients that watch one reader process over one transport: a method per lane."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from ops.stack.progress import say
from ops.system import System
from perf.catching_up import wait_until_caught_up
from perf.live.clients import Clients, Seen, running
from perf.live.floor import capture, serve_floor
from perf.live.gets import Gets
from perf.live.judging import judge, percentile, states_per_s
from perf.live.likes import Likes
from perf.measured import Reader
from perf.procfs import rss_kib

WATCHES_PER_SUBJECT = 5
POLLED_PER_S, POLLED_SECONDS = 20.0, 15.0
HOT_PER_S, HOT_SECONDS = 500.0, 10.0
TIDE_SECONDS = 2.0  # until every connection has been told the tide
SHOWN_WITHIN_SECONDS = 10.0  # after the last like
Figures = dict[str, Any]


class Bench:
    def __init__(
        self, system: System, reader: Reader, likes: Likes, clients: Clients, transport: str
    ) -> None:
        self._system = system
        self._reader = reader
        self._likes = likes
        self._clients = clients
        self._transport = transport

    def warm_up(self, posts: Sequence[int]) -> None:
        """Until the reader holds all posts."""
        say("waiting for the projector")
        wait_until_caught_up(self._system)
        with self._gets() as gets:
            for post in posts:
                gets.body(f"/post/{post}")

    def polled(self, post: int, seconds: float) -> Figures:
        """Likes of one post, seen by one client that polls. Nobody watches."""
        say(f"polling, {seconds:g} s")
        writing = self._likes.begin([post], POLLED_PER_S, seconds)
        deadline = time.monotonic() + seconds + SHOWN_WITHIN_SECONDS

        def is_over(shown: int) -> bool:
            late = time.monotonic() > deadline
            return late or (writing.done() and shown >= len(writing.result()[post]))

        with self._gets() as gets:
            seen = gets.poll(post, is_over)
        self._likes.finish(writing)
        judged = judge(self._likes.commits, [seen])
        return {"polled_p50_ms": judged.latency_ms(50), "polled_p99_ms": judged.latency_ms(99)}

    def many(self, connections: int, posts: Sequence[int], per_s: float, seconds: float) -> Figures:
        """Posts get likes in turn, and each has its share of the clients. Then all drop, and come back."""
        watches = [posts[n % len(posts)] for n in range(connections)]
        before = rss_kib(self._reader.pid)
        self._open(self._reader.url, watches)
        time.sleep(TIDE_SECONDS)
        opened = rss_kib(self._reader.pid)
        say(f"{per_s:g} likes/s of {len(posts)} posts, {seconds:g} s")
        begun = time.time()
        self._likes.finish(self._likes.begin(posts, per_s, seconds))
        ended = time.time()
        self._clients.wait_until_shown(self._likes.counts(posts), SHOWN_WITHIN_SECONDS)
        loaded = rss_kib(self._reader.pid)
        reads, dropped_at = self._mongodb_reads(), time.time()
        seen = self._clients.close()
        self._open(self._reader.url, watches)
        reads = self._mongodb_reads() - reads
        again = self._clients.close()
        judged = judge(self._likes.commits, seen)
        back = max(each.first_at for each in again) - dropped_at
        return {
            "latency_p50_ms": judged.latency_ms(50),
            "latency_p99_ms": judged.latency_ms(99),
            "states_per_s": states_per_s(seen, begun, ended),
            "kib_per_connection": round((opened - before) / connections, 1),
            "kib_per_connection_loaded": round((loaded - before) / connections, 1),
            **judge(self._likes.commits, again, judged).faults(),
            "reconnect_all": {"seconds": round(back, 2), "mongodb_reads": int(reads)},
        }

    def one_hot(self, connections: int, post: int, floor_post: int, seconds: float) -> Figures:
        """All watch one post. The floor sends as often, beside the same load, to the same clients."""
        head, message = capture(self._transport, self._reader.url, floor_post, self._reader.token)
        self._open(self._reader.url, [post] * connections)
        beside = self._heat(post, seconds)
        self._clients.wait_until_shown(self._likes.counts([post]), SHOWN_WITHIN_SECONDS)
        seen = self._clients.close()
        with running(serve_floor, head, message, connections) as pipe:
            self._open(f"http://127.0.0.1:{pipe.recv()}", [floor_post] * connections)
            self._heat(floor_post, seconds)
            floor = self._messages_per_s(self._clients.close(), floor_post)
        ours, judged = self._messages_per_s(seen, post), judge(self._likes.commits, seen)
        times = self._likes.commits[post]
        return {
            "messages_per_s": ours,
            "floor_messages_per_s": floor,
            "to_floor": round(ours / floor, 3),
            "likes_per_s": round(len(times) / (times[-1] - times[0])),
            "latency_p99_ms": judged.latency_ms(99),
            "reader_beside_p99_ms": percentile(beside, 99),
            **judged.faults(),
        }

    def _heat(self, post: int, seconds: float) -> list[float]:
        """Times of GETs of another post meanwhile."""
        say(f"{HOT_PER_S:g} likes/s of one post, {seconds:g} s")
        writing = self._likes.begin([post], HOT_PER_S, seconds)
        with self._gets() as gets:
            times = gets.paced_ms("/post/1", writing.done)
        self._likes.finish(writing)
        return times

    def _gets(self) -> closing[Gets]:
        """A new connection, because the reader closes one that is idle for long."""
        return closing(Gets(self._reader.url, self._reader.token))

    def _open(self, url: str, watches: Sequence[int]) -> None:
        say(f"{self._transport}: opening {len(watches)} connections")
        subjects = (f"perf-{n // WATCHES_PER_SUBJECT}" for n in range(len(watches)))
        tokens = map(self._system.token, subjects)
        self._clients.open(self._transport, url, list(zip(watches, tokens, strict=True)))

    def _messages_per_s(self, clients: Sequence[Seen], post: int) -> int:
        times = self._likes.commits[post]
        return states_per_s(clients, times[0], times[-1])

    def _mongodb_reads(self) -> float:
        return self._reader.counts().get("tidemark_mongodb_reads_total", 0)
