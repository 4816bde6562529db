"""uvicorn's WebSocket protocol that also bounds what a message of many fragments keeps in memory."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

MAX_MESSAGE_BYTES = 16 * 1024  # a token has at most 8 KiB
MAX_FRAGMENTS = 64


class SmallMessages(WebSocketsSansIOProtocol):
    """A value for `ws` in uvicorn's configuration."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["state"]["abort"] = self.transport.abort  # as StrictProtocol

    def handle_cont(self, event: Frame) -> None:
        """An empty fragment counts nothing against the size of its message, but takes memory."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)
