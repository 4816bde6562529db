"""MySQL URLs: mysql://user:password@host:port/schema?ssl_ca=FILE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class MySqlUrl:
    """The parts of a URL, decoded; a missing part is an empty text. The option `ssl_ca` asks for TLS."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    schema: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> MySqlUrl:
        """Raises ValueError for a bad port."""
        parts = urlsplit(url)
        return cls(
            host=parts.hostname or "",
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            schema=unquote(parts.path.strip("/")),
            options=dict(parse_qsl(parts.query)),
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments that Python's MySQL drivers share, without TLS."""
        account = {"user": self.user, "password": self.password}
        return {"host": self.host, "port": self.port, **account, "database": self.schema or None}
