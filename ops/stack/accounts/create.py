"""The accounts of the services, each with the least rights it needs, and the empty schema; safe to repeat."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pymysql
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from ops.stack.cluster import all_nodes
from ops.stack.errors import StackError
from ops.stack.urls import mysql_arguments, with_account

SCHEMA = "tidemark"
ROLE_OF_PROJECTOR = "tidemark_projector"

MYSQL_GRANTS: Mapping[str, Sequence[str]] = {
    "migrator": (
        f"CREATE, ALTER, DROP, INDEX, REFERENCES, SELECT, INSERT, UPDATE, DELETE, LOCK TABLES ON {SCHEMA}.*",
    ),
    "writer": (f"SELECT, INSERT, UPDATE, DELETE ON {SCHEMA}.*",),
    "projector": ("REPLICATION SLAVE, REPLICATION CLIENT ON *.*", f"SELECT, LOCK TABLES ON {SCHEMA}.*"),
}
MONGODB_PROJECTOR_ACTIONS = (
    *("find", "insert", "update", "remove", "listCollections", "listIndexes", "collStats", "dbStats"),
    *("createCollection", "dropCollection", "createIndex", "dropIndex"),
)
MONGODB_ROLES: Mapping[str, str] = {"projector": ROLE_OF_PROJECTOR, "reader": "read"}
REDIS_CONNECTION = (
    *("ping", "hello", "client|setinfo", "client|setname", "client|id"),
    *("cluster|slots", "cluster|shards"),
)
REDIS_SCRIPTS = ("eval", "eval_ro", "evalsha", "script|load", "script|exists")
TIDE = ("&tidemark:tide", "&tidemark:{*}:tide")  # channels on which the projector announces what it did
REDIS_RULES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "projector": (
        ("~tidemark:*", *TIDE),
        (
            *("get", "mget", "getrange", "scan", "set", "del", "exists", "pttl", "info", "spublish"),
            *REDIS_SCRIPTS,
            *REDIS_CONNECTION,
        ),
    ),
    "reader": (
        (
            *("%RW~tidemark:e*", "%R~tidemark:watermark"),
            *("%RW~tidemark:{*}:e*", "%R~tidemark:{*}:watermark"),  # of a cluster's shards
            *TIDE,
        ),
        (
            *("get", "mget", "getrange", "set", "ssubscribe", "sunsubscribe"),
            *REDIS_SCRIPTS,
            *REDIS_CONNECTION,
        ),
    ),
}


def create_mysql_accounts(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Ensure the schema and the accounts of `MYSQL_GRANTS`; return account -> URL."""
    with pymysql.connect(**mysql_arguments(admin_url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4")
        for account, grants in MYSQL_GRANTS.items():
            user = f"'{account}'@'%'"
            cursor.execute(f"CREATE USER IF NOT EXISTS {user}")
            cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", (account, passwords[account]))
            for grant in grants:
                cursor.execute(f"GRANT {grant} TO {user}")
    return {
        account: with_account(admin_url, account, passwords[account], f"/{SCHEMA}")
        for account in MYSQL_GRANTS
    }


def create_mongodb_accounts(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Ensure the accounts of the read model's database; return account -> URL."""
    privileges = [{"resource": {"db": SCHEMA, "collection": ""}, "actions": list(MONGODB_PROJECTOR_ACTIONS)}]
    client: MongoClient[dict[str, Any]]
    with MongoClient(admin_url) as client:
        database: Database[dict[str, Any]] = client[SCHEMA]
        known = database.command("rolesInfo", ROLE_OF_PROJECTOR)["roles"]
        database.command(
            "updateRole" if known else "createRole", ROLE_OF_PROJECTOR, privileges=privileges, roles=[]
        )
        for account, role in MONGODB_ROLES.items():
            known = database.command("usersInfo", account)["users"]
            database.command(
                "updateUser" if known else "createUser", account, pwd=passwords[account], roles=[role]
            )
    return {
        account: with_account(admin_url, account, passwords[account], f"/{SCHEMA}", authSource=SCHEMA)
        for account in MONGODB_ROLES
    }


def create_redis_accounts(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Ensure the accounts on every node, and save them where there is an ACL file; return account -> URL.

    The URL of a cluster names all nodes, replicas too. Raises StackError if it does not.
    """
    for node in all_nodes(admin_url):
        with Redis.from_url(node, decode_responses=True) as client:
            for account, (patterns, commands) in REDIS_RULES.items():
                rules = [
                    *("reset", "resetchannels"),
                    "on",
                    f">{passwords[account]}",
                    *patterns,
                    "-@all",
                    *(f"+{command}" for command in commands),
                ]
                client.execute_command("ACL SETUSER", account, *rules)
            if client.config_get("aclfile").get("aclfile"):
                client.acl_save()
    return {account: with_account(admin_url, account, passwords[account], "/0") for account in REDIS_RULES}


ACCOUNTS: Mapping[str, Sequence[str]] = {
    "mysql": tuple(MYSQL_GRANTS),
    "mongodb": tuple(MONGODB_ROLES),
    "redis": tuple(REDIS_RULES),
}
CREATE_ACCOUNTS: Mapping[str, Callable[[str, Mapping[str, str]], dict[str, str]]] = {
    "mysql": create_mysql_accounts,
    "mongodb": create_mongodb_accounts,
    "redis": create_redis_accounts,
}


def create_accounts(store: str, admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Make the services' accounts of one store: account -> URL. Raises StackError with store and address."""
    try:
        return CREATE_ACCOUNTS[store](admin_url, passwords)
    except (pymysql.MySQLError, PyMongoError, RedisError) as error:
        address = urlsplit(admin_url).netloc.rpartition("@")[2]
        raise StackError(f"the accounts of {store} cannot be made at {address}: {error}") from error
