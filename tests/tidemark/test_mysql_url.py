"""MySQL URLs: every part is decoded, and the password is never shown."""

from __future__ import annotations

import pytest

from binlog_projector.mysql.connections import connection_settings
from ops.stack.urls import mysql_arguments
from tidemark.mysql_url import MySqlUrl
from writer.connections import connection_arguments

URL = "mysql://jo%40home:p%2Fw%3A1@[::1]:3307/tide%2Dmark?ssl_ca=/a%20file"
PARTS = {"host": "::1", "port": 3307, "user": "jo@home", "password": "p/w:1", "database": "tide-mark"}


def test_every_part_is_decoded() -> None:
    found = MySqlUrl.parse(URL)
    assert (found.arguments(), found.options) == (PARTS, {"ssl_ca": "/a file"})


def test_port_and_schema_may_be_left_out() -> None:
    found = MySqlUrl.parse("mysql://me@db")
    assert (found.port, found.password, found.arguments()["database"]) == (3306, "", None)


def test_the_password_is_not_shown() -> None:
    assert "p/w:1" not in repr(MySqlUrl.parse(URL))


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="Port"):
        MySqlUrl.parse("mysql://me@db:99999/")


def test_everybody_reads_the_same_url_alike() -> None:
    url = URL.partition("?")[0]
    for arguments in (connection_arguments(url), connection_settings(url), mysql_arguments(url)):
        assert {name: arguments[name] for name in PARTS} == PARTS
