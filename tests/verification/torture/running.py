"""A torture: random work and faults. At the end all stores are equal, and every answer was allowed."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context

import pymysql
import redis
from pymongo.errors import PyMongoError

from binlog_projector.domain.changes import BinlogPosition, Transaction
from binlog_projector.errors import UnsupportedEvent
from binlog_projector.mysql.connections import Connection, query_value
from binlog_projector.mysql.source import MySqlSource
from ops.stack import Stack
from tests.support.acts import begin_at
from tests.support.harness import Process, admin_connection, wait_until_caught_up
from tests.support.oracle import actual_documents, assert_cache_is_true, expected_documents
from tests.support.received import Received
from tests.verification.torture.answers import IDS, PATHS, Asking, Records, observed
from tests.verification.torture.effects import Effect, effects_in
from tests.verification.torture.faults import ALONE, UNPAIRED, Hindered, faults_of
from tests.verification.torture.history import Clock, History
from tests.verification.torture.judge import Answer, Judge
from tests.verification.torture.outcome import CLUSTER, ONE_REDIS, Outcome
from tests.verification.torture.processes import sampling
from tests.verification.torture.screens import wrongs
from tests.verification.torture.system import System, running_system
from tests.verification.torture.watchers import Tide, Watchers
from tests.verification.torture.workload import workload
from tidemark.gtid import EMPTY, Gtid, GtidSet

FAULT_SECONDS = 600.0  # the deadline of each one, on a busy machine with a long history
CAUGHT_UP_SECONDS = 120.0
READING_SERVER_ID = 9_999
FIRST_IDS = (1, 2**31 - 2, 2**53 - 2, 2**63 - 2_000_000)  # the last leaves room for all rows
NOT_INFLICTED = (  # by a fault that another fault hinders
    Hindered,
    redis.RedisError,
    pymysql.err.MySQLError,
    PyMongoError,
    OSError,
)


def torture(seconds: float, seed: int, cluster: tuple[str, int] | None = None) -> Outcome:
    """Always returns an outcome, which contains an error that ended it early. Stderr shows the error, too.

    `cluster`: engine and number of primaries, not one Redis. Errors: a fault does not heal, a projector
    stops, the stores do not become equal.
    """
    outcome, begun = Outcome(seed, CLUSTER if cluster else ONE_REDIS), time.monotonic()
    try:
        _torture(seconds, outcome, cluster)
    except BaseException as error:  # noqa: BLE001 - an interrupt, too, prints an outcome
        _note_error(error, outcome)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _note_error(error: BaseException, outcome: Outcome) -> None:
    traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}"[:500]
    outcome.say(text)
    outcome.error = outcome.error or text


def side_by_side(seconds: float, seed: int, clusters: Sequence[tuple[str, int] | None]) -> list[Outcome]:
    """A torture of each system, in a process of its own. The seeds are `seed`, `seed + 1` and so on."""
    with ProcessPoolExecutor(len(clusters), get_context("spawn")) as processes:
        running = [
            processes.submit(torture, seconds, seed + at, cluster) for at, cluster in enumerate(clusters)
        ]
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt ends the tortures: wait for the outcomes
        return [one.result() for one in running]


def _torture(seconds: float, outcome: Outcome, cluster: tuple[str, int] | None) -> None:
    records = Records(random.Random(f"{outcome.seed}:ids").choice(FIRST_IDS))
    with running_system(cluster) as system:
        with admin_connection(system.stack) as connection:
            begin_at(connection, records.first_id)
            wait_until_caught_up(system.stack, connection)
        watchers = Watchers(
            [one.reader_url for one in (system.services, system.lasting)], records, outcome.seed
        )
        with watchers.watching():
            with workload(system, outcome.seed, records), sampling(outcome.samples):
                begun = time.monotonic()
                try:
                    _inflict(system, random.Random(f"{outcome.seed}:faults"), begun + seconds, outcome)
                except Exception as error:  # noqa: BLE001 - the records until then are judged all the same
                    _note_error(error, outcome)
                outcome.tortured_seconds = time.monotonic() - begun
                time.sleep(1)
            system.assert_projectors_run()
            with admin_connection(system.stack) as connection:
                wait_until_caught_up(system.stack, connection, CAUGHT_UP_SECONDS)
                watchers.wait_until_quiet(observed(connection, records))
        with admin_connection(system.stack) as connection:
            outcome.divergences = _divergences(system.stack, connection, outcome)
            _ask_for_everything(system, records, outcome.seed)
            outcome.divergences += _divergences(system.stack, connection, outcome)
            _note_audits(system.auditing, outcome)
            effects = effects_in(connection, system.effects)
            history = History(read_binlog(system.stack, connection, effects), effects)
    judge = Judge(history, Clock(history, records.observed))
    outcome.transactions, outcome.rows = history.transactions, history.rows
    _judge_answers(judge, records, outcome)
    _judge_watchers(judge, watchers, outcome)
    outcome.refused, outcome.ends = records.refused, records.ends


def _inflict(system: System, chance: random.Random, deadline: float, outcome: Outcome) -> None:
    """Inflicts one fault after the other, and now and then two at a time."""
    faults = faults_of(system)
    with ThreadPoolExecutor(2, "fault") as threads:
        while time.monotonic() < deadline:
            names = chance.sample([*faults], 2 if chance.random() < 0.3 else 1)
            if ALONE.issuperset(names) or UNPAIRED.intersection(names):
                names = names[:1]
            seeds = [random.Random(chance.random()) for _ in names]
            running = [
                threads.submit(faults[name], system, one) for name, one in zip(names, seeds, strict=True)
            ]
            note_faults(dict(zip(names, running, strict=True)), outcome)
            time.sleep(chance.uniform(0.2, 2))
            system.assert_projectors_run()


def note_faults(running: Mapping[str, Future[str]], outcome: Outcome) -> None:
    """Waits for faults, by name, and counts them. Raises AssertionError if one does not heal."""
    _, late = wait(running.values(), timeout=FAULT_SECONDS)
    assert not late, f"a fault does not heal: {' or '.join(running)}"
    for name, fault in running.items():
        try:
            what = fault.result()
            outcome.faults[name] += 1
        except NOT_INFLICTED as error:
            what = f"passed over: {error!r}"
            outcome.passed_over[name] += 1
        print(f"{time.strftime('%T')} {outcome.system}: {name} {what}", file=sys.stderr, flush=True)


def _divergences(stack: Stack, connection: Connection, outcome: Outcome) -> int:
    """The number of documents that differ from MySQL, plus one if any cache entry differs."""
    expected, actual = expected_documents(connection), actual_documents(stack)
    different = [
        (name, id)
        for name in expected
        for id in expected[name].keys() | actual[name].keys()
        if expected[name].get(id) != actual[name].get(id)
    ]
    for name, id in different:
        outcome.say(f"differs: {name} {id}: {expected[name].get(id)} {actual[name].get(id)}")
    try:
        assert_cache_is_true(stack, expected)
    except AssertionError as error:
        outcome.say(f"differs: {error}")
        return len(different) + 1
    return len(different)


def _note_audits(auditing: Process, outcome: Outcome) -> None:
    events = auditing.events()
    outcome.audits = sum(event["event"] == "pass" for event in events)
    found = [event for event in events if event["event"] == "difference"]
    outcome.audited = [event["found"] for event in found]
    for event in found:
        outcome.say(f"the audit found: {event}")


def _ask_for_everything(system: System, records: Records, seed: int) -> None:
    asking = Asking(system.services, records, random.Random(seed))
    for path in PATHS:
        for id in IDS:
            asking.ask(path, id, id % 3)


def read_binlog(
    stack: Stack, connection: Connection, effects: Mapping[Gtid, Effect]
) -> Iterator[Transaction]:
    """Every transaction of MySQL from the first one on. Transactions in `effects` are empty."""
    executed = GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))
    source = MySqlSource(stack.mysql.admin_url, READING_SERVER_ID)
    read = EMPTY
    while not read >= executed:
        for transaction in _until_it_stops(source, read, executed):
            read = read.with_gtid(transaction.gtid)
            yield transaction
        if not read >= executed:
            gtid = next(gtid for gtid in effects if gtid not in read)
            read = read.with_gtid(gtid)
            yield Transaction(gtid, 0, 0, (), BinlogPosition("", 0))


def _until_it_stops(source: MySqlSource, read: GtidSet, executed: GtidSet) -> Iterator[Transaction]:
    received = Received()
    with contextlib.suppress(UnsupportedEvent), contextlib.closing(source.stream(read, None)) as stream:
        stream.start(received)
        while not read >= executed:
            transaction = received.next()
            read = read.with_gtid(transaction.gtid)
            yield transaction


def _judge_answers(judge: Judge, records: Records, outcome: Outcome) -> None:
    stale = judge.stale(records.answers)
    for answer in stale[:20]:
        outcome.say(f"not allowed in {judge.window(answer)}: {answer}")
    outcome.answers, outcome.stale_reads = len(records.answers), len(stale)


def _judge_watchers(judge: Judge, watchers: Watchers, outcome: Outcome) -> None:
    """A watcher that is not told of everything at last misses something, too."""
    for watcher in watchers.all:
        for told in watcher.told:
            outcome.watched_states += sum(isinstance(one, Answer) for one in told)
            outcome.tides += sum(isinstance(one, Tide) for one in told)
            for wrong, answer in wrongs(judge, told):
                outcome.wrong[wrong] += 1
                if outcome.wrong[wrong] <= 20:
                    outcome.say(f"{wrong} in {judge.window(answer)}: {answer}")
        if not watcher.finished:
            outcome.wrong["missed"] += 1
            outcome.say(f"not told of everything: {watcher.told[-1][-3:]}")
