"""The writer's settings, read once from TIDEMARK_* variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidemark import api_pages
from tidemark.consistency_token import ConsistencyKeys
from tidemark.settings import Address, address, origins, url, variable, whole_number


@dataclass(frozen=True)
class WriterSettings:
    """The settings of `serve`."""

    mysql_url: str = variable("TIDEMARK_WRITER_MYSQL_URL", url("mysql"), secret=True)
    consistency_keys: ConsistencyKeys = variable(
        "TIDEMARK_CONSISTENCY_SECRET", ConsistencyKeys.parse, secret=True
    )
    bind: Address = variable("TIDEMARK_WRITER_BIND", address, "127.0.0.1:8001")
    admin_bind: Address = variable("TIDEMARK_WRITER_ADMIN_BIND", address, "127.0.0.1:9101")
    allowed_origins: tuple[str, ...] = variable("TIDEMARK_WRITER_ALLOWED_ORIGINS", origins, "")
    api_pages: Path | None = variable("TIDEMARK_API_PAGES", api_pages.folder, "none")
    commands_per_minute: int = variable(
        "TIDEMARK_WRITER_COMMANDS_PER_MINUTE", whole_number(0, 1_000_000), "0"
    )
    pool_size: int = variable("TIDEMARK_WRITER_POOL_SIZE", whole_number(1, 256), "8")


@dataclass(frozen=True)
class MigratorSettings:
    """The settings of `migrate`: an account that may change tables."""

    mysql_url: str = variable("TIDEMARK_MIGRATOR_MYSQL_URL", url("mysql"), secret=True)
