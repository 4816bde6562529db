"""The audit finds exactly the damage while traffic goes on, and repairs mend it; a clean system has none."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import httpx2
import pytest
import redis
from pymongo import MongoClient

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from binlog_projector.audit.settling import Settling
from binlog_projector.audit.source import SourceView
from binlog_projector.domain.batch import ENTITY_OF, Batch
from binlog_projector.domain.changes import RowChange
from binlog_projector.domain.projections import document_id, project
from binlog_projector.domain.truth import touched_by
from binlog_projector.mysql.connections import Connection, query_value
from binlog_projector.mysql.consistent_snapshot import consistent_snapshot
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.stores.audit_store import AuditStore, RepairQueue, RepairRequest, StoredView
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from reader.read_model.cached_values import VALUE, cache_key, list_of
from reader.read_model.declarations import COLLECTIONS, LISTINGS, LISTS, USERS_BY_HANDLE
from tests.conftest import AUTH, empty_stores, service_environment
from tests.reader.conftest import plain_client
from tests.support.harness import (
    ROOT,
    admin_connection,
    assert_everything_is_equal,
    process,
    run_sql,
    wait_until,
    wait_until_caught_up,
    watermark,
)
from tests.support.oracle import actual_documents, expected_documents
from tests.support.services import Services, running_services
from tests.support.traffic import POSTS, seed_rows, traffic, write_traffic
from tidemark.gtid import EMPTY, GtidSet
from writer.schema import TABLES

ORDER = (("u", "Int"), ("t", "Long"), ("p", "Int"))  # names in an id, and how MongoDB keeps their numbers
QUIET = range(POSTS + 1, POSTS + 6)  # posts without traffic
Database = Any


@dataclass(frozen=True)
class System:
    """The running system, with the rows that the corruptions below need."""

    stack: Stack
    connection: Connection
    services: Services

    def audit(self, *options: str, status: int) -> dict[str, Any]:
        """One pass. The audit looks at samples after one second."""
        token = mint(AuthSettings.from_environ(AUTH), "s0", ["read"], 3600)
        reader = {"TIDEMARK_AUDIT_READER_URL": self.services.reader_url, "TIDEMARK_AUDIT_READER_TOKEN": token}
        command = [sys.executable, "-m", "binlog_projector", "audit", "--json", "--after", "1", *options]
        environment = service_environment(self.stack) | reader
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def request(self, collection: str, id: int) -> RepairRequest:
        """The request that an audit would make now."""
        source = MySqlSource(self.stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"], 4711)
        mark = watermark(self.stack)
        assert mark is not None
        with consistent_snapshot(source) as snapshot:
            truth = SourceView(snapshot.connection).truths(collection, [id])[id]
        return RepairRequest(mark.build, str(snapshot.executed), truth)

    def carry_out(self, *requests: RepairRequest) -> None:
        """Waits until the projector has taken all requests out of the queue."""
        with MongoClient[Any](self.stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
            queue = RepairQueue(client)
            queue.put(requests)
            wait_until(lambda: not queue.waiting(), "the repairs to be carried out")

    def read_quiet_posts(self) -> None:
        for id in QUIET:
            for path in (f"/post/{id}", f"/post/{id}/likes"):
                assert self.services.read(path).status_code == 200


@pytest.fixture(scope="module")
def system(shared_stack: Stack) -> Iterator[System]:
    empty_stores(shared_stack)
    with running_services(shared_stack) as services, admin_connection(shared_stack) as connection:
        seed_rows(connection)
        run_sql(
            connection,
            *(f"INSERT INTO posts (id, author_id, body) VALUES ({id}, 1, 'quiet')" for id in QUIET),
            *(f"INSERT INTO likes (post_id, user_id) VALUES ({id}, 1), ({id}, 2)" for id in QUIET),
            *(
                f"INSERT INTO comments (id, post_id, author_id, body) VALUES ({id}00, {id}, 1, 'c')"
                for id in QUIET
            ),
        )
        wait_until_caught_up(shared_stack, connection)
        yield System(shared_stack, connection, services)


def like_of(of: Callable[[str], Database], post: int, user: int) -> dict[str, int]:
    """The edge's id."""
    found = of("likes").find_one({"_id.p": post, "_id.u": user})
    assert found is not None
    id: dict[str, int] = found["_id"]
    return id


def name_of(id: dict[str, int]) -> str:
    return f"likes:{id['p']}:{id['t']}:{id['u']}"


def corrupt_documents(of: Callable[[str], Database]) -> set[tuple[str, str]]:
    """Damages documents in every possible way. Returns the expected findings."""
    a, b, c, d, e = QUIET
    of("posts").update_one({"_id": a}, {"$set": {"body": "not what was written"}})
    of("posts").update_one({"_id": 7}, {"$inc": {"like_count": 2**40}})  # with traffic
    of("users").update_one({"_id": 3}, {"$inc": {"following_count": -1}})
    of("comments").delete_one({"_id": b * 100})
    of("posts").delete_one({"_id": c})
    of("posts").insert_one(
        {"_id": 777, "author_id": 1, "body": "x", "hashtags": [], "created_at": "x", "updated_at": "x"}
    )
    of("comments").insert_one({"_id": "not a number", "created_at": "x"})
    gone, moved, twin, telling = like_of(of, d, 1), like_of(of, d, 2), like_of(of, e, 1), like_of(of, e, 2)
    of("likes").update_one({"_id": telling}, {"$set": {"told": 9}})
    of("likes").delete_many({"_id": gone})
    of("likes").delete_many({"_id": moved})
    foreign = {"u": 1, "t": twin["t"], "p": e}  # in another order it is another id
    strange = [{"p": d, "t": 1, "u": 2}, {**twin, "t": 1}, {"p": e, "t": 1, "u": 9}]
    of("likes").insert_many({"_id": id} for id in (*strange, foreign, "1:1"))
    numbers = ", ".join(f'"{name}": {{"$number{kind}": "{foreign[name]}"}}' for name, kind in ORDER)
    return {
        ("stale", f"posts:{a}"),
        ("stale", "posts:7"),
        ("stale", "users:3"),
        ("missing", f"comments:{b * 100}"),
        ("missing", f"posts:{c}"),
        ("phantom", "posts:777"),
        ("phantom", "comments:not a number"),
        ("missing", name_of(gone)),
        ("missing", name_of(moved)),  # it has another time
        ("stale", name_of(telling)),
        *(("phantom", name_of(id)) for id in strange),
        ("phantom", f"likes:{{{numbers}}}"),
        ("phantom", "likes:1:1"),
    }


def corrupt_cache(cache: redis.Redis, epoch: str) -> set[tuple[str, str]]:
    """Changes an entity's body under the same version, and a list's id. Returns the expected findings."""
    post, likes = f"post:{QUIET[1]}", f"post:{QUIET[1]}:likes"
    for key, old, new in ((post, b'"quiet"', b'"loud!"'), (likes, b"2,1", b"9,1")):
        value = cache.get(cache_key(epoch, key))
        assert isinstance(value, bytes)
        assert old in value
        cache.set(cache_key(epoch, key), value.replace(old, new), px=3_600_000)
    return {("stale", post), ("stale", likes)}


def differences(report: dict[str, Any], *what: str) -> set[tuple[str, str]]:
    return {(one["kind"], one["name"]) for one in report["differences"] if one["what"] in what}


def assert_clean(report: dict[str, Any]) -> None:
    assert report["found"] == 0, report
    assert report["verified_through"]["gtid_set"]
    assert report["documents"]["consistent"] > POSTS, report


def test_every_change_of_an_edge_journals_a_list_that_its_id_names() -> None:
    """Trace 15, for tables without a cache key of their own: so a repair knows that an edge was touched."""
    for name in COLLECTIONS.keys() - ENTITY_OF.keys():
        edge = COLLECTIONS[name].edge
        assert edge is not None
        row = dict.fromkeys(TABLES[name].columns, 1) | {edge.t: datetime(2026, 1, 1)}
        for column in {*TABLES[name].columns} - {*TABLES[name].primary_key}:
            other = row | {column: datetime(2026, 1, 2)}
            batch = Batch(EMPTY)
            batch.fold(project(RowChange(name, row, other)))
            for one in (row, other):
                assert touched_by(name, document_id(name, one)) & {*batch.keys}, (name, column)


def test_a_repair_that_an_event_has_overtaken_is_dropped(system: System) -> None:
    """Trace 15: the audit's read is older than a change that the stream has applied since."""
    run_sql(system.connection, "UPDATE posts SET body = 'before' WHERE id = 50")
    request = system.request("posts", 50)
    run_sql(system.connection, "UPDATE posts SET body = 'after' WHERE id = 50")
    wait_until_caught_up(system.stack, system.connection)
    system.carry_out(request)
    assert_everything_is_equal(system.stack, system.connection)


def test_a_counter_is_repaired_once_while_events_add_to_it(system: System) -> None:
    """Events do not change the counter's error, so only another repair makes the request void."""
    with MongoClient[Any](system.stack.mongodb.admin_url) as client:
        wait_until_caught_up(system.stack, system.connection)
        mark = watermark(system.stack)
        assert mark is not None
        posts = client["tidemark"][f"posts_b{mark.build}"]
        posts.update_one({"_id": 50}, {"$inc": {"like_count": 5}})
        stored = posts.find_one({"_id": 50})
        assert stored is not None
        seen = {name: stored[name] for name in COLLECTIONS["posts"].counters}
    request = replace(system.request("posts", 50), seq=mark.seq, counters=seen)
    run_sql(
        system.connection,
        "INSERT INTO likes (post_id, user_id) VALUES (50, 11), (50, 12)",
        "UPDATE posts SET body = 'later' WHERE id = 50",
    )
    wait_until_caught_up(system.stack, system.connection)
    system.carry_out(request)
    system.carry_out(request)
    wait_until_equal(system)


def wait_until_equal(system: System) -> None:
    """Waits for equality: a request leaves the queue a moment before its batch is committed."""
    expected = expected_documents(system.connection)
    wait_until(lambda: actual_documents(system.stack) == expected, "the repair to be committed")


def test_a_repair_of_what_is_still_to_come_counts_nothing_twice(system: System) -> None:
    """Trace 15: the audit has read a comment whose event has not arrived."""
    system.services.projector.popen.send_signal(signal.SIGSTOP)
    run_sql(
        system.connection, "INSERT INTO comments (id, post_id, author_id, body) VALUES (77777, 50, 1, 'new')"
    )
    requests = [system.request("comments", 77777), system.request("posts", 50)]
    system.services.projector.popen.send_signal(signal.SIGCONT)
    system.carry_out(*requests)
    wait_until_caught_up(system.stack, system.connection)
    assert_everything_is_equal(system.stack, system.connection)


def test_a_difference_that_an_event_hides_is_found_all_the_same(system: System) -> None:
    """A counter that is one too low looks right beside MySQL's count before the last like."""
    likes = iter([f"INSERT INTO likes (post_id, user_id) VALUES ({QUIET[0]}, 3)"])

    class Overtaken(Settling):
        @contextlib.contextmanager
        def view_containing(self, gtid_set: GtidSet) -> Iterator[StoredView]:
            run_sql(system.connection, *likes)
            wait_until_caught_up(system.stack, system.connection)
            with super().view_containing(gtid_set) as view:
                yield view

    environment = system.stack.environment()
    source = MySqlSource(environment["TIDEMARK_PROJECTOR_MYSQL_URL"], 4711)
    mark = watermark(system.stack)
    assert mark is not None
    with (
        MongoClient[Any](system.stack.mongodb.admin_url) as admin,
        MongoClient[Any](environment["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client,
    ):
        post = admin["tidemark"][f"posts_b{mark.build}"], {"_id": QUIET[0]}
        post[0].update_one(post[1], {"$inc": {"like_count": -1}})
        found, _ = Overtaken(source, AuditStore(client), None, threading.Event()).settle(
            [("posts", QUIET[0])]
        )
        post[0].update_one(post[1], {"$inc": {"like_count": 1}})
    assert [one.suspect for one in found] == [("posts", QUIET[0])]
    run_sql(system.connection, "UPDATE posts SET body = 'last' WHERE id = 50")  # readers read at its time
    wait_until_caught_up(system.stack, system.connection)
    assert_everything_is_equal(system.stack, system.connection)


def test_while_traffic_goes_on_a_clean_system_has_no_differences(system: System) -> None:
    system.read_quiet_posts()
    with traffic(system.stack, 1):
        report = system.audit(status=0)
    assert_clean(report)
    assert report["samples"]["redis"]["consistent after 1 s"] > 0, report
    assert report["samples"]["reader"]["consistent after 1 s"] > 0, report


def test_an_audit_says_how_far_it_is_every_few_seconds(system: System) -> None:
    command = [sys.executable, "-m", "binlog_projector", "audit", "--after", "1,7"]
    environment = service_environment(system.stack)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("audit: ")]
    assert lines and re.fullmatch(r"audit: [0-9,]+ documents compared, 1 looks at .* are left", lines[0])
    assert "audit: " not in done.stdout


def test_a_continuous_audit_shows_what_it_finds_as_metrics(system: System) -> None:
    bind = f"127.0.0.1:{free_port()}"
    environment = service_environment(system.stack) | {"TIDEMARK_AUDIT_ADMIN_BIND": bind}
    options = ("--continuous", "--after", "0.1", "--rows-per-s", "100000")
    mark = watermark(system.stack)
    assert mark is not None
    with (
        process(environment, "-m", "binlog_projector", "audit", *options),
        plain_client(f"http://{bind}", {}) as http,
    ):
        wait_until(lambda: metric(http, "verified_through_timestamp_seconds"), "a pass")
        with MongoClient[Any](system.stack.mongodb.admin_url) as client:
            users = client["tidemark"][f"users_b{mark.build}"]
            users.update_one({"_id": 4}, {"$inc": {"post_count": 1}})
            wait_until(lambda: metric(http, "differences") == 1, "the difference")
            assert metric(http, 'documents_total{result="stale"}') > 0
            users.update_one({"_id": 4}, {"$inc": {"post_count": -1}})
        verified = metric(http, "verified_through_timestamp_seconds")
        wait_until(lambda: metric(http, "differences") == 0, "a clean pass")
        assert metric(http, "verified_through_timestamp_seconds") > verified


def metric(http: httpx2.Client, name: str) -> float:
    """The metric's value, 0 while the server does not answer."""
    with contextlib.suppress(httpx2.TransportError):
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"tidemark_audit_{name} "))
    return 0.0


def test_a_handle_is_looked_up_in_mysql_among_any_number_of_users(system: System) -> None:
    """By its index, where `Zo\u00e9` is equal to `zoe`, which finds nobody."""
    many = ", ".join(f"('many{n}', 'Many{n}', 'N')" for n in range(600))
    run_sql(
        system.connection,
        f"INSERT INTO users (subject, handle, display_name) VALUES {many}, ('zoe', 'Zo\u00e9', 'Z')",
    )
    last = query_value(system.connection, "SELECT id FROM users WHERE subject = 'many599'")
    view = SourceView(system.connection)
    assert view.first_ids(USERS_BY_HANDLE, "many599") == ((last,), 0)
    assert view.first_ids(USERS_BY_HANDLE, "zoe") == ((), 0)


def test_a_wrong_entry_of_any_list_is_found_and_repaired(system: System) -> None:
    run_sql(system.connection, "UPDATE posts SET body = '#quiet' WHERE id = 1")
    run_sql(system.connection, "INSERT INTO users (subject, handle, display_name) VALUES ('q', 'Quiet', 'Q')")
    wait_until_caught_up(system.stack, system.connection)
    paths = [listing.path.format(id=1) for listing in LISTINGS]
    paths += ["/feed", "/posts?include=viewer", "/hashtag/quiet", "/user/by-handle/quiet"]
    for path in (*paths, "/user/me/notifications"):
        assert system.services.read(path).status_code == 200
    mark = watermark(system.stack)
    assert mark is not None
    wrong = {}
    with redis.Redis.from_url(system.stack.redis.admin_url) as cache:
        for name in cache.scan_iter(match=cache_key(mark.epoch, "*"), count=1000):
            key, value = name.decode().removeprefix(cache_key(mark.epoch, "")), cache.get(name)
            if (listed := list_of(key)) and isinstance(value, bytes) and value.startswith(VALUE):
                wrong[listed[0].label] = key
                cache.set(name, value.partition(b"\n")[0] + b"\n999", px=3_600_000)
    assert wrong.keys() == {one.label for one in LISTS}
    found = differences(system.audit("--repair", status=0), "cache entry")
    assert found >= {("stale", key) for key in wrong.values()}
    assert_clean(system.audit(status=0))


def test_a_notification_of_a_mention_is_no_difference(system: System) -> None:
    """Regression: MySQL answers `COALESCE` of its unsigned ids with a DECIMAL, so no mention was right."""
    post, comment = QUIET[0], QUIET[0] * 100
    run_sql(
        system.connection,
        f"INSERT INTO mentions (user_id, author_id, post_id) VALUES (1, 2, {post})",
        f"INSERT INTO mentions (user_id, author_id, post_id, comment_id) VALUES (1, 2, {post}, {comment})",
    )
    wait_until_caught_up(system.stack, system.connection)
    found = system.services.read("/user/me/notifications").json()["items"]
    assert [each["comment_id"] for each in found if each["kind"] == "mention"] == [str(comment), None]
    assert_clean(system.audit(status=0))


def test_all_damage_is_found_and_repaired_while_traffic_goes_on(
    system: System,
) -> None:
    write_traffic(system.connection, random.Random(2), 50)
    wait_until_caught_up(system.stack, system.connection)
    system.read_quiet_posts()
    mark = watermark(system.stack)
    assert mark is not None
    with MongoClient[Any](system.stack.mongodb.admin_url) as client, traffic(system.stack, 2):
        wrong = corrupt_documents(lambda name: client["tidemark"][f"{name}_b{mark.build}"])
        with redis.Redis.from_url(system.stack.redis.admin_url) as cache:
            wrong_entries = corrupt_cache(cache, mark.epoch)
        report = system.audit("--repair", status=0)
        assert differences(report, "document") == wrong
        # the traffic may have had lists read back from the damaged documents
        assert differences(report, "cache entry") >= wrong_entries
        assert report["repaired"] == report["found"] >= len(wrong) + len(wrong_entries)
        assert_clean(system.audit(status=0))
    wait_until_caught_up(system.stack, system.connection)
    assert_everything_is_equal(system.stack, system.connection)
