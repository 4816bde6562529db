"""A read model of the release before: readers serve it, projectors refuse it, and a rebuild replaces it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from ops.stack import Stack
from ops.stack.servers.ports import free_port
from reader.read_model.cached_values import WATERMARK_KEY
from reader.read_model.declarations import COLLECTIONS, LISTINGS
from reader.read_model.scans import EdgeId
from tests.conftest import service_environment
from tests.reader.conftest import RunningReader
from tests.support.harness import process, projector, run_sql, wait_until_caught_up
from tests.support.oracle import actual_documents, present
from tests.support.tokens import bearer
from tests.verification.faults.system import PATHS, reader, running_system

Database = Any
EDGES = [listing for listing in LISTINGS if COLLECTIONS[listing.collection].edge]
ROWS = (
    "INSERT INTO follows (followee_id, follower_id) SELECT a.id, b.id FROM users a JOIN users b",
    "INSERT INTO likes (post_id, user_id) SELECT p.id, u.id FROM posts p, users u WHERE (p.id + u.id) % 3",
    "UPDATE likes SET created_at = created_at + INTERVAL user_id % 2 MICROSECOND",
)
ALL_PATHS = [
    *PATHS,
    *(
        listing.path.format(id=id) + rest
        for listing in EDGES
        for id in range(1, 6)
        for rest in ("", "?limit=1")
    ),
    "/feed",
]


def make_older(stack: Stack, database: Database, build: int) -> None:
    """Leave the build as version 2 had it.

    Edges have columns for fields and an index for each of their lists. The checkpoint says no version."""
    documents = actual_documents(stack)
    for name in {listing.collection: None for listing in EDGES}:
        older = database[COLLECTIONS[name].in_build(build)]
        rows = present(documents, name)
        older.drop()
        for row in rows:
            id: EdgeId = row.pop("_id")
            older.insert_one({"_id": f"{id.p}:{id.u}", **row, "v": 1})
        for listing in EDGES:
            if listing.collection == name:
                older.create_index(list(listing.index))
    renamed = {"$rename": {"lease_epoch": "epoch"}, "$unset": {"model_version": True}}
    database["control"].update_one({"_id": f"checkpoint:{build}"}, renamed)
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        build_id, epoch, _, seq, batch_id, _, _, *rest = str(cache.get(WATERMARK_KEY), "ascii").split("|")
        cache.set(WATERMARK_KEY, "|".join([build_id, epoch, "2", seq, batch_id, *rest]))


def answers(reading: RunningReader) -> dict[str, Any]:
    """Path -> body; every page of a list behind the first one, too."""
    found, paths = {}, [*ALL_PATHS]
    with reading.client() as client:
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.text)
            found[path] = answer.json()
            if "limit=1" in path and (cursor := found[path]["next"]):
                paths.append(f"{path.partition('?')[0]}?limit=1&cursor={cursor}")
    return found


def notifications_status(reading: RunningReader) -> int:
    with reading.client() as client:
        return client.get("/user/me/notifications", headers=bearer("s0")).status_code


def refused(environment: Mapping[str, str], command: Sequence[str], status: int) -> None:
    bind = {"TIDEMARK_PROJECTOR_ADMIN_BIND": f"127.0.0.1:{free_port()}"}
    with process({**environment, **bind}, "-m", "binlog_projector", *command) as running:
        running.expected_status = status
        assert running.popen.wait(timeout=20) == status
        assert "OtherModel" in running.tail() and "python -m binlog_projector rebuild" in running.tail()


def test_a_read_model_of_the_release_before_is_served_until_a_rebuild_replaces_it(stack: Stack) -> None:
    environment = service_environment(stack)
    with (
        running_system(stack, environment) as system,
        MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client,
    ):
        database = client["tidemark"]
        run_sql(system.connection, *ROWS)
        wait_until_caught_up(stack, system.connection)
        before = answers(system.reading)
        assert system.projecting.stop() == 0
        make_older(stack, database, 1)
        older = {name: list(database[name].find()) for name in ("likes_b1", "follows_b1", "control")}
        with reader(environment) as starting:
            for reading in (system.reading, starting):
                assert answers(reading) == before
                assert notifications_status(reading) == 503
        refused(environment, ["run"], 1)
        refused(environment, ["audit"], 2)
        kept = [each for each in database["control"].find() if each["_id"] not in ("lease", "rebuild")]
        assert kept == [each for each in older["control"] if each["_id"] not in ("lease", "rebuild")]
        with process(environment, "-m", "binlog_projector", "rebuild") as building:
            assert building.popen.wait(timeout=30) == 0, building.tail()
        assert {
            name: list(database[name].find()) for name in ("likes_b1", "follows_b1")
        }.items() <= older.items()
        assert answers(system.reading) == before
        assert notifications_status(system.reading) == 200
        with projector(environment):
            run_sql(system.connection, "DELETE FROM likes WHERE post_id = 1")
            system.assert_all_is_well()
        with pytest.raises(OperationFailure, match="hint"):
            read_as_before(database, 2)
        assert claim_as_before(database, 2) is None
        print(
            json.dumps({"answers": len(before), "edges": len(older["likes_b1"]) + len(older["follows_b1"])})
        )


def read_as_before(database: Database, build: int) -> None:
    """By the command of readers of version 2: MongoDB refuses it, and they answer 503, never a wrong list."""
    index = [("post_id", 1), ("created_at", -1), ("user_id", -1)]
    list(database[f"likes_b{build}"].find({"post_id": 1}, sort=index[1:], hint=index, limit=21))


def claim_as_before(database: Database, build: int) -> Any:
    """By the command of projectors of version 2: they stand down without a document."""
    query = {"_id": f"checkpoint:{build}", "epoch": {"$lte": 1_000}}
    return database["control"].find_one_and_update(query, {"$set": {"epoch": 1_000}})
