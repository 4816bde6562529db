"""The faults of a torture. Each heals within a deadline, before its function returns."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial

import redis

from binlog_projector.mysql.connections import Connection, query_value
from tests.support.harness import Process, rows, run_sql, wait_until
from tests.verification.faults import mysql_pair
from tests.verification.faults.redis_servers import replica_of
from tests.verification.faults.system import standing_in, stopped
from tests.verification.torture.definitions import define, sweep
from tests.verification.torture.nodes import FAULTS_OF_NODES
from tests.verification.torture.system import LINKS, PROJECTORS, READER_WORKERS, System
from tidemark.gtid import GtidSet
from tidemark.workers import MOST_RESTARTS, WINDOW_SECONDS

STORES = ("mysql", "mongodb", "redis")
EXECUTED = "SELECT @@global.gtid_executed"
HASTY = ("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 2")
DURABLE = ("SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
CAUGHT_UP_SECONDS = 200  # a replica has the whole history to execute
STOPPED = (
    "SELECT last_error_message FROM performance_schema.replication_applier_status_by_worker"
    " WHERE last_error_number <> 0"
)
STATE_OF_REPLICA = (
    "SELECT service_state, last_error_message FROM performance_schema.replication_connection_status",
    "SELECT worker_id, service_state, last_error_number, last_error_message, applying_transaction"
    " FROM performance_schema.replication_applier_status_by_worker",
    "SELECT command, time, state, LEFT(info, 80) FROM performance_schema.processlist",
)
Fault = Callable[[System, random.Random], str]  # returns its target


class Hindered(Exception):
    """The fault cannot be inflicted now."""


def kill_store(system: System, chance: random.Random) -> str:
    store = chance.choice([store for store in STORES if store in system.stack.servers])
    server = system.stack.servers[store]
    server.kill()
    time.sleep(chance.uniform(0.1, 2))
    server.start()
    return store


def pause_store(system: System, chance: random.Random) -> str:
    store = chance.choice([store for store in STORES if store in system.stack.servers])
    system.stack.servers[store].pause()
    time.sleep(chance.uniform(0.3, 4))
    system.stack.servers[store].resume()
    return store


def kill_projector(system: System, chance: random.Random) -> str:
    at = chance.randrange(PROJECTORS)
    system.assert_projectors_run()
    system.projectors[at].kill()
    time.sleep(chance.uniform(0.1, 3))
    system.projectors[at].assert_no_secrets_in_log()
    system.projectors[at].log.unlink()
    system.start_projector(at)
    return "projector"


def pause_projector(system: System, chance: random.Random) -> str:
    """Pauses a projector, at times for longer than its lease lasts."""
    at = chance.randrange(PROJECTORS)
    system.projectors[at].popen.send_signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.3, 9))
    system.projectors[at].popen.send_signal(signal.SIGCONT)
    return "projector"


def kill_workers(system: System, chance: random.Random) -> str:
    """Kills the reader's workers one after the other. The reader restarts each, within limits."""
    now = time.monotonic()
    system.kills_of_workers = [
        *(kill for kill in system.kills_of_workers if now - kill < WINDOW_SECONDS),
        now,
    ]
    if len(system.kills_of_workers) > MOST_RESTARTS:
        raise Hindered("the workers have been killed often enough")
    for pid in chance.sample(workers := system.reader_workers(), len(workers)):
        os.kill(pid, signal.SIGKILL)
        wait_until(partial(_is_replaced, system, pid), "a worker in place of a killed one", 60)
    return f"{len(workers)} workers"


def _is_replaced(system: System, gone: int) -> bool:
    return gone not in (found := system.reader_workers()) and len(found) == READER_WORKERS


def drop(system: System, chance: random.Random) -> str:
    """Cuts connections and refuses new ones for a while."""
    name = chance.choice([*system.links])
    system.links[name].switch(0)
    time.sleep(chance.uniform(0.1, 3))
    system.links[name].switch(system.port(LINKS[name][1]))
    return name


def stall(system: System, chance: random.Random) -> str:
    name = chance.choice([*system.links])
    with system.links[name].silent():
        time.sleep(chance.uniform(0.3, 6))
    return name


def half_close(system: System, chance: random.Random) -> str:
    name = chance.choice([*system.links])
    system.links[name].half_close(to_clients=chance.random() < 0.5)
    return name


def flush_redis(system: System, chance: random.Random) -> str:
    with redis.Redis.from_url(system.stack.redis.admin_url) as client:
        client.flushall()
    return "redis"


def restore_redis(system: System, chance: random.Random) -> str:
    """Replaces Redis's data folder by a copy that is some seconds old."""
    server, copy = system.stack.redis, system.new_folder()
    with stopped(server):
        shutil.copytree(server.data, copy)
    time.sleep(chance.uniform(0.5, 5))
    with stopped(server):
        shutil.rmtree(server.data)
        shutil.copytree(copy, server.data)
    return "redis"


def fail_over_redis(system: System, chance: random.Random) -> str:
    """To a replica that missed a suffix, and later back to the old primary, which missed all later writes."""
    primary, folder = system.stack.redis, system.new_folder()
    with replica_of(system.stack, folder) as replica:
        with redis.Redis.from_url(replica.admin_url) as client:
            client.replicaof("NO", "ONE")
        time.sleep(chance.uniform(0.1, 2))
        primary.kill()
        with standing_in(system.stack, "redis", replica):
            system.move("redis", replica.port)
            time.sleep(chance.uniform(0.5, 4))
        primary.start()
        system.move("redis", primary.port)
    return "redis"


def fail_over_mysql(system: System, chance: random.Random) -> str:
    """Kills the source after a replica has received everything. The system stays with the new source.

    A replica whose own replication stops is given up, and the source stays.
    """
    source = system.stack.mysql
    with contextlib.ExitStack() as opened:
        replica = opened.enter_context(mysql_pair.successor_of(system.stack, system.new_folder()))
        with mysql_pair.admin_of(replica) as copy, mysql_pair.admin_of(source) as original:
            run_sql(copy, *HASTY)
            _wait_until_executed(copy, original)
            run_sql(copy, *DURABLE)
            run_sql(original, "SET GLOBAL super_read_only = ON")
            _wait_until_executed(copy, original)
        time.sleep(chance.uniform(0, 1))
        source.kill()
        mysql_pair.promote(replica)
        opened.enter_context(standing_in(system.stack, "mysql", replica))
        system.opened.push(opened.pop_all())
    system.move("mysql", replica.port)
    shutil.rmtree(source.data)
    return "mysql"


def rebuild(system: System, chance: random.Random) -> str:
    """Makes a new build, and kills that rebuild at times. It may fail while a store is away."""
    server_id = {
        "TIDEMARK_PROJECTOR_SERVER_ID": str(7_331 + PROJECTORS),
        "TIDEMARK_FORMER_BUILD_MINUTES": "0",
    }
    rebuilding = Process(("-m", "binlog_projector", "rebuild"), {**system.environment, **server_id})
    try:
        rebuilding.popen.wait(timeout=chance.choice([chance.uniform(1, 6), 200]))
    except subprocess.TimeoutExpired:
        rebuilding.kill()
    rebuilding.assert_no_secrets_in_log()
    rebuilding.log.unlink()
    return f"status {rebuilding.popen.returncode}"


def _wait_until_executed(copy: Connection, original: Connection) -> None:
    executed = GtidSet.parse(query_value(original, EXECUTED))
    try:
        wait_until(
            lambda: GtidSet.parse(query_value(copy, EXECUTED)) >= executed or rows(copy, STOPPED),
            "the replica to catch up",
            CAUGHT_UP_SECONDS,
        )
        assert not (stopped := rows(copy, STOPPED)), f"the replica stopped: {stopped}"
    except AssertionError as error:
        run_sql(original, *mysql_pair.WRITABLE)
        raise Hindered(f"{error}: {[rows(copy, question) for question in STATE_OF_REPLICA]}") from error


FAULTS: Mapping[str, Fault] = {
    "kill": kill_store,
    "pause": pause_store,
    "kill_projector": kill_projector,
    "pause_projector": pause_projector,
    "kill_workers": kill_workers,
    "drop": drop,
    "stall": stall,
    "half_close": half_close,
    "flush": flush_redis,
    "old_dump": restore_redis,
    "failover_redis": fail_over_redis,
    "failover_mysql": fail_over_mysql,
    "rebuild": rebuild,
    "define": define,
    "sweep": sweep,
}
OF_ONE_REDIS = {"flush", "old_dump", "failover_redis"}
UNPAIRED = {"sweep"}  # waits for every projector to stop
ALONE = {  # one of these at a time
    *("kill", "pause", "old_dump", "failover_redis", "failover_mysql"),
    *FAULTS_OF_NODES,
}


def faults_of(system: System) -> Mapping[str, Fault]:
    """All that a system can suffer."""
    if system.stack.cluster is None:
        return FAULTS
    others = {name: fault for name, fault in FAULTS.items() if name not in OF_ONE_REDIS}
    return {**others, **FAULTS_OF_NODES}
