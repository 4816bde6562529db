"""A leader that is killed or paused with a batch in hand: another one takes over, and the first can do no harm."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import redis
from pymongo import MongoClient

from ops.stack import Stack
from reader.read_model import Watermark
from tests.conftest import service_environment
from tests.faults.system import System, running_system
from tests.faults.witness import Witness
from tests.harness import Process, projector, wait_until, wait_until_caught_up

LAUNCHER = "tests.faults.armed"


def test_trace_2_a_leader_killed_inside_its_transaction_does_not_hold_up_its_successor(stack: Stack) -> None:
    """Its open transaction would keep the checkpoint locked for up to 90 s."""
    environment = service_environment(stack)
    with (
        running_system(stack, {**environment, "AT": "inside_transaction:SIGKILL"}, LAUNCHER) as system,
        Witness(stack, system.reading) as witness,
        projector(environment) as standby,
    ):
        system.catch_up_and_fill()
        wait_until(lambda: "settings" in events(standby), "the standby")
        system.projecting.popen.send_signal(signal.SIGUSR1)
        assert system.projecting.popen.wait(timeout=20) == -signal.SIGKILL
        witness.wait_until_fresh(system.connection, seconds=15)
        witness.stop()
        system.assert_all_is_well()


@pytest.mark.parametrize("point", [pytest.param("inside_transaction", marks=pytest.mark.long), "before_apply"])
def test_a_paused_leader_that_goes_on_writes_nothing_and_stands_by(stack: Stack, point: str) -> None:
    """Fencing: it wakes up with a transaction to commit, or with a committed batch to bring into the cache."""
    environment = service_environment(stack)
    with (
        running_system(stack, {**environment, "AT": f"{point}:SIGSTOP"}, LAUNCHER) as system,
        projector(environment) as standby,
    ):
        paused = system.projecting
        with Witness(stack, system.reading) as witness:
            system.catch_up_and_fill()
            paused.popen.send_signal(signal.SIGUSR1)
            wait_until(lambda: state(paused) == "T", "the leader to pause")
            witness.wait_until_fresh(system.connection)
        wait_until_caught_up(stack, system.connection)
        assert "lease taken" in events(standby)
        standby.popen.send_signal(signal.SIGSTOP)  # so that nobody repairs what the old leader does
        wait_until(lambda: state(standby) == "T", "the new leader to pause")
        before, cached = written(system), entries(system)
        paused.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: "standing down" in events(paused), "the old leader to stand down")
        assert written(system) == before
        assert entries(system).items() <= cached.items(), "entries only expire"
        standby.popen.send_signal(signal.SIGCONT)
        with Witness(stack, system.reading) as witness:
            witness.wait_until_fresh(system.connection)
        system.assert_all_is_well()


def events(running: Process) -> list[str]:
    return [event["event"] for event in running.events()]


def state(running: Process) -> str:
    """R, S, T (stopped), ...: proc_pid_stat(5)."""
    return Path(f"/proc/{running.popen.pid}/stat").read_text().rpartition(")")[2].split()[0]


def written(system: System) -> tuple[Watermark, dict[str, list[dict[str, Any]]]]:
    """The watermark and every document of MongoDB."""
    with MongoClient[dict[str, Any]](system.stack.mongodb.admin_url) as client:
        database = client["tidemark"]
        documents = {name: list(database[name].find(sort=[("_id", 1)])) for name in database.list_collection_names()}
    return system.watermark(), documents


def entries(system: System) -> dict[bytes, bytes]:
    with redis.Redis.from_url(system.stack.redis.admin_url) as cache:
        found = {key: cache.get(key) for key in cache.scan_iter("tidemark:e*", count=1000)}
    return {key: value for key, value in found.items() if isinstance(value, bytes)}
