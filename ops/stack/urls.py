"""Server addresses as URLs."""

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit


def with_account(admin_url: str, user: str, password: str, path: str, **query: str) -> str:
    """The URL of another account on the same server: same hosts and options, with `query` added to the options."""
    parts = urlsplit(admin_url)
    hosts = parts.netloc.rpartition("@")[2]
    options = urlencode({**dict(parse_qsl(parts.query)), **query}, safe="/")
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{hosts}"
    return urlunsplit((parts.scheme, netloc, path, options, ""))


def mysql_arguments(url: str) -> dict[str, Any]:
    """What `pymysql.connect` needs for `mysql://user:password@host:port/schema?ssl_ca=file`; no TLS without `ssl_ca`."""
    parts = urlsplit(url)
    arguments: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/") or None,
    }
    tls = {key: value for key, value in parse_qsl(parts.query) if key.startswith("ssl_")}
    return arguments | (tls or {"ssl_disabled": True})
