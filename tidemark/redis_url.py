"""The address of the cache: one Redis server, or the nodes from which a Redis or Valkey Cluster is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

CLUSTER = "+cluster"
SHARDS = 16  # of a cluster, if the URL names no other number
MOST_SHARDS = 256


@dataclass(frozen=True)
class RedisUrl:
    """`nodes`: a URL for each node that was named. `shards`: parts of the cache, 1 on a single server.

    `text` is the URL as it was given.
    """

    text: str = field(repr=False)  # it may have a password
    nodes: tuple[str, ...] = field(repr=False)
    shards: int = 1

    @property
    def cluster(self) -> bool:
        return self.shards > 1

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """`redis://user:password@host:port/0`, or `redis+cluster://user:password@host:port,host/?shards=16`.

        With TLS the scheme begins with `rediss`. Raises ValueError.
        """
        parts = urlsplit(text)
        scheme, plus, cluster = parts.scheme.partition("+")
        if scheme not in ("redis", "rediss") or plus + cluster not in ("", CLUSTER):
            raise ValueError("should be a URL that begins with redis://, rediss:// or redis+cluster://")
        account, at, hosts = parts.netloc.rpartition("@")
        if not parts.hostname:
            raise ValueError("should have a host")
        if not cluster:
            return cls(text, (text,))
        if parts.path not in ("", "/", "/0"):
            raise ValueError("should have no database: a cluster has number 0 alone")
        options = dict(parse_qsl(parts.query))
        count = _whole(options.pop("shards", str(SHARDS)))
        query = f"?{urlencode(options)}" if options else ""
        nodes = tuple(f"{scheme}://{account}{at}{host}/0{query}" for host in hosts.split(","))
        for node in nodes:
            _check_host(node)
        return cls(text, nodes, count)


def node_at(url: str, host: str, port: int) -> str:
    """The URL of another node, with the account and options of this one.

    A node that does not know its own host is where it was asked.
    """
    parts = urlsplit(url)
    account, at, _ = parts.netloc.rpartition("@")
    host = host or parts.hostname or ""
    named = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{account}{at}{named}:{port}"))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 2 <= int(text) <= MOST_SHARDS):
        raise ValueError(f"shards should be a whole number from 2 to {MOST_SHARDS}")
    return int(text)


def _check_host(node: str) -> None:
    parts = urlsplit(node)
    try:
        named = parts.hostname and (parts.port or True)
    except ValueError:
        named = None
    if not named:
        raise ValueError("should name each node as host or host:port, with commas between")
