"""The reader's settings: addresses, URLs, secrets, and limits of time and of reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidemark import api_pages
from tidemark.consistency_token import ConsistencyKeys
from tidemark.redis_url import RedisUrl
from tidemark.settings import Address, address, origins, url, variable, whole_number


@dataclass(frozen=True)
class ReaderSettings:
    mongodb_url: str = variable("TIDEMARK_READER_MONGODB_URL", url("mongodb", "mongodb+srv"), secret=True)
    redis_url: RedisUrl = variable("TIDEMARK_READER_REDIS_URL", RedisUrl.parse, secret=True)
    consistency_keys: ConsistencyKeys = variable(
        "TIDEMARK_CONSISTENCY_SECRET", ConsistencyKeys.parse, secret=True
    )
    bind: Address = variable("TIDEMARK_READER_BIND", address, "127.0.0.1:8002")
    admin_bind: Address = variable("TIDEMARK_READER_ADMIN_BIND", address, "127.0.0.1:9102")
    allowed_origins: tuple[str, ...] = variable("TIDEMARK_READER_ALLOWED_ORIGINS", origins, "")
    api_pages: Path | None = variable("TIDEMARK_API_PAGES", api_pages.folder, "none")
    mongodb_reads: int = variable("TIDEMARK_READER_MONGODB_READS", whole_number(1, 1000), "64")
    local_mib: int = variable("TIDEMARK_READER_LOCAL_MIB", whole_number(0, 65_536), "64")
    max_staleness_seconds: int = variable("TIDEMARK_MAX_STALENESS_SECONDS", whole_number(1, 86_400), "30")
    max_wait_seconds: int = variable("TIDEMARK_READER_MAX_WAIT_SECONDS", whole_number(0, 60), "2")
    max_waiters: int = variable("TIDEMARK_READER_MAX_WAITERS", whole_number(0, 100_000), "1000")
    live_connections: int = variable("TIDEMARK_READER_LIVE_CONNECTIONS", whole_number(0, 1_000_000), "10000")
    live_per_subject: int = variable("TIDEMARK_READER_LIVE_PER_SUBJECT", whole_number(1, 1_000_000), "20")
    live_watches: int = variable("TIDEMARK_READER_LIVE_WATCHES", whole_number(1, 10_000), "100")
