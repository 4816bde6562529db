"""Errors of MongoDB are one line."""

from __future__ import annotations

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from tidemark.driver_errors import brief


def test_an_error_of_mongodb_names_the_servers_and_not_the_topology() -> None:
    url = "mongodb://127.0.0.1:1,127.0.0.1:2/?replicaSet=x&serverSelectionTimeoutMS=200"
    client: MongoClient[dict[str, object]]
    with MongoClient(url) as client, pytest.raises(ServerSelectionTimeoutError) as raised:
        client.admin.command("ping")
    refused = "[Errno 111] Connection refused"
    assert set(brief(raised.value).split(",")) == {f"127.0.0.1:1: {refused}", f"127.0.0.1:2: {refused}"}


def test_a_refusal_of_mongodb_is_its_first_sentence() -> None:
    assert brief(OperationFailure("not authorized", 13, {"ok": 0, "codeName": "x"})) == "not authorized"
