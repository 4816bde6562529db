"""uvicorn's WebSocket protocol, with bounds for fragments; a client's faults are no errors."""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request

MAX_MESSAGE_BYTES = 16 * 1024  # a token has at most 8 KiB
MAX_FRAGMENTS = 64


class SmallMessages(WebSocketsSansIOProtocol):
    """A value for `ws` in uvicorn's configuration."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["state"]["transport"] = self.transport  # as StrictProtocol

    async def send(self, message: ASGISendEvent) -> None:
        """uvicorn would log two cases as errors of the application: a refusal does not end the handshake, and
        an answer that is under way comes after the close.
        """
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        self.handshake_complete |= self.close_sent

    def handle_cont(self, event: Frame) -> None:
        """An empty fragment counts nothing against the size of its message, but takes memory."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Bytes that are no text are the client's error: uvicorn would log them as ours, with a traceback."""
        try:
            if self.curr_msg_data_type == "text" and not self.close_sent:
                b"".join(self.frames).decode()
        except UnicodeDecodeError:
            self.conn.fail(CloseCode.INVALID_DATA, "not UTF-8")
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()


def text_frame(text: bytes) -> bytes:
    """A message of a server: it has no mask, so that it is the same for all clients (RFC 6455, 5.1)."""
    return Frame(Opcode.TEXT, text).serialize(mask=False)
