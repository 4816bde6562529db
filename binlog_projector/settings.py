"""The projector's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from tidemark.mysql_url import MySqlUrl
from tidemark.redis_url import RedisUrl
from tidemark.settings import Address, address, url, variable, whole_number


def optional(parse: Callable[[str], str]) -> Callable[[str], str]:
    """As `parse`, and `none` for no value."""
    return lambda text: "" if text == "none" else parse(text)


def server_urls(url: str) -> list[str]:
    """One URL for each host of mysql://user:password@host1:3306,host2:3306/schema."""
    parts = urlsplit(url)
    account, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{account}{at}{host}")) for host in hosts.split(",")]


def mysql_url(text: str) -> str:
    for each in map(url("mysql"), server_urls(text)):
        MySqlUrl.parse(each)
    return text


def admin_urls(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(url("http", "https")(each).rstrip("/") for each in text.split(","))


@dataclass(frozen=True)
class ProjectorSettings:
    """Read once by `__main__`; described in docs/configuration.md."""

    mysql_url: str = variable("TIDEMARK_PROJECTOR_MYSQL_URL", mysql_url, secret=True)
    mongodb_url: str = variable("TIDEMARK_PROJECTOR_MONGODB_URL", url("mongodb", "mongodb+srv"), secret=True)
    redis_url: RedisUrl = variable("TIDEMARK_PROJECTOR_REDIS_URL", RedisUrl.parse, secret=True)
    admin_bind: Address = variable("TIDEMARK_PROJECTOR_ADMIN_BIND", address, "127.0.0.1:9103")
    server_id: int = variable("TIDEMARK_PROJECTOR_SERVER_ID", whole_number(1, 2**32 - 2), "7331")
    commit_interval_ms: int = variable("TIDEMARK_COMMIT_INTERVAL_MS", whole_number(0, 1000), "20")
    journal_hours: int = variable("TIDEMARK_JOURNAL_HOURS", whole_number(1, 24 * 365), "24")
    former_build_minutes: int = variable(
        "TIDEMARK_FORMER_BUILD_MINUTES", whole_number(0, 60 * 24 * 365), "60"
    )
    retention_hours: int = variable("TIDEMARK_MIN_BINLOG_RETENTION_HOURS", whole_number(0, 24 * 365), "24")
    console_admin_urls: tuple[str, ...] = variable("TIDEMARK_CONSOLE_ADMIN_URLS", admin_urls, "none")


@dataclass(frozen=True)
class AuditSettings(ProjectorSettings):
    """More settings of `audit`: the address of its metrics, and the reader whose answers it checks."""

    audit_admin_bind: Address = variable("TIDEMARK_AUDIT_ADMIN_BIND", address, "127.0.0.1:9104")
    reader_url: str = variable("TIDEMARK_AUDIT_READER_URL", optional(url("http", "https")), "none")
    reader_token: str = variable("TIDEMARK_AUDIT_READER_TOKEN", optional(str), "none", secret=True)
