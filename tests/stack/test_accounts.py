"""Each account can do what its service does, and nothing else."""

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from ops.stack import Stack
from ops.stack.accounts.create import ACCOUNTS, create_accounts
from ops.stack.accounts.given import make_given_accounts
from ops.stack.errors import StackError
from ops.stack.urls import mysql_arguments

ACCESS_DENIED = {1044, 1045, 1142, 1227, 1370}
UNAUTHORIZED = 13


def mysql(stack: Stack, account: str, *statements: str) -> list[Any]:
    url = stack.environment()[f"TIDEMARK_{account.upper()}_MYSQL_URL"]
    rows: list[Any] = []
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement)
            rows += cursor.fetchall()
    return rows


def mysql_refuses(stack: Stack, account: str, statement: str) -> bool:
    with pytest.raises(pymysql.MySQLError) as refused:
        mysql(stack, account, statement)
    return refused.value.args[0] in ACCESS_DENIED


@pytest.fixture
def tables(stack: Stack) -> Stack:
    mysql(
        stack,
        "migrator",
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent (id))",
        "ALTER TABLE child ADD COLUMN body TEXT, ADD INDEX (parent, id)",
        "CREATE TABLE passing (id INT)",
        "DROP TABLE passing",
        "CREATE TABLE migrations (version INT PRIMARY KEY)",
        "INSERT INTO migrations VALUES (1)",
    )
    return stack


def test_the_migrator_changes_the_schema_and_no_other(tables: Stack) -> None:
    assert mysql(tables, "migrator", "SELECT * FROM migrations") == [(1,)]
    assert mysql_refuses(tables, "migrator", "CREATE DATABASE other")
    assert mysql_refuses(tables, "migrator", "CREATE USER intruder")


def test_the_writer_writes_rows_and_changes_no_table(tables: Stack) -> None:
    statements = [
        "INSERT INTO parent VALUES (1)",
        "UPDATE parent SET id = 2",
        "SELECT @@global.gtid_executed",
    ]
    mysql(tables, "writer", *statements, "SET session_track_gtids = OWN_GTID")
    assert mysql(tables, "writer", "SELECT * FROM parent", "DELETE FROM parent") == [(2,)]
    assert mysql_refuses(tables, "writer", "CREATE TABLE other (id INT)")
    assert mysql_refuses(tables, "writer", "DROP TABLE parent")
    assert mysql_refuses(tables, "writer", "ALTER TABLE parent ADD COLUMN more INT")
    assert mysql_refuses(tables, "writer", "SHOW BINARY LOGS")
    assert mysql_refuses(tables, "writer", "SELECT * FROM mysql.user")


def test_the_projector_reads_tables_and_the_binlog_and_writes_nothing(tables: Stack) -> None:
    snapshot = [
        "SET lock_wait_timeout = 2",
        "LOCK TABLES parent READ, child READ",
        "SELECT @@global.gtid_executed",
    ]
    mysql(tables, "projector", *snapshot, "UNLOCK TABLES", "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    assert mysql(tables, "projector", "SHOW BINARY LOGS", "SHOW BINARY LOG STATUS")
    assert mysql(tables, "projector", "SELECT COUNT(*) FROM migrations") == [(1,)]
    assert mysql_refuses(tables, "projector", "INSERT INTO parent VALUES (1)")
    assert mysql_refuses(tables, "projector", "DELETE FROM migrations")
    assert mysql_refuses(tables, "projector", "DROP TABLE child")
    assert mysql_refuses(tables, "projector", "PURGE BINARY LOGS BEFORE NOW()")
    assert mysql_refuses(tables, "projector", "SET GLOBAL max_connections = 5")


def test_only_the_projector_reads_the_binlogs_events(tables: Stack) -> None:
    events = mysql(tables, "projector", "SHOW BINLOG EVENTS")  # needs REPLICATION SLAVE, like a dump
    assert any("CREATE TABLE parent" in str(event) for event in events)
    assert mysql_refuses(tables, "writer", "SHOW BINLOG EVENTS")
    assert mysql_refuses(tables, "migrator", "SHOW BINLOG EVENTS")


@pytest.fixture
def projector(stack: Stack) -> Iterator[MongoClient[dict[str, Any]]]:
    client: MongoClient[dict[str, Any]]
    with MongoClient(stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
        yield client


@pytest.fixture
def reader(stack: Stack) -> Iterator[MongoClient[dict[str, Any]]]:
    client: MongoClient[dict[str, Any]]
    with MongoClient(stack.environment()["TIDEMARK_READER_MONGODB_URL"]) as client:
        yield client


def test_the_projector_manages_collections_and_documents_of_its_database_only(
    projector: MongoClient[dict[str, Any]],
) -> None:
    database = projector["tidemark"]
    database.create_collection("posts_2")
    database["posts_2"].create_index("author_id")
    with projector.start_session() as session, session.start_transaction():
        database["posts_2"].insert_one({"_id": 1, "like_count": 0}, session=session)
        database["posts_2"].update_one({"_id": 1}, {"$inc": {"like_count": 1}}, session=session)
    assert database["posts_2"].find_one() == {"_id": 1, "like_count": 1}
    database["posts_2"].delete_one({"_id": 1})
    database.drop_collection("posts_2")
    assert "posts_2" not in database.list_collection_names()
    for forbidden in (
        lambda: projector["other"]["posts"].insert_one({}),
        lambda: projector["admin"].command("getCmdLineOpts"),
        lambda: projector["tidemark"].command("createUser", "intruder", pwd="x", roles=[]),
        lambda: projector.drop_database("tidemark"),
        lambda: projector["admin"].command("shutdown"),
    ):
        with pytest.raises(OperationFailure) as refused:
            forbidden()
        assert refused.value.code == UNAUTHORIZED


def test_a_projector_ends_the_transaction_that_a_dead_one_left(
    stack: Stack, projector: MongoClient[dict[str, Any]]
) -> None:
    projector["tidemark"]["checkpoint"].insert_one({"_id": 1, "seq": 0})
    dead: MongoClient[dict[str, Any]]
    with (
        MongoClient(stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as dead,
        dead.start_session() as session,
    ):
        session.start_transaction()
        dead["tidemark"]["checkpoint"].update_one({"_id": 1}, {"$inc": {"seq": 1}}, session=session)
        projector["admin"].command("killSessions", [session.session_id])
        projector["tidemark"]["checkpoint"].update_one({"_id": 1}, {"$set": {"epoch": 2}})
        with pytest.raises(OperationFailure):
            session.commit_transaction()
    assert projector["tidemark"]["checkpoint"].find_one() == {"_id": 1, "seq": 0, "epoch": 2}


def test_the_reader_of_documents_cannot_change_them(
    projector: MongoClient[dict[str, Any]], reader: MongoClient[dict[str, Any]]
) -> None:
    projector["tidemark"]["posts"].insert_one({"_id": 1})
    assert reader["tidemark"]["posts"].find_one() == {"_id": 1}
    for forbidden in (
        lambda: reader["tidemark"]["posts"].insert_one({"_id": 2}),
        lambda: reader["tidemark"]["posts"].delete_one({"_id": 1}),
        lambda: reader["tidemark"]["posts"].drop(),
        lambda: reader["admin"]["system.users"].find_one(),
    ):
        with pytest.raises(OperationFailure) as refused:
            forbidden()
        assert refused.value.code == UNAUTHORIZED


def redis_of(stack: Stack, account: str) -> "Redis":
    return Redis.from_url(stack.environment()[f"TIDEMARK_{account.upper()}_REDIS_URL"], decode_responses=True)


APPLY = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('PTTL', KEYS[2]) ~= -2 then redis.call('SET', KEYS[2], ARGV[2], 'PX', 60000) end
redis.call('SET', KEYS[1], ARGV[2])
return redis.call('EXISTS', KEYS[2]) + #redis.call('GETRANGE', KEYS[2], 0, 0)
"""
FILL = (
    "if redis.call('GET', KEYS[1]) == ARGV[1]"
    " then return redis.call('SET', KEYS[1], ARGV[2], 'PX', 60000) end"
)


def test_the_projector_applies_to_the_whole_cache_with_scripts(stack: Stack) -> None:
    with redis_of(stack, "projector") as cache:
        cache.set("tidemark:watermark", "1")
        cache.set("tidemark:e1:post:1", "old", px=60000)
        assert cache.register_script(APPLY)(["tidemark:watermark", "tidemark:e1:post:1"], ["1", "2"]) == 2
        assert cache.mget("tidemark:watermark", "tidemark:e1:post:1") == ["2", "2"]
        assert cache.delete("tidemark:e1:post:1") == 1
        assert cache.info("memory")["maxmemory_policy"] == "volatile-lfu"


def test_the_reader_fills_entries_and_only_reads_the_watermark(stack: Stack) -> None:
    with redis_of(stack, "projector") as cache:
        cache.set("tidemark:watermark", "1")
    with redis_of(stack, "reader") as cache:
        assert cache.set("tidemark:e1:post:1", "lease", nx=True, px=2000)
        assert cache.register_script(FILL)(["tidemark:e1:post:1"], ["lease", "value"]) == "OK"
        assert cache.mget("tidemark:e1:post:1", "tidemark:watermark") == ["value", "1"]


@pytest.mark.parametrize(
    ("account", "command"),
    [
        ("reader", "SET tidemark:watermark 2"),
        ("reader", "GET other"),
        ("reader", "SET other 1"),
        ("reader", "DEL tidemark:e1:post:1"),
        ("reader", "INFO"),
        ("reader", "SPUBLISH tidemark:tide forged"),
        ("reader", "SSUBSCRIBE other"),
        ("reader", "SUBSCRIBE tidemark:tide"),
        ("projector", "SPUBLISH other 1"),
        ("projector", "SSUBSCRIBE tidemark:tide"),
        ("projector", "GET other"),
        ("projector", "SET other 1"),
        *(
            (account, command)
            for account in ("reader", "projector")
            for command in ("FLUSHALL", "KEYS *", "FLUSHDB")
        ),
        *(
            (account, command)
            for account in ("reader", "projector")
            for command in ("CONFIG GET *", "ACL LIST")
        ),
        *(
            (account, command)
            for account in ("reader", "projector")
            for command in ("SCRIPT FLUSH", "CLIENT KILL 1")
        ),
        *((account, command) for account in ("reader", "projector") for command in ("SAVE", "SHUTDOWN")),
    ],
)
def test_redis_refuses_everything_else(shared_stack: Stack, account: str, command: str) -> None:
    with redis_of(shared_stack, account) as cache, pytest.raises(NoPermissionError):
        cache.execute_command(*command.split())


def test_nobody_enters_without_a_name(shared_stack: Stack) -> None:
    once = Retry(NoBackoff(), 0)
    with Redis(port=shared_stack.redis.port, retry=once) as cache, pytest.raises(AuthenticationError):
        cache.ping()
    nobody: MongoClient[dict[str, Any]]
    with MongoClient(port=shared_stack.mongodb.port) as nobody, pytest.raises(OperationFailure) as refused:
        nobody["tidemark"]["posts"].find_one()
    assert refused.value.code == UNAUTHORIZED
    with pytest.raises(pymysql.MySQLError) as denied:
        pymysql.connect(host="127.0.0.1", port=shared_stack.mysql.port, user="root")
    assert denied.value.args[0] in ACCESS_DENIED


@pytest.mark.parametrize(
    ("store", "url"),
    [
        ("mysql", "mysql://root:x@127.0.0.1:1/"),
        ("mongodb", "mongodb://root:x@127.0.0.1:1/?serverSelectionTimeoutMS=100"),
        ("redis", "redis://root:x@127.0.0.1:1/0"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_its_password(store: str, url: str) -> None:
    with pytest.raises(
        StackError, match=rf"the accounts of {store} cannot be made at 127\.0\.0\.1:1"
    ) as caught:
        create_accounts(store, url, dict.fromkeys(("admin", *ACCOUNTS[store]), "hush"))
    assert "hush" not in str(caught.value)


def test_an_account_without_a_chosen_password_is_named_before_any_change() -> None:
    urls = {
        "TIDEMARK_PROJECTOR_REDIS_URL": "redis://projector:x@h/0",
        "TIDEMARK_READER_REDIS_URL": "redis://admin:x@h/",
    }
    with pytest.raises(StackError, match="TIDEMARK_READER_REDIS_URL must be a URL with the account reader"):
        make_given_accounts({"redis": "redis://root:x@127.0.0.1:1/0"}, urls)
