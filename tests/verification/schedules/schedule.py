"""One schedule, fully determined by its seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reader.read_model.cached_values import VALUE, cache_key, encode_absent, encode_version
from reader.read_model.entities import Entity
from tests.verification.schedules.actors import Leadership, Product, Reader
from tests.verification.schedules.bench import Bench
from tests.verification.schedules.faults import ALL, TTL_MS, Faults
from tests.verification.schedules.history import History, last_number
from tests.verification.schedules.promises import BrokenPromise, Promises
from tests.verification.schedules.redis_commands import ANNOUNCING
from tests.verification.schedules.scheduler import SCHEDULER, STEP_SECONDS, Scheduler
from tests.verification.schedules.watchers import Client

READERS = ("A", "B")
FAULTS, MANY_FAULTS = (0, 1, 1, 1, 2, 2, 3), (2, 3)
REQUESTS = (2, 3, 4, 5)
WITHIN = 60  # steps from the start, for requests, ticks and faults
LATER = 3  # steps until a fault without effect tries again
ASKED = ("post", "post", "comments", "comments", "a comment", "hashtag", "user")
WATCHED = (*ASKED, "feed", "feed")
LIVE = 0.3  # the share of schedules with clients that watch, and the number of clients and of their reads
CLIENTS, READS, FEW_REQUESTS = (1, 2, 2), (1, 2), (0, 1, 2)
MOSTLY = 0.8  # the share of requests that ask for the same
WITH_TOKEN = 0.15  # the share of requests
PREPARED = 0.7  # the probability that readers follow before the first step
TICKS_AT_THE_END = 12
STEPS_PER_TICK = 8  # at the end


class ScheduleFailed(AssertionError):
    """The cause is a BrokenPromise, or an error in the product or in the tests."""

    def __init__(self, seed: int, error: Exception, trace: Sequence[str]) -> None:
        self.seed = seed
        super().__init__(f"SCHEDULE_SEED={seed} repeats this: {error!r} after\n  " + "\n  ".join(trace))


class Event(NamedTuple):
    """A call that is due after a number of steps."""

    due: int
    name: str
    happen: Callable[[], object]
    is_fault: bool


class Schedule:
    """Two readers, leaders and faults over one history."""

    def __init__(
        self, bench: Bench, product: Product, history: History, seed: int, faults: Sequence[str] = ALL
    ) -> None:
        self._bench = bench
        self._history = history
        self._seed = seed
        self._faults = faults
        self._asks = product.asked
        self._is_live = False
        self._chance = random.Random(f"schedule {seed}")
        self._scheduler = Scheduler(self._chance, bench.selector)
        start, epoch = bench.position.checkpoint, bench.cache_epoch
        self._promises = Promises(bench.watching_redis, history, start, epoch)
        self._requests: list[asyncio.Task[None]] = []
        self._events: list[Event] = []
        self._is_faulty = False
        self._asked = self._chance.choice(ASKED)
        self._readers = [Reader(name, bench, product, self._promises, self._scheduler) for name in READERS]
        self._keys = [one.key for one in history.wanted]
        stream = history.transactions(after=last_number(bench.position.checkpoint.gtid_set))
        self._leadership = Leadership(bench, product, self._scheduler, self._promises, history, stream)

    async def run(self) -> list[str]:
        """Returns the steps. Raises ScheduleFailed."""
        token = SCHEDULER.set(self._scheduler)
        try:
            await self._run()
        except Exception as error:
            raise ScheduleFailed(self._seed, error, self._scheduler.trace) from error
        finally:
            SCHEDULER.reset(token)
            await self._end()
        return self._scheduler.trace

    async def _run(self) -> None:
        stage = self._leadership.leader.stage
        self._bench.empty_cache([stage.apply_script.script, stage.set_script.script])
        self._fill_some()
        for reader in self._readers:
            reader.start()
        await self._scheduler.selector.quiet()
        if self._chance.random() < PREPARED:
            await self._go_on()
        self._is_live = self._asks and self._chance.random() < LIVE
        self._events = [
            *self._requests_to_come(),
            *self._clients_to_come(),
            *self._ticks_to_come(),
            *self._faults_to_come(),
        ]
        self._leadership.start()
        while self._scheduler.waiting or self._events:
            event = min(self._events, key=lambda event: event.due, default=None)
            if event and (event.due <= self._scheduler.steps or not self._scheduler.waiting):
                self._events.remove(event)
                await self._let_happen(event)
            else:
                await self._step()
        await self._quieten()

    async def _step(self) -> None:
        step = await self._scheduler.step()
        if step.action.startswith(ANNOUNCING):
            await self._hear()
        if step.changes_redis:
            self._promises.look()
        if step.in_loop:
            self._check()

    async def _go_on(self) -> None:
        while self._scheduler.waiting:
            await self._step()

    async def _hear(self) -> None:
        for reader in self._readers:
            reader.redis.hear()
        await self._scheduler.selector.quiet()

    async def _quieten(self) -> None:
        """All reach the last state, and stay there."""
        leader = self._leadership.leader
        leader.catch_up()
        await self._hear()
        await self._go_on()
        self._promises.at_the_end(leader.store.position.checkpoint)
        for reader in self._readers:
            self._check_connection(reader)
        await self._let_time_pass()
        if not all(map(self._follows, self._readers)):
            raise BrokenPromise("a reader does not follow again")
        if not all(map(self._is_current, self._readers)):
            raise BrokenPromise("a client does not get the last state, or its tide")
        for reader in self._readers if not self._is_faulty else ():
            reader.at_the_end()
        if not all(request.done() for request in self._requests):
            raise BrokenPromise("a request is not answered")

    async def _let_time_pass(self) -> None:
        """Until all readers follow, and all clients have the last state."""
        for _ in range(TICKS_AT_THE_END):
            if all(map(self._follows, self._readers)) and all(map(self._is_current, self._readers)):
                return
            if self._is_live:  # the last tick may be lost, and another one comes
                self._leadership.leader.catch_up()
                await self._hear()
            for reader in self._readers:
                reader.clock.tick()
            for _ in range(STEPS_PER_TICK):
                self._scheduler.selector.seconds += STEP_SECONDS
                await self._scheduler.selector.quiet()
            await self._go_on()
            self._check()

    def _check_connection(self, reader: Reader) -> None:
        if not self._is_faulty and reader.following.position.life:
            raise BrokenPromise(f"{reader.name} is reset without a fault")
        if reader.redis.continues and self._lags(reader):
            raise BrokenPromise(f"{reader.name} follows no more: {reader.following.tide}")

    def _lags(self, reader: Reader) -> bool:
        """Only that an epoch has begun is not announced."""
        watermark, tide = self._leadership.leader.stage.watermark, reader.following.tide
        assert watermark is not None
        return tide is not None and tide.epoch == watermark.epoch and not self._follows(reader)

    def _follows(self, reader: Reader) -> bool:
        watermark, tide = self._leadership.leader.stage.watermark, reader.following.tide
        return tide is not None and watermark is not None and tide.lineage == watermark.lineage

    def _is_current(self, reader: Reader) -> bool:
        watermark = self._leadership.leader.stage.watermark
        return watermark is not None and all(client.has_all(watermark) for client in reader.clients)

    async def _let_happen(self, event: Event) -> None:
        self._scheduler.trace.append(event.name)
        if event.happen() is False and self._scheduler.waiting:
            self._events.append(event._replace(due=event.due + LATER))
        await self._scheduler.selector.quiet()
        if event.is_fault:
            self._is_faulty = True
            self._scheduler.disturb()
            self._promises.look()
        self._check()

    def _check(self) -> None:
        for reader in self._readers:
            reader.look(self._keys)
        for request in self._requests:
            if request.done() and not request.cancelled():
                request.result()

    async def _end(self) -> None:
        """Stops all actors, also after a broken promise, and leaves a leader that has caught up."""
        self._leadership.end()
        self._bench.checks += self._promises.checks
        for reader in self._readers:
            await reader.end(self._requests)
        leader = self._leadership.leader
        self._bench.position = leader.store.position
        self._bench.cache_epoch = leader.store.serving().epoch

    def _fill_some(self) -> None:
        """Fills some entries that readers may have cached before the first step."""
        likely = self._chance.choice((0.0, 0.0, 0.5, 1.0)) if self._asks else 1.0
        for one in self._history.wanted:
            if self._chance.random() < likely:
                content = self._history.states[0][one.key]
                seq = self._bench.position.checkpoint.seq
                version = self._history.opened_seq if isinstance(one.kind, Entity) else seq
                value = encode_absent(seq) if content is None else VALUE + encode_version(version) + content
                self._bench.admin_redis.set(cache_key(self._bench.cache_epoch, one.key), value, px=TTL_MS)

    def _requests_to_come(self) -> list[Event]:
        readers = self._chance.choice((self._readers, self._readers, self._readers[:1]))
        return [
            self._request_to_come(readers[at % len(readers)])
            for at in range(
                self._chance.choice(FEW_REQUESTS if self._is_live else REQUESTS) if self._asks else 0
            )
        ]

    def _request_to_come(self, reader: Reader) -> Event:
        asked = self._asked if self._chance.random() < MOSTLY else self._chance.choice(ASKED)
        with_token = self._chance.random() < WITH_TOKEN

        def ask() -> None:
            token = self._promises.committed[-1] if with_token and self._promises.committed else None
            self._requests.append(reader.ask(asked, self._history.queries[asked], token))

        return Event(self._chance.randrange(WITHIN), f"{reader.name} is asked for {asked}", ask, False)

    def _clients_to_come(self) -> list[Event]:
        numbers = self._chance.choice(CLIENTS) if self._is_live else 0
        return [event for _ in range(numbers) for event in self._client_to_come()]

    def _client_to_come(self) -> list[Event]:
        """It watches one or two reads, and often stops to watch one and watches it again."""
        chance, reader, clients = self._chance, self._readers[self._chance.random() < 0.3], list[Client]()
        reads = [self._asked, chance.choice(WATCHED)][: chance.choice(READS)]
        slow, again, by_etag = (chance.random() < 0.5 for _ in range(3))

        def connect() -> None:
            clients.append(reader.connect(self._history, slow=slow))
            for asked in dict.fromkeys(reads):
                clients[0].watch(asked, by_etag=False)

        dues = sorted(chance.randrange(WITHIN) for _ in range(3))
        events = [
            Event(dues[0] // 2, f"{reader.name} gets a client for {' and '.join(reads)}", connect, False)
        ]
        if again:
            stop, begin = (
                lambda: clients[0].unwatch(reads[0]),
                lambda: clients[0].watch(reads[0], by_etag=by_etag),
            )
            events.append(Event(dues[1], f"{reader.name}'s client watches {reads[0]} no more", stop, False))
            events.append(Event(dues[2], f"{reader.name}'s client watches {reads[0]} again", begin, False))
        return events

    def _ticks_to_come(self) -> list[Event]:
        return [
            Event(self._chance.randrange(WITHIN), f"{reader.name} ticks", reader.clock.tick, False)
            for reader in self._readers
            for _ in range(self._chance.choice((0, 1, 2)))
        ]

    def _faults_to_come(self) -> list[Event]:
        faults = Faults(
            self._bench.admin_redis,
            self._chance,
            self._leadership,
            self._promises,
            self._readers,
            self._requests,
        )
        number = self._chance.choice(FAULTS if self._asks else MANY_FAULTS) if self._faults else 0
        return [event for _ in range(number) for event in self._fault_to_come(faults)]

    def _fault_to_come(self, faults: Faults) -> list[Event]:
        drawn = faults.drawn(self._faults)
        dues = sorted(self._chance.randrange(WITHIN) for _ in drawn)
        return [Event(due, name, happen, True) for due, (name, happen) in zip(dues, drawn, strict=True)]
