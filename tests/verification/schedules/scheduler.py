"""A scheduler for concurrent code: commands to stores run one at a time, in an order that a seed decides.

Coroutines wait for their turn in `turn`, threads in `Worker.pause`; a connection offers its steps itself. An
actor goes on until it is interrupted, and then sleeps while others change the stores. An even choice at each
step would hardly ever let others get far ahead (Burckhardt et al., "A Randomized Scheduler with Probabilistic
Guarantees of Finding Bugs", 2010).
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

DEADLINE_SECONDS = 30.0
INTERRUPTED, INTERRUPTED_BEFORE_CHANGE = 0.1, 0.5  # probabilities before a step
SLEEPS = (1, 1, 2, 2, 3, 5)  # changes by others
STEP_SECONDS = 1 / 16  # of the event loop's time
ACTOR: contextvars.ContextVar[str] = contextvars.ContextVar("actor")
SCHEDULER: contextvars.ContextVar[Scheduler] = contextvars.ContextVar("scheduler")
WORKER: contextvars.ContextVar[Worker | None] = contextvars.ContextVar("worker", default=None)


class QuietSelector(selectors.DefaultSelector):
    """Tells when its event loop is quiet: no callback is ready, so every actor waits."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._waiting: asyncio.Future[None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing comes from outside during a schedule: stores are asked without the event loop."""
        if self._waiting is None:
            return super().select(timeout)
        if timeout != 0:
            self._waiting.set_result(None)
            self._waiting = None
        return []

    async def quiet(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting


class QuietLoop(asyncio.SelectorEventLoop):
    """An event loop whose time goes on only by steps of schedules."""

    def __init__(self, selector: QuietSelector) -> None:
        super().__init__(selector)
        self._quiet_selector = selector

    def time(self) -> float:
        return self._quiet_selector.seconds


@dataclass(frozen=True)
class Step:
    """An actor's next command, which waits for its turn."""

    actor: str
    action: str
    changes_redis: bool
    proceed: Callable[[], None]
    in_loop: bool


class Scheduler:
    """The steps that wait for a turn, and those done so far."""

    def __init__(self, chance: random.Random, selector: QuietSelector) -> None:
        self.chance = chance
        self.selector = selector
        self.waiting: list[Step] = []
        self.trace: list[str] = []
        self.steps = 0
        self._changes = 0
        self._current: str | None = None
        self._asleep_until: dict[str, int] = {}

    def offer(
        self, actor: str, action: str, changes_redis: bool, proceed: Callable[[], None], in_loop: bool = True
    ) -> None:
        """The actor's next step, which waits for its turn."""
        self.waiting.append(Step(actor, action, changes_redis, proceed, in_loop))

    async def step(self) -> Step:
        """Lets one actor go on until it waits again."""
        step = self._choose()
        self.waiting.remove(step)
        self.trace.append(f"{step.actor}: {step.action}")
        self.steps += 1
        self._changes += step.changes_redis
        self.selector.seconds += STEP_SECONDS
        step.proceed()
        if step.in_loop:
            await self.selector.quiet()
        return step

    def sleep(self, *actors: str) -> None:
        """Slows actors down, each for a time that the seed chooses."""
        for actor in actors:
            self._asleep_until[actor] = self._changes + self.chance.choice(SLEEPS)

    def disturb(self) -> None:
        """Slows down every actor that has begun and not ended."""
        self.sleep(*self._actors())

    def drop(self, actor: str) -> None:
        """Forgets the next step of a crashed actor."""
        self.waiting = [step for step in self.waiting if step.actor != actor]

    def _choose(self) -> Step:
        """Mostly chooses the last step's actor. An interrupted one often sleeps while others go far ahead."""
        if self._current is not None and self.chance.random() < self._interruption(self._current):
            self.sleep(self._current)
            self._current = None
        actors = self._actors()
        awake = [actor for actor in actors if self._asleep_until.get(actor, 0) <= self._changes] or actors
        if self._current not in awake:
            self._current = self.chance.choice(awake)
        return self.chance.choice([step for step in self.waiting if step.actor == self._current])

    def _interruption(self, actor: str) -> float:
        """The probability of an interruption. A value read before a change may be outdated when it comes."""
        changes = any(step.changes_redis for step in self.waiting if step.actor == actor)
        return INTERRUPTED_BEFORE_CHANGE if changes else INTERRUPTED

    def _actors(self) -> list[str]:
        return list(dict.fromkeys(step.actor for step in self.waiting))


async def turn(action: str) -> None:
    """Before one command of a coroutine: waits for its turn."""
    scheduler = SCHEDULER.get()
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    scheduler.offer(ACTOR.get(), action, False, lambda: None if waiting.done() else waiting.set_result(None))
    await waiting


def pause(action: str, changes_redis: bool = False) -> Worker | None:
    """Before one command of a thread: waits for its turn. Returns its worker, or None outside a schedule."""
    worker = WORKER.get()
    if worker is not None:
        worker.pause(action, changes_redis)
    return worker


class Crashed(BaseException):
    """The worker's process ended here."""


class Worker:
    """Synchronous work in a thread. The thread runs only while the scheduler waits for it."""

    def __init__(self, scheduler: Scheduler, actor: str, work: Callable[[], None], threads: Executor) -> None:
        self.actor = actor
        self.loses_answer = False  # to the next command to Redis
        self._scheduler = scheduler
        self._crashed = False
        self._turn, self._paused = threading.Lock(), threading.Lock()  # faster than semaphores
        self._turn.acquire()
        self._paused.acquire()
        self._work: Future[None] = threads.submit(contextvars.copy_context().run, self._run, work)
        self._work.add_done_callback(lambda _: self._paused.release())
        self._await_pause()

    @property
    def ended(self) -> bool:
        return self._work.done()

    def pause(self, action: str, changes_redis: bool) -> None:
        self._scheduler.offer(self.actor, action, changes_redis, self._proceed, in_loop=False)
        self._paused.release()
        if not self._turn.acquire(timeout=DEADLINE_SECONDS) or self._crashed:
            raise Crashed

    def crash(self) -> None:
        """Ends the thread where it waits."""
        self._scheduler.drop(self.actor)
        self._crashed = True
        if not self.ended:
            self._proceed()

    def _run(self, work: Callable[[], None]) -> None:
        WORKER.set(self)
        ACTOR.set(self.actor)
        work()

    def _proceed(self) -> None:
        self._turn.release()
        self._await_pause()

    def _await_pause(self) -> None:
        if not self._paused.acquire(timeout=DEADLINE_SECONDS):
            raise TimeoutError(f"{self.actor} neither waits for its turn nor ends")
        if self.ended and not isinstance(self._work.exception(), Crashed):
            self._work.result()
