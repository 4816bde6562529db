"""`status` and `check` answer whatever is away, in words for people and in JSON for machines."""

from __future__ import annotations

import contextlib
import io
import json
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from binlog_projector.__main__ import main
from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.support.harness import (
    admin_connection,
    projector,
    projector_environment,
    purge_binlog,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.traffic import write_traffic

AWAY = {
    "mysql": "MySQL is away: writes fail and nothing new is projected; reads go on",
    "mongodb": (
        "MongoDB is away: nothing is projected; reads come from Redis, all others are answered with 503"
    ),
    "redis": "Redis is away: reads come from MongoDB",
}


def ask(stack: Stack, *command: str) -> tuple[int, str]:
    """The exit status and output of a command, run in this process."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        for variable, value in stack.environment().items():
            patch.setenv(variable, value)
        status = main(command)
    return status, output.getvalue()


def status(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(stack, "status", "--json")[1])
    return found


@pytest.fixture
def projecting(stack: Stack, connection: Connection) -> Iterator[None]:
    with projector(projector_environment(stack)):
        wait_until_caught_up(stack, connection)
        wait_until(lambda: status(stack)["ok"], "all to be well")
        yield


def test_status_says_all_well_who_leads_and_what_each_store_has(stack: Stack, projecting: None) -> None:
    exit_status, text = ask(stack, "status")
    lines = text.splitlines()
    assert (exit_status, lines[0]) == (0, "all well")
    for at, begin, has in (
        (2, "leader    ", ", lease renewed "),
        (3, "mysql     127.0.0.1:", " ms; has "),
        (4, "mongodb   answers in ", " behind MySQL; lacks nothing"),
        (5, "redis     answers in ", " behind MySQL; lacks nothing"),
    ):
        assert lines[at].startswith(begin) and has in lines[at], text
    found = status(stack)
    age = datetime.now(UTC) - datetime.fromisoformat(found["leader_since"])
    assert -2 < age.total_seconds() < 60 and 0 <= found["lease_age_seconds"] < 6
    assert found["caught_up"] and found["missing"] == found["cache_missing"] == ""


def test_steady_writes_do_not_make_caught_up_flicker(
    stack: Stack, connection: Connection, projecting: None
) -> None:
    """Each look finds commits that MongoDB lacks; MongoDB has them a moment later."""
    done = threading.Event()

    def write() -> None:
        chance = random.Random(22)
        with admin_connection(stack) as own:
            while not done.is_set():
                write_traffic(own, chance, 20)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        found = [status(stack) for _ in range(15)]
    finally:
        done.set()
        writing.join()
    assert all(one["caught_up"] and one["ok"] for one in found), found
    assert any(one["lag_seconds"]["mongodb"] > 0 for one in found), "some had to wait"


@pytest.mark.parametrize("store", AWAY)
def test_with_one_server_away_status_and_check_tell_of_the_others(
    stack: Stack, projecting: None, store: str
) -> None:
    server = stack.servers[store]
    begun = datetime.now(UTC).replace(microsecond=0)
    server.stop()
    try:
        found = wait_until(lambda: told_since(stack, store), f"{store} to be missed by the leader")
        exit_status, text = ask(stack, "status")
        check_status, checks = ask(stack, "check")
    finally:
        server.start()
    assert (exit_status, text.splitlines()[0]) == (1, found["sentence"]) == (1, AWAY[store])
    for other in AWAY.keys() - {store}:
        assert f"{other:<9} " in text and f"{other:<9} is away" not in text
        assert answered(other) in checks
    assert "is away (since " in text and "Topology" not in text + checks
    assert check_status == 1
    (failed,) = [line for line in checks.splitlines() if not line.startswith("ok ")]
    assert failed.startswith(f"FAILED  {store}") and "away: " in failed
    since = found["away_since"][store]
    assert store == "mongodb" or begun <= datetime.fromisoformat(since) <= datetime.now(UTC)
    wait_until(lambda: status(stack)["ok"], "all to be well again", 40)


def answered(store: str) -> str:
    """A line of `check` that only this server can give."""
    return {
        "mysql": "ok      binlog_format: ROW",
        "mongodb": "ok      mongodb replica set: tidemark",
        "redis": "ok      redis maxmemory-policy: volatile-lfu",
    }[store]


def told_since(stack: Stack, store: str) -> dict[str, Any] | None:
    """The status, once the leader has said since when. While MongoDB is away it can tell nobody."""
    found = status(stack)
    return found if found["away_since"].get(store) or (store == "mongodb" and found["away"]) else None


def test_with_every_server_away_or_silent_status_answers_within_seconds(
    stack: Stack, connection: Connection
) -> None:
    for server in stack.servers.values():
        server.pause()
    try:
        begun = time.monotonic()
        exit_status, text = ask(stack, "status")
        seconds = time.monotonic() - begun
    finally:
        for server in stack.servers.values():
            server.resume()
    assert exit_status == 1 and seconds < 10
    assert text.count(" is away (since when is not known): ") == 3
    assert "leader    not known while MongoDB is away" in text


def test_a_purged_position_is_told_by_status_and_check(stack: Stack, connection: Connection) -> None:
    with projector(projector_environment(stack)) as running:
        wait_until_caught_up(stack, connection)
        assert "ok      position: can be continued" in ask(stack, "check")[1]
        running.stop()
    assert ask(stack, "status")[1].startswith("nobody projects: run `python -m binlog_projector run`\n")
    write_traffic(connection, random.Random(3), 5)
    purge_binlog(connection)
    exit_status, text = ask(stack, "status")
    assert exit_status == 1
    assert text.startswith("the position is purged: run `python -m binlog_projector rebuild`; nobody ")
    check_status, checks = ask(stack, "check")
    assert check_status == 1 and "FAILED  position is " in checks and "has purged" in checks


def test_a_leader_that_stopped_has_left_its_reason(stack: Stack, connection: Connection) -> None:
    with projector(projector_environment(stack)) as running:
        wait_until_caught_up(stack, connection)
        run_sql(connection, "TRUNCATE TABLE follows")
        assert running.popen.wait(timeout=20) == 1
        running.expected_status = 1
    exit_status, text = ask(stack, "status")
    assert exit_status == 1
    assert text.startswith(
        "nobody projects, because the last leader stopped with UnsupportedEvent: the watched"
    )
    assert "\nleader    nobody; " in text and " was the last, until " in text


def test_before_the_first_run_status_says_that_nobody_has_led(stack: Stack, connection: Connection) -> None:
    exit_status, text = ask(stack, "status")
    assert exit_status == 1 and text.startswith("nobody projects: run `python -m binlog_projector run`\n")
    assert "leader    nobody has led yet" in text and "has no read model" in text
