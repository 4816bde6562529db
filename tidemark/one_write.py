"""uvicorn's HTTP protocol, but one write (one system call) sends head and body of an answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWriteProtocol(HttpToolsProtocol):
    """A value for `http` in uvicorn's configuration."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Gathering(transport, self.loop)))


class Gathering:
    """A transport that collects the pieces of one turn of the event loop, and writes them at once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def is_free(self) -> bool:
        """Whether all is sent, so that a piece can be written without waiting."""
        transport = self._transport
        return not (self._pieces or transport.get_write_buffer_size() or transport.is_closing())

    def write_now(self, piece: bytes) -> None:
        """Only while it `is_free`."""
        self._transport.write(piece)

    def write(self, piece: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(piece)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def chunk(body: bytes) -> bytes:
    """A part of an answer whose length is not known before (RFC 9112, 7.1), as uvicorn writes it."""
    return b"%x\r\n%s\r\n" % (len(body), body)
