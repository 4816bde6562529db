"""TLS from every service to all three stores: the URLs alone turn it on, and another server is refused."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ops.stack import Stack
from ops.stack.servers.ports import free_port
from ops.stack.urls import mysql_arguments
from tests.conftest import service_environment
from tests.reader.conftest import plain_client
from tests.support.certificates import Authority
from tests.support.harness import ROOT, process, wait_until
from tests.support.services import running_services

pytestmark = pytest.mark.server


@dataclass(frozen=True)
class Encrypted:
    """Servers with a certificate of `authority` for 127.0.0.1; MongoDB accepts no connection without TLS."""

    stack: Stack
    authority: Authority
    stranger: Authority
    redis_port: int

    def environment(self, *, mysql: Path, mongodb: Path, redis: Path) -> dict[str, str]:
        """The services' environment with TLS; each argument is the file of that store's trusted authority."""
        environment = service_environment(self.stack)
        for name, url in self.stack.environment().items():
            if "_MYSQL_" in name:
                environment[name] = f"{url}?ssl_ca={mysql}"
            elif "_MONGODB_" in name:
                environment[name] = f"{url}&tls=true&tlsCAFile={mongodb}"
            else:
                parts = urlsplit(url)
                account = parts.netloc.rpartition("@")[0]
                environment[name] = f"rediss://{account}@127.0.0.1:{self.redis_port}/0?ssl_ca_certs={redis}"
        return environment

    @property
    def trusting(self) -> Mapping[str, str]:
        ca = self.authority.ca
        return self.environment(mysql=ca, mongodb=ca, redis=ca)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs", "stack"):
        (folder / name).mkdir()
    authority, stranger = Authority(folder / "ours"), Authority(folder / "theirs")
    certificate, key = authority.issue("server", "127.0.0.1")
    both = folder / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    files = (str(authority.ca), str(certificate), str(key))
    redis_port = free_port()
    mysql_options = [f"--ssl-{name}={file}" for name, file in zip(("ca", "cert", "key"), files, strict=True)]
    stack = Stack(folder / "stack", mysql_options=mysql_options)
    stack.mongodb.options = (
        *("--tlsMode=preferTLS", f"--tlsCertificateKeyFile={both}", f"--tlsCAFile={authority.ca}"),
        "--tlsAllowConnectionsWithoutCertificates",
    )
    redis_files = zip(("--tls-ca-cert-file", "--tls-cert-file", "--tls-key-file"), files, strict=True)
    stack.redis.options = (
        *("--tls-port", str(redis_port), "--tls-auth-clients", "no"),
        *(word for option in redis_files for word in option),
    )
    with stack:
        require_tls_of_mongodb(stack)
        yield Encrypted(stack, authority, stranger, redis_port)


def require_tls_of_mongodb(stack: Stack) -> None:
    mongodb: MongoClient[dict[str, Any]]
    with MongoClient(stack.mongodb.admin_url) as mongodb:
        mongodb.admin.command("setParameter", 1, tlsMode="requireTLS")
    with (
        MongoClient(stack.mongodb.admin_url, serverSelectionTimeoutMS=500) as mongodb,
        pytest.raises(PyMongoError),
    ):
        mongodb.admin.command("ping")


def ciphers_of_mysql(stack: Stack) -> dict[str, set[str]]:
    """Account -> the ciphers of its connections; a connection without TLS has the empty text."""
    sql = (
        "SELECT t.processlist_user, s.variable_value FROM performance_schema.status_by_thread s"
        " JOIN performance_schema.threads t USING (thread_id) WHERE s.variable_name = 'Ssl_cipher'"
    )
    found: dict[str, set[str]] = {}
    with (
        pymysql.connect(**mysql_arguments(stack.mysql.admin_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
        for account, cipher in cursor.fetchall():
            found.setdefault(account, set()).add(cipher)
    return found


def test_every_service_works_with_tls_to_every_store(encrypted: Encrypted) -> None:
    with running_services(encrypted.stack, encrypted.trusting) as services:
        services.write("jane", "PUT", "/user/me", {"handle": "jane", "display_name": "Jane"})
        written = services.write("jane", "POST", "/post", {"body": "secret"})
        token = {"consistency-token": written.headers["consistency-token"], "prefer": "wait=2"}
        assert services.read("/post/1", headers=token).json()["body"] == "secret"
        wait_until(lambda: "hit" in services.read("/post/1").headers["cache-status"], "a hit")
        ciphers = ciphers_of_mysql(encrypted.stack)
        for account in ("writer", "projector"):
            assert ciphers[account]
            assert all(cipher.startswith("TLS_") for cipher in ciphers[account]), ciphers
        with redis.Redis.from_url(encrypted.stack.redis.admin_url, decode_responses=True) as cache:
            clients = [client for client in cache.client_list() if client["user"] != "admin"]
        assert {client["user"] for client in clients} == {"reader", "projector"}
        assert {client["laddr"] for client in clients} == {f"127.0.0.1:{encrypted.redis_port}"}


@pytest.mark.parametrize("store", ["mysql", "mongodb", "redis"])
@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_the_projector_refuses_a_server_that_is_not_the_one(
    encrypted: Encrypted, store: str, wrong: str
) -> None:
    ours, theirs = encrypted.authority.ca, encrypted.stranger.ca
    trusted = {"mysql": ours, "mongodb": ours, "redis": ours} | (
        {store: theirs} if wrong == "authority" else {}
    )
    environment = encrypted.environment(**trusted)
    if wrong == "name":
        variable = f"TIDEMARK_PROJECTOR_{store.upper()}_URL"
        environment[variable] = environment[variable].replace("127.0.0.1", "localhost")
    command = [sys.executable, "-m", "binlog_projector", "check"]
    checked = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode != 0
    assert "certificate verify failed" in checked.stdout + checked.stderr


def test_the_reader_serves_nothing_from_stores_of_an_unknown_authority(encrypted: Encrypted) -> None:
    stranger = encrypted.stranger.ca
    environment = encrypted.environment(mysql=stranger, mongodb=stranger, redis=stranger)
    admin = free_port()
    binds = {
        "TIDEMARK_READER_BIND": f"127.0.0.1:{free_port()}",
        "TIDEMARK_READER_ADMIN_BIND": f"127.0.0.1:{admin}",
    }
    with (
        process({**environment, **binds}, "-m", "reader") as reader,
        plain_client(f"http://127.0.0.1:{admin}", {}) as c,
    ):

        def unready() -> dict[str, str] | None:
            with contextlib.suppress(Exception):
                answer = c.get("/readyz")
                return dict(answer.json()) if answer.status_code == 503 and "mongodb" in answer.text else None
            return None

        assert (
            "CERTIFICATE_VERIFY_FAILED" in wait_until(unready, "the reader to say what is wrong")["mongodb"]
        )
        wait_until(
            lambda: "CERTIFICATE_VERIFY_FAILED" in reader.log.read_text(), "Redis's certificate to be refused"
        )
