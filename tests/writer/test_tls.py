"""`?ssl_ca=/file` in the URL: the connection is encrypted, and another server is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority
from tests.writer.mysql import MySql
from writer.database import Database, readiness


@contextlib.contextmanager
def server_certificate(mysql: MySql, authority: Authority, address: str) -> Iterator[None]:
    """While the block runs, the server presents a certificate of `authority` for `address`."""
    certificate, key = authority.issue("server", address)
    before = mysql.rows("SELECT @@ssl_ca, @@ssl_cert, @@ssl_key")[0]
    present(mysql, str(authority.ca), str(certificate), str(key))
    try:
        yield
    finally:
        present(mysql, *before)


def present(mysql: MySql, ca: str, certificate: str, key: str) -> None:
    mysql.execute("SET GLOBAL ssl_ca = %s, GLOBAL ssl_cert = %s, GLOBAL ssl_key = %s", ca, certificate, key)
    mysql.execute("ALTER INSTANCE RELOAD TLS")


def cipher(url: str) -> Any:
    ask = Database(url, 1).run(lambda db: db.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'"), repeatable=True)
    return asyncio.run(ask).result[0][1]


def test_only_with_a_ca_is_the_connection_encrypted(mysql: MySql, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with server_certificate(mysql, authority, "127.0.0.1"):
        assert cipher(f"{mysql.url}?ssl_ca={authority.ca}").startswith("TLS_")
        assert cipher(mysql.url) == ""


def test_a_server_of_another_authority_is_refused(mysql: MySql, tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    with server_certificate(mysql, theirs, "127.0.0.1"):
        assert "CERTIFICATE_VERIFY_FAILED" in readiness(f"{mysql.url}?ssl_ca={ours.ca}")
        assert readiness(f"{mysql.url}?ssl_ca={theirs.ca}") == "ok"


def test_a_certificate_for_another_address_is_refused(mysql: MySql, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with server_certificate(mysql, authority, "127.0.0.2"):
        assert "mismatch" in readiness(f"{mysql.url}?ssl_ca={authority.ca}")
