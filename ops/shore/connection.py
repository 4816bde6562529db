"""A kept connection to a service: a client library would take more processor time than the service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tidemark.settings import Address


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """HTTP/1.1, one request after another; for answers with a length, which all of ours are."""

    def __init__(self, where: Address) -> None:
        self._where = where

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._where.host, self._where.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(
        self, method: str, path: str, token: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answered:
        """Raises OSError, also if the service ends the connection."""
        given = {
            "host": str(self._where),
            "authorization": f"Bearer {token}",
            **(headers or {}),
            **({"content-type": "application/json", "content-length": str(len(body))} if body else {}),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            return await self._answer()
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the service ended the connection") from error

    async def _answer(self) -> Answered:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Answered(int(head[0].split()[1]), headers, body)
