"""Server addresses as URLs."""

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tidemark.mysql_url import MySqlUrl


def with_account(admin_url: str, user: str, password: str, path: str, **query: str) -> str:
    """The URL of another account on the same server, with `query` added to the options."""
    parts = urlsplit(admin_url)
    hosts = parts.netloc.rpartition("@")[2]
    options = urlencode({**dict(parse_qsl(parts.query)), **query}, safe="/")
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{hosts}"
    return urlunsplit((parts.scheme, netloc, path, options, ""))


def mysql_arguments(url: str) -> dict[str, Any]:
    """Arguments of `pymysql.connect` for a MySQL URL; no TLS without `ssl_ca`."""
    server = MySqlUrl.parse(url)
    tls: dict[str, Any] = {key: value for key, value in server.options.items() if key.startswith("ssl_")}
    return server.arguments() | (tls or {"ssl_disabled": True})
