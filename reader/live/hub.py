"""The hub: makes the states of all watched reads of this process, each once for all who watch it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import sys
from functools import partial

import structlog

from reader.composing import Answer
from reader.consistency import NOT_YET, RETRY_AFTER, Consistency
from reader.demands import NO_DEMANDS, Demands
from reader.errors import DocumentsUnavailable
from reader.following import Following
from reader.live.watch import State, Subscriber, Watch, Watched
from reader.named import Position
from reader.read_model.cached_values import Watermark
from tidemark.problem import Problem

COMPOSED_TOGETHER = 8
LOOK_SECONDS = 0.1  # for a tide that can be used
RETRY_SECONDS = 1.0  # after a failed composition
WOKEN_TOGETHER = 200
log = structlog.get_logger()


class Hub:
    """Told what each message names, it makes states anew, in turn. Nothing is queued for a watcher."""

    def __init__(self, following: Following, consistency: Consistency) -> None:
        self.following = following
        self.watches: dict[tuple[str, str, str], Watch] = {}
        self._consistency = consistency
        self._index: dict[str, Watch | set[Watch]] = {}
        self._due: list[tuple[float, int, Watch]] = []  # a heap, by time and turn
        self._turns = itertools.count()
        self._news = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        following.named.listener = self

    def watch(self, watched: Watched, subscriber: Subscriber) -> Watch:
        watch = self.watches.setdefault(watched.key, Watch(watched))
        watch.subscribers[subscriber] = None
        return watch

    def unwatch(self, watch: Watch, subscriber: Subscriber) -> None:
        watch.subscribers.pop(subscriber, None)
        if not watch.subscribers:
            self._forget(watch)

    async def present(self, watch: Watch, demands: Demands) -> State:
        """A state as a GET would answer now. Raises DocumentsUnavailable, Problem 503 for unmet demands."""
        unsure = watch.before is not None or self.following.bypass is not None
        if demands != NO_DEMANDS:
            await self._compose(watch, demands)
        elif watch.state is None or (unsure and _now() >= watch.not_before):
            task = self._compose_soon(watch)
            await asyncio.wait([task])
            task.result()
        state = watch.state
        if state is None or not (demands.need is None or demands.need.is_met_by(state.moment)):
            raise Problem(503, "not-yet-consistent", NOT_YET, headers=RETRY_AFTER)
        return state

    @property
    def tide(self) -> Watermark | None:
        """None while it cannot be used: then nothing is made but first states."""
        return self.following.tide if self.following.bypass is None else None

    def named(self, names: frozenset[str], counted: frozenset[str]) -> None:
        """Every watch that depends on one of `names` is due."""
        before = self.following.tide
        for name in self._index.keys() & names:
            found = self._index[name]
            for watch in found if isinstance(found, set) else (found,):
                if watch.before is None and not (name in counted and watch.ignores(name)):
                    self._touch(watch, before)

    def reset(self) -> None:
        """Messages may have been missed: every watch is due."""
        for watch in self.watches.values():
            if watch.before is None:
                self._touch(watch, None)

    async def run(self) -> None:
        """Compose what is due until cancelled: a few at a time, one begun per turn of the event loop."""
        try:
            while True:
                watch = await self._next()
                self._running.add(task := self._compose_soon(watch))
                task.add_done_callback(self._running.discard)
                await asyncio.sleep(0)
                if len(self._running) >= COMPOSED_TOGETHER:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = {*self._running, *(one.composing for one in self.watches.values() if one.composing)}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _touch(self, watch: Watch, before: Watermark | None) -> None:
        """All that a state says is sure at its own moment, so without a better one this is `before`."""
        if watch.state is not None:
            watch.before, watch.touched_at = before or watch.state.moment, _now()
            self._enqueue(watch)

    def _enqueue(self, watch: Watch) -> None:
        if not watch.queued and watch.composing is None:
            watch.queued = True
            heapq.heappush(self._due, (max(_now(), watch.not_before), next(self._turns), watch))
            self._news.set()

    async def _next(self) -> Watch:
        """The next due watch, while there is a tide."""
        while True:
            if self.tide is None:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            while self._due and self._due[0][0] <= _now():
                watch = heapq.heappop(self._due)[2]
                watch.queued = False
                if watch.before is not None and watch.subscribers:
                    return watch
            wait = max(0.001, self._due[0][0] - _now()) if self._due else None
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    def _forget(self, watch: Watch) -> None:
        if self.watches.get(watch.key) is watch:
            del self.watches[watch.key]
            self._depend(watch, ())

    def _compose_soon(self, watch: Watch) -> asyncio.Task[None]:
        """The composition under way, or a new one."""
        if watch.composing is None:
            watch.not_before = _now() + watch.pace
            watch.composing = asyncio.create_task(self._compose(watch))
            watch.composing.add_done_callback(partial(self._composed, watch))
        return watch.composing

    async def _compose(self, watch: Watch, demands: Demands = NO_DEMANDS) -> None:
        """An answer at present tells no position. It contains all that was named before it began."""
        began = self.following.position if self.following.tide is not None else None
        answer = await self._consistency.answer(watch.query, demands)
        offered = self._install(watch, answer, began)
        for at, subscriber in enumerate(offered, 1):
            subscriber.wake()
            if at % WOKEN_TOGETHER == 0:  # thousands may watch: others have their turn
                await asyncio.sleep(0)

    def _composed(self, watch: Watch, task: asyncio.Task[None]) -> None:
        watch.composing = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            watch.not_before = _now() + RETRY_SECONDS
            if not isinstance(error, DocumentsUnavailable):
                log.error("a watched read failed", path=watch.key[0], exc_info=error)
        if watch.before is not None:
            self._enqueue(watch)

    def _install(self, watch: Watch, answer: Answer, began: Position | None) -> list[Subscriber]:
        """In the turn in which it was composed, a state and its keys replace the former ones."""
        view = answer.view
        assert view is not None
        if not watch.subscribers:
            return []
        pages = (one.kind.key(value) for one in view.pages for value in one.values)  # that MongoDB gave
        keys = tuple(map(sys.intern, dict.fromkeys((*view.parts, *pages))))
        self._depend(watch, keys)
        state = watch.state = State(answer, watch.absent)
        before, touched_at = watch.before or state.moment, watch.touched_at
        position, named = view.position or began, self.following.named
        if position is None or named.between(keys, position, named.position):
            self._touch(watch, None)
        else:
            watch.before = None
        return [each for each in watch.subscribers if each.offer(state, before, touched_at)]

    def _depend(self, watch: Watch, keys: tuple[str, ...]) -> None:
        """Most keys have one watch, so that a set for each would cost the most memory."""
        if keys == watch.keys:
            return
        old, new = set(watch.keys), set(keys)
        watch.keys = keys
        for key in old - new:
            found = self._index[key]
            if isinstance(found, set):
                found.discard(watch)
            if not isinstance(found, set) or not found:
                del self._index[key]
        for key in new - old:
            found = self._index.setdefault(key, watch)
            if isinstance(found, set):
                found.add(watch)
            elif found is not watch:
                self._index[key] = {found, watch}


def _now() -> float:
    return asyncio.get_running_loop().time()
