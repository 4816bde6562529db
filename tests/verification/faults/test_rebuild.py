"""A new build beside the serving one: readers and the leader go on until it takes over in one step."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pymongo import MongoClient

from ops.stack import Stack
from reader.read_model.cached_values import cache_key
from tests.conftest import service_environment
from tests.support.harness import (
    Process,
    process,
    projector,
    purge_binlog,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.oracle import actual_documents
from tests.verification.faults.hammer import Hammer
from tests.verification.faults.system import running_system
from tests.verification.faults.test_leaders import state
from tests.verification.faults.witness import Witness, clock

COPYING = {"AT": "inside_transaction:SIGSTOP:1"}
SWITCHED = {"AT": "after_switch:SIGKILL:1"}
SWITCHING = {"ELSEWHERE": "", "AT": "before_switch:SIGSTOP:1"}
MEANWHILE = (  # changes every answer
    "UPDATE posts SET body = CONCAT(body, ' later')",
    "UPDATE users SET display_name = 'Later'",
    "INSERT INTO comments (post_id, author_id, body) SELECT id, author_id, 'later' FROM posts",
    "INSERT INTO follows (follower_id, followee_id) SELECT id % 20 + 1, id FROM users",
)


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    return {**service_environment(stack), "TIDEMARK_FORMER_BUILD_MINUTES": "0"}


def test_a_rebuild_under_load_switches_readers_in_one_step(stack: Stack, environment: dict[str, str]) -> None:
    """Trace 7. During the copy the old build goes on, and no standby takes the lease that the leader hands
    over.

    Batch numbers go on. The leader drops the old build, and nobody reads its cache entries.
    """
    with (
        running_system(stack, environment) as system,
        Witness(stack, system.reading) as witness,
        projector(environment),
    ):
        before = system.catch_up_and_fill()
        with rebuilding(environment, COPYING) as running:
            wait_until(lambda: state(running) == "T", "the copy to pause")
            assert (serving(stack), builds(stack)) == (1, [1, 2])
            witness.wait_until_fresh(system.connection)
            running.popen.send_signal(signal.SIGCONT)
            assert running.popen.wait(timeout=60) == 0
            assert_needs_come_first(stack, running)
            taken = [each["epoch"] for each in running.events() if each.get("lease") == "lease"]
            assert taken == [2], "nobody came between"
        witness.wait_until_fresh(system.connection)
        after = system.watermark()
        assert (after.build, after.seq > before.seq, after.epoch != before.epoch) == (2, True, True)
        wait_until(lambda: builds(stack) == [2], "the old build to be dropped")
        spoil_entries(stack, before.epoch)
        witness.stop()
        system.assert_all_is_well()


def test_a_rebuild_that_is_killed_changes_nothing_before_its_switch(
    stack: Stack, environment: dict[str, str]
) -> None:
    """It dies inside a transaction, whose locks would hold up the next clean-up.

    At last it dies between the switch and its write to Redis, which the next leader does.
    """
    with running_system(stack, environment) as system:
        before = system.catch_up_and_fill()
        with process(environment, "-m", "tests.verification.faults.full_disk", "rebuild") as refused:
            assert refused.popen.wait(timeout=20) == 2
            refused.expected_status = 2
            assert "NotEnoughDisk" in refused.tail() and "make room" in refused.tail()
        for number in (signal.SIGKILL, signal.SIGINT):
            with rebuilding(environment, COPYING, status=1) as running:
                wait_until(lambda: state(running) == "T", "the copy to pause")
                running.popen.send_signal(number)
                running.popen.send_signal(signal.SIGCONT)
                running.popen.wait(timeout=20)
            wait_until(lambda: builds(stack) == [1], "the unfinished build to be dropped")
            assert (serving(stack), system.watermark().epoch) == (1, before.epoch)
        with rebuilding(environment, SWITCHED) as running:
            assert running.popen.wait(timeout=30) == -signal.SIGKILL
        assert serving(stack) == 4
        wait_until(lambda: builds(stack) == [4], "all other builds to be dropped")
        system.assert_all_is_well()
        assert system.watermark().build == 4


def test_a_paused_rebuild_that_loses_the_lease_does_not_switch(
    stack: Stack, environment: dict[str, str]
) -> None:
    """The old build has gone on meanwhile: after a switch, readers would go back in time."""
    with running_system(stack, environment) as system, Witness(stack, system.reading) as witness:
        system.catch_up_and_fill()
        with rebuilding(environment, SWITCHING, status=2) as running:
            wait_until(lambda: state(running) == "T", "the switch to pause")
            witness.wait_until_fresh(system.connection)
            running.popen.send_signal(signal.SIGCONT)
            assert running.popen.wait(timeout=20) == 2
            assert "StandDown" in running.tail()
        assert serving(stack) == 1
        witness.stop()
        system.assert_all_is_well()


def test_a_purged_binlog_is_rebuilt_unattended_without_mixed_answers(
    stack: Stack,
) -> None:
    """Without the setting for it, the projector stops instead. The old build stays for a while."""
    environment = service_environment(stack)
    with running_system(stack, environment) as system:
        system.catch_up_and_fill()
        assert system.projecting.stop() == 0
        with Hammer(system.reading) as hammer:
            before = hammer.wait_for_a_round()
            run_sql(system.connection, *MEANWHILE)
            written = clock(system.connection)
            purge_binlog(system.connection)
            with projector(environment) as stopping:
                assert stopping.popen.wait(timeout=20) == 1
                stopping.expected_status = 1
            with projector(environment, options=["--rebuild-if-lost"]) as running:
                wait_until_caught_up(stack, system.connection)
                wait_until(lambda: hammer.differs(before), "readers to follow the new epoch")
                after = hammer.wait_for_a_round()
                hammer.stop()
                assert "purged" in event(running, "rebuilding")["reason"]
                during = (
                    event(running, "snapshot begins")["timestamp"],
                    event(running, "switched")["timestamp"],
                )
                system.assert_all_is_well()
        hammer.assert_old_then_new(before, after, written)
        assert hammer.answers_between(*during), "nobody read while it was made"
        assert (serving(stack), builds(stack)) == (2, [1, 2])


def test_a_rebuild_goes_through_right_after_a_truncate(stack: Stack, environment: dict[str, str]) -> None:
    """No other commit follows: the transaction that stopped the projector is the new build's anchor."""
    with running_system(stack, environment) as system:
        system.catch_up_and_fill()
        run_sql(system.connection, "TRUNCATE likes")
        system.projecting.expected_status = 1
        assert system.projecting.popen.wait(timeout=20) == 1
        assert "run `rebuild`" in system.projecting.tail()
        with process(environment, "-m", "binlog_projector", "rebuild") as running:
            assert running.popen.wait(timeout=30) == 0
        for _ in range(2):  # the second one starts where the first one ended
            with projector(environment) as running:
                wait_until(lambda: "streaming" in running.log.read_text(), "the stream behind the anchor")
        with projector(environment):
            run_sql(system.connection, "INSERT INTO likes (post_id, user_id) VALUES (1, 1)")
            system.assert_all_is_well()


def test_an_id_too_large_for_mongodb_stops_everybody_by_name(
    stack: Stack, environment: dict[str, str]
) -> None:
    """No row of its transaction reaches MongoDB, although the transaction has other rows."""
    named = f"UnprojectableRow: row {{'id': {2**63}}} of table posts cannot be projected: id is {2**63}"
    with running_system(stack, environment) as system:
        before = system.catch_up_and_fill()
        documents = actual_documents(stack)
        too_large = f"INSERT INTO posts (id, author_id, body) VALUES ({2**63}, 1, 'too large')"
        run_sql(system.connection, "BEGIN", "UPDATE posts SET body = 'not seen'", too_large, "COMMIT")
        system.projecting.expected_status = 1
        assert system.projecting.popen.wait(timeout=20) == 1
        (stopped,) = [each for each in system.projecting.events() if each.get("event") == "stopped"]
        assert f"{stopped['kind']}: {stopped['reason']}".startswith(named)
        assert "nothing of it was applied" in stopped["reason"]
        assert actual_documents(stack) == documents and system.watermark().seq == before.seq
        for command in ("rebuild", "audit"):
            with process(environment, "-m", "binlog_projector", command) as refused:
                assert refused.popen.wait(timeout=30) == 2
                refused.expected_status = 2
                assert named in refused.tail()
        run_sql(system.connection, f"DELETE FROM posts WHERE id = {2**63}")
        with process(environment, "-m", "binlog_projector", "rebuild") as building:
            assert building.popen.wait(timeout=30) == 0
        with projector(environment):
            run_sql(system.connection, "INSERT INTO likes (post_id, user_id) VALUES (1, 1)")
            system.assert_all_is_well()


@contextlib.contextmanager
def rebuilding(environment: dict[str, str], fault: dict[str, str], status: int = 0) -> Iterator[Process]:
    with process(
        {**environment, **fault}, "-m", "tests.support.faulty_projector", "rebuild", "--json"
    ) as running:
        running.expected_status = status
        yield running


def assert_needs_come_first(stack: Stack, running: Process) -> None:
    """The log tells the space needed and the space available before the copy begins."""
    events = [each.get("event") for each in running.events()]
    assert events.index("rebuilding needs") < events.index("snapshot begins")
    needs = event(running, "rebuilding needs")
    assert needs["rows"] >= sum(len(table) for table in actual_documents(stack).values()) // 2
    assert needs["free_disk_mib"] == pytest.approx(shutil.disk_usage(stack.mongodb.data).free >> 20, rel=0.2)
    assert {"seconds", "disk_mib"} <= needs.keys()


def spoil_entries(stack: Stack, epoch: str) -> None:
    """Replaces every entry of that epoch by an invalid value, so that a read of one shows."""
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        old = list(cache.scan_iter(f"{cache_key(epoch, '')}*", count=1000))
        assert old, "the old build had entries"
        for key in old:
            cache.set(key, b"spoilt")


def event(running: Process, name: str) -> dict[str, Any]:
    return next(each for each in running.events() if each.get("event") == name)


def serving(stack: Stack) -> int:
    """The build that readers use."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        found = client["tidemark"]["control"].find_one({"_id": "serving"})
    assert found is not None
    return int(found["build"])


def builds(stack: Stack) -> list[int]:
    """The numbers of builds that have any collection."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        names = client["tidemark"].list_collection_names()
    return sorted({int(name.rpartition("_b")[2]) for name in names if "_b" in name})
