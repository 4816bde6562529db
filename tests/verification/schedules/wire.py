"""A connection to Redis that sends words and reads replies, without the rest of redis-py's work."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import hiredis
import redis
from redis.connection import parse_url

from tests.verification.schedules.scheduler import DEADLINE_SECONDS

BYTES_AT_ONCE = 65_536


class Wire:
    """Speaks RESP3, so that pushes come between replies."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        self._socket = socket.create_connection((options["host"], options["port"]), DEADLINE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._come = hiredis.Reader(replyError=redis.connection.DefaultParser.parse_error)
        *_, greeting = self.call(["HELLO", "3", "AUTH", options["username"], options["password"]])
        assert not isinstance(greeting, Exception), greeting

    def call(self, words: Sequence[bytes | str]) -> list[Any]:
        """The pushes that came before the answer, and the answer. An error is an answer, too."""
        self._socket.sendall(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]
        items = [self._next()]
        while is_message(items[-1]):
            items.append(self._next())
        return items

    def close(self) -> None:
        self._socket.close()

    def _next(self) -> Any:
        while (item := self._come.gets()) is False:
            self._come.feed(self._socket.recv(BYTES_AT_ONCE))
        return item


def is_message(item: Any) -> bool:
    return isinstance(item, hiredis.PushNotification) and item[0] == b"smessage"
