"""The hub: makes the states of all watched reads of this process, each once for all who watch it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain

import structlog

from reader.composing import Answer
from reader.consistency import NOT_YET, RETRY_AFTER, Consistency
from reader.demands import NO_DEMANDS, Demands
from reader.errors import DocumentsUnavailable
from reader.following import Following
from reader.live.slices import Slices
from reader.live.watch import State, Subscriber, Touch, Turn, Watch, Watched
from reader.named import Position
from reader.read_model.cached_values import Watermark
from tidemark.problem import Problem

COMPOSED_TOGETHER = 8
LOOK_SECONDS = 0.1  # for a tide that can be used
RETRY_SECONDS = 1.0  # after a failed composition
log = structlog.get_logger()


class Hub:
    """Told what each message names, it makes states anew, in turn. Nothing is queued for a watcher."""

    def __init__(self, following: Following, consistency: Consistency) -> None:
        self.following = following
        self.watches: dict[tuple[str, str, str], Watch] = {}
        self._consistency = consistency
        self._index: dict[str, Watch | dict[Watch, None]] = {}
        self._due: list[tuple[float, int, Watch]] = []  # a heap, by time and turn
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.slices = Slices()
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
        unsure = watch.before is not None or self.tide is None
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
        """None while it cannot be used, or a shard is away: then nothing is made but first states."""
        following = self.following
        return following.tide if following.bypass is None and following.whole else None

    def due_seconds(self) -> float:
        """How long the watch that is due longest has been due."""
        due = [watch.touched_at for watch in self.watches.values() if watch.before is not None]
        return _now() - min(due) if due else 0.0

    def named(self, names: frozenset[str], counted: frozenset[str]) -> None:
        """Every watch that depends on one of `names` is due."""
        before, now = self.following.tide, _now()
        for name in self._index.keys() & names:
            found, alone = self._index[name], name in counted
            for watch in found if isinstance(found, dict) else (found,):
                if watch.before is None and not (alone and watch.ignores(name)):
                    self._touch(watch, before, now)

    def reset(self) -> None:
        """Messages may have been missed: every watch is due."""
        now = _now()
        for watch in self.watches.values():
            if watch.before is None:
                self._touch(watch, None, now)

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

    def _touch(self, watch: Watch, before: Watermark | None, now: float) -> None:
        """All that a state says is sure at its own moment, so without a better one this is `before`."""
        if watch.state is not None:
            watch.before, watch.touched_at = before or watch.state.moment, now
            self._enqueue(watch, now)

    def _enqueue(self, watch: Watch, now: float) -> None:
        if not watch.queued and watch.composing is None:
            watch.queued = True
            heapq.heappush(self._due, (max(now, watch.not_before), next(self._numbers), watch))
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
        if self._install(watch, answer, began) and (state := watch.state) is not None:
            await self.slices.each([*watch.subscribers], self._tell)
            state.forget_encoded()

    def _tell(self, subscribers: Sequence[Subscriber]) -> None:
        turn = Turn(self.tide, _now())
        for subscriber in subscribers:
            subscriber.tell(turn)
        turn.end()

    def _composed(self, watch: Watch, task: asyncio.Task[None]) -> None:
        watch.composing = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            watch.not_before = _now() + RETRY_SECONDS
            if not isinstance(error, DocumentsUnavailable):
                log.error("a watched read failed", path=watch.key[0], exc_info=error)
        if watch.before is not None:
            self._enqueue(watch, _now())

    def _install(self, watch: Watch, answer: Answer, began: Position | None) -> bool:
        """In the turn in which it was composed, a state and its keys replace the former ones.

        Returns whether the state shows something else.
        """
        view = answer.view
        if not watch.subscribers:
            return False
        pages = (one.kind.key(value) for one in view.pages for value in one.values)  # that MongoDB gave
        keys = tuple(map(sys.intern, dict.fromkeys(chain(*view.all_parts, pages))))
        self._depend(watch, keys)
        shows_more = self._replace(watch, State(answer, watch.absent))
        position, named = view.position or began, self.following.named
        if position is None or named.between(keys, position, named.position):
            self._touch(watch, None, _now())
        else:
            watch.before = None
        return shows_more

    @staticmethod
    def _replace(watch: Watch, state: State) -> bool:
        former = watch.state
        if former is not None and state.shows_as(former):
            former.goes_on(state)
            return False
        if former is not None:
            former.lacks = Touch(watch.before or state.moment, watch.touched_at)
        watch.state = state
        return True

    def _depend(self, watch: Watch, keys: tuple[str, ...]) -> None:
        """Most keys have one watch: a table for each would cost the most, and a set takes twice a dict."""
        if keys == watch.keys:
            return
        old, new = set(watch.keys), set(keys)
        watch.keys = keys
        for key in old - new:
            found = self._index[key]
            if isinstance(found, dict):
                del found[watch]
            if not isinstance(found, dict) or not found:
                del self._index[key]
        for key in new - old:
            found = self._index.setdefault(key, watch)
            if isinstance(found, dict):
                found[watch] = None
            elif found is not watch:
                self._index[key] = {found: None, watch: None}


def _now() -> float:
    return asyncio.get_running_loop().time()
