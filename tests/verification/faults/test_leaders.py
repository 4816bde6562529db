"""A leader is killed or paused with a batch in hand: a standby takes over and fences the former leader."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from pymongo import MongoClient

from ops.stack import Stack
from reader.read_model.cached_values import Watermark
from tests.conftest import service_environment
from tests.support.harness import Process, projector, wait_until, wait_until_caught_up
from tests.verification.faults.system import System, running_system
from tests.verification.faults.witness import Witness

LAUNCHER = "tests.support.faulty_projector"


def test_a_standby_takes_over_within_ten_seconds_of_a_death(
    stack: Stack,
) -> None:
    """Traces 2 and 3. The leader dies inside a transaction, on another machine, so only its silence tells.

    Lease renewals did not wait for batches: nobody took over before.
    """
    environment = service_environment(stack)
    with (
        running_system(
            stack, {**environment, "ELSEWHERE": "", "AT": "inside_transaction:SIGKILL"}, LAUNCHER
        ) as system,
        Witness(stack, system.reading) as witness,
        projector(environment) as second,
        projector(environment) as third,
    ):
        system.catch_up_and_fill()
        wait_until(lambda: all("settings" in events(standby) for standby in (second, third)), "the standbys")
        system.projecting.popen.send_signal(signal.SIGUSR1)
        assert system.projecting.popen.wait(timeout=20) == -signal.SIGKILL
        death = datetime.now(UTC)
        leader, standby = wait_until(lambda: leading(second, third), "another leader")
        assert (moment(leader, "streaming") - death).total_seconds() < 10
        assert "lease taken" not in events(standby)
        witness.wait_until_fresh(system.connection)
        leader.kill()  # a standby on this machine notices the end at once
        witness.wait_until_fresh(system.connection)
        assert leading(standby)
        witness.stop()
        system.assert_all_is_well()


@pytest.mark.parametrize(
    "point", [pytest.param("inside_transaction", marks=pytest.mark.long), "before_apply"]
)
def test_a_paused_leader_that_goes_on_writes_nothing_and_stands_by(stack: Stack, point: str) -> None:
    """Fencing: the leader wakes up with a transaction to commit, or with a committed batch for the cache."""
    environment = service_environment(stack)
    with (
        running_system(stack, {**environment, "ELSEWHERE": "", "AT": f"{point}:SIGSTOP"}, LAUNCHER) as system,
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
        assert_wakes_in_vain(system, standby)
        with Witness(stack, system.reading) as witness:
            witness.wait_until_fresh(system.connection)
        system.assert_all_is_well()


def test_a_leader_paused_before_its_tick_is_refused_after_a_takeover(
    stack: Stack,
) -> None:
    """MySQL was idle, so only the new leader's empty batch moves the watermark past the old leader's."""
    environment = service_environment(stack)
    with (
        running_system(
            stack, {**environment, "ELSEWHERE": "", "AT": "before_tick:SIGSTOP"}, LAUNCHER
        ) as system,
        projector(environment) as standby,
    ):
        known = system.catch_up_and_fill()
        system.projecting.popen.send_signal(signal.SIGUSR1)
        wait_until(lambda: state(system.projecting) == "T", "the leader to pause")
        wait_until(lambda: system.watermark().seq > known.seq, "another leader")
        assert system.watermark().gtid_set == known.gtid_set
        assert_wakes_in_vain(system, standby)
        system.assert_all_is_well()


def assert_wakes_in_vain(system: System, leader: Process) -> None:
    """The old leader goes on and writes nothing. The new one is paused meanwhile, so it repairs nothing."""
    leader.popen.send_signal(signal.SIGSTOP)
    wait_until(lambda: state(leader) == "T", "the new leader to pause")
    before, cached = written(system), entries(system)
    system.projecting.popen.send_signal(signal.SIGCONT)
    wait_until(lambda: "standing down" in events(system.projecting), "the old leader to stand down")
    assert written(system) == before
    assert entries(system).items() <= cached.items(), "entries only expire"
    leader.popen.send_signal(signal.SIGCONT)


def leading(*running: Process) -> list[Process]:
    """All projectors, those first that stream and so hold the lease. Empty if none streams."""
    found = sorted(running, key=lambda each: "streaming" not in events(each))
    return found if "streaming" in events(found[0]) else []


def moment(running: Process, event: str) -> datetime:
    return next(
        datetime.fromisoformat(each["timestamp"]) for each in running.events() if each["event"] == event
    )


def events(running: Process) -> list[str]:
    return [event["event"] for event in running.events()]


def state(running: Process) -> str:
    """R, S, T (stopped), ...: proc_pid_stat(5)."""
    return Path(f"/proc/{running.popen.pid}/stat").read_text().rpartition(")")[2].split()[0]


def written(system: System) -> tuple[Watermark, dict[str, list[dict[str, Any]]]]:
    """The watermark and every document of MongoDB."""
    with MongoClient[dict[str, Any]](system.stack.mongodb.admin_url) as client:
        database = client["tidemark"]
        documents = {
            name: list(database[name].find(sort=[("_id", 1)])) for name in database.list_collection_names()
        }
    return system.watermark(), documents


def entries(system: System) -> dict[bytes, bytes]:
    with redis.Redis.from_url(system.stack.redis.admin_url) as cache:
        found = {key: cache.get(key) for key in cache.scan_iter("tidemark:e*", count=1000)}
    return {key: value for key, value in found.items() if isinstance(value, bytes)}
