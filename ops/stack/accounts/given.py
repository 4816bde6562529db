"""Accounts on servers that others run; the passwords are those in the services' URLs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from ops.stack.accounts.create import ACCOUNTS, create_accounts
from ops.stack.cluster import is_new, join, meet
from ops.stack.errors import StackError
from tidemark.redis_url import RedisUrl

PRIMARY_WITHIN_SECONDS = 60.0
POLL_SECONDS = 0.02


def make_given_accounts(admin_urls: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """Make the accounts of each store of `admin_urls`; return the variables whose URLs now work.

    A MongoDB with `--replSet` that is not initiated yet becomes the set's only member. Nodes of a Redis
    Cluster that serve no slot yet become one; later, those that are named learn each other's addresses.
    Raises StackError.
    """
    passwords = {store: _passwords(store, environment) for store in admin_urls}
    for store, admin_url in admin_urls.items():
        if store == "mongodb":
            _initiate(admin_url)
        if store == "redis" and (url := RedisUrl.parse(admin_url)).cluster:
            _join(url.nodes)
        create_accounts(store, admin_url, passwords[store])
    return [_variable(account, store) for store in admin_urls for account in ACCOUNTS[store]]


def _passwords(store: str, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        account: _password(account, _variable(account, store), environment) for account in ACCOUNTS[store]
    }


def _password(account: str, variable: str, environment: Mapping[str, str]) -> str:
    parts = urlsplit(environment.get(variable, ""))
    if parts.username != account or not parts.password:
        raise StackError(f"{variable} must be a URL with the account {account} and its password")
    return unquote(parts.password)


def _variable(account: str, store: str) -> str:
    return f"TIDEMARK_{account}_{store}_URL".upper()


def _initiate(admin_url: str) -> None:
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    options = dict(parse_qsl(parts.query))
    name = options.pop("replicaSet", None)
    if name is None or "," in host:
        return
    direct = urlunsplit(parts._replace(query=urlencode({**options, "directConnection": "true"}, safe="/")))
    configuration = {"_id": name, "members": [{"_id": 0, "host": host}]}
    client: MongoClient[dict[str, Any]]
    with MongoClient(direct) as client:
        try:
            if "setName" not in client.admin.command("hello"):
                client.admin.command("replSetInitiate", configuration)
            _wait_for_primary(client)
        except PyMongoError as error:
            raise StackError(f"MongoDB at {host} does not become the replica set {name}: {error}") from error


def _join(nodes: Sequence[str]) -> None:
    try:
        if is_new(nodes[0]):
            join(nodes)
        else:
            meet(nodes)
    except RedisError as error:
        raise StackError(f"the nodes of Redis do not become a cluster: {error}") from error


def _wait_for_primary(client: "MongoClient[dict[str, Any]]") -> None:
    """Wait for the election: before, clients would be told to look for a primary that does not exist."""
    deadline = time.monotonic() + PRIMARY_WITHIN_SECONDS
    while not (hello := client.admin.command("hello")).get("isWritablePrimary"):
        if hello.get("primary"):
            return  # another member is the primary
        if time.monotonic() > deadline:
            raise StackError(f"the replica set has no primary after {PRIMARY_WITHIN_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
