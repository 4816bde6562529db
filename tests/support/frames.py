"""WebSocket frames and handshakes as bytes (RFC 6455), so that a test can send wrong ones, or pieces."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

CONTINUATION, TEXT, CLOSE, PING, PONG = 0, 1, 8, 9, 10
SO_ATTACH_FILTER = 26


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bytes = b"mask",
    announced: int | None = None,
) -> bytes:
    """A client's frame. An empty `mask` leaves it unmasked; `announced` is the length that it claims."""
    size = len(payload) if announced is None else announced
    masked = 0x80 if mask else 0
    head = bytes([final << 7 | reserved << 4 | opcode])
    if size < 126:
        head += bytes([masked | size])
    elif size < 2**16:
        head += struct.pack("!BH", masked | 126, size)
    else:
        head += struct.pack("!BQ", masked | 127, size)
    return head + mask + bytes(byte ^ mask[at % 4] if mask else byte for at, byte in enumerate(payload))


def handshake(host: str, fields: Mapping[str, str], path: str = "/live") -> bytes:
    """A request for a WebSocket; `fields` replace those of the same name, an empty one leaves it out."""
    usual = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    lines = [f"{name}: {value}" for name, value in {**usual, **fields}.items() if value]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


class RawWebSocket:
    """A connection after a handshake with these fields; `status` and `headers` are those of the answer."""

    def __init__(self, url: str, fields: Mapping[str, str], path: str = "/live") -> None:
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname or "", where.port or 0), timeout=10)
        self.socket.sendall(handshake(where.netloc, fields, path))
        head, _, self._rest = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        self.head = head.decode("latin-1").lower()
        self.status = int(self.head.split()[1])

    def send(self, data: bytes) -> bool:
        """Whether the server still took it."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)
            return True
        return False

    def frames(self, seconds: float = 10) -> Iterator[tuple[int, bytes]]:
        """(opcode, payload) of each frame until the server ends the connection. Raises TimeoutError."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(ConnectionError):
            while first := self._exactly(2):
                size = first[1] & 127  # a server masks nothing
                if size > 125:
                    size = int.from_bytes(self._exactly({126: 2, 127: 8}[size]))
                yield first[0] & 15, self._exactly(size)

    def close_code(self, seconds: float = 10) -> int:
        """Of the server's close, when it has ended the connection; 1005: it had no code; 1006: none came."""
        codes = [payload[:2] for opcode, payload in self.frames(seconds) if opcode == CLOSE]
        if not codes:
            return 1006
        return int.from_bytes(codes[0]) if codes[0] else 1005

    def hang_up(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def _until(self, mark: bytes) -> bytes:
        found = b""
        while mark not in found:
            piece = self.socket.recv(65536)
            if not piece:
                break
            found += piece
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            piece = self.socket.recv(65536)
            if not piece:
                return b""
            self._rest += piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def vanish(end: socket.socket) -> None:
    """As if the machine of `end` had lost its network: it takes and acknowledges nothing any more (tcp(7)).

    A filter of the socket, one instruction of BPF, drops each segment that arrives.
    """
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # return 0 bytes
    end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop)))
