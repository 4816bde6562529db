"""The binlog as raw events: mysql-replication asks for the dump, then the socket is read in large pieces.

MySQL's "Client/Server Protocol" describes packets, "Binary Log Event" the 19 bytes of an event's header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

from pymysql.err import raise_mysql_exception
from pymysqlreplication import BinLogStreamReader

from binlog_projector.errors import CorruptEvent, SourceUnavailable
from tidemark.gtid import GtidSet

HEARTBEAT_SECONDS = 1
PIECE = 1 << 18
LENGTH_SIZE, STATUS_SIZE = 4, 1  # before an event: three bytes of length and a sequence number, then OK
EVENT_AT = LENGTH_SIZE + STATUS_SIZE
LONGEST = 0xFFFFFF  # a packet of this length continues in the next one
OK, ERROR = 0, 0xFF
HEADER = struct.Struct("<IB4xB8xI2x")  # length, status, event type, end position
HEADER_SIZE = HEADER.size
DAMAGED = (
    "the binlog is damaged, or was on its way; look at the file with `mysqlbinlog --verify-binlog-checksum`: "
    "if it is sound, start the projector again, else run `rebuild`"
)
RESIDUE = 0x2144DF1C  # the CRC32 of any bytes that end with their own CRC32

Event = tuple[int, int, bytes]  # type, end in the file, and the event with header and checksum


def connect_reader(
    connect: Callable[..., Any], connection: dict[str, Any], server_id: int, uuid: str, gtid_set: GtidSet
) -> Any:
    """A connection on which the source dumps all transactions that `gtid_set` lacks."""
    reader = BinLogStreamReader(
        connection_settings=connection,
        pymysql_wrapper=connect,
        server_id=server_id,
        slave_uuid=uuid,
        report_slave={"hostname": "tidemark", "username": "", "password": "", "port": 0},
        auto_position=str(gtid_set) or "00000000-0000-0000-0000-000000000001:1",
        blocking=True,
        slave_heartbeat=HEARTBEAT_SECONDS,
        enable_logging=False,
    )
    reader._BinLogStreamReader__connect_to_stream()
    stream = reader._stream_connection
    stream._sock.settimeout(stream._read_timeout)  # PyMySQL has set the write timeout last
    return stream


class Packets:
    """Events as the server sends them, with verified checksums."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        """`connect` gives a connection with a requested dump; it is called at the first read."""
        self.connect = connect
        self.connection: Any = None
        self.held: list[bytes] = []  # the first bytes of a packet
        self.missing = 0  # at least so many bytes of the packet

    def read(self) -> Iterator[Event]:
        """The events of the next piece. Raises SourceUnavailable, CorruptEvent, OSError, MySQLError."""
        if self.connection is None:
            self.connection = self.connect()
        piece = self.connection._rfile.read1(PIECE)
        if not piece:
            raise SourceUnavailable("the source closed the binlog stream")
        self.held.append(piece)
        self.missing -= len(piece)
        return self._events(b"".join(self.held)) if self.missing <= 0 else iter(())

    def close(self) -> None:
        if self.connection is not None and self.connection.open:
            self.connection.close()

    def _events(self, received: bytes) -> Iterator[Event]:
        at, size = 0, len(received)
        last = size - HEADER_SIZE
        while at <= last:
            length, status, kind, position = HEADER.unpack_from(received, at)
            length &= LONGEST
            end = at + LENGTH_SIZE + length
            if status or end > size:
                break
            event = received[at + EVENT_AT : end]
            if length == LONGEST:
                event, end = _joined(received, at)
                if not event:
                    break
            if crc32(event) != RESIDUE:
                raise CorruptEvent(f"event of type {kind}: its CRC32 is wrong; {DAMAGED}")
            yield kind, position, event
            at = end
        rest = received[at:]
        self.held, self.missing = [rest], _missing(rest)
        _demand_no_end(rest)


def _joined(received: bytes, at: int) -> tuple[bytes, int]:
    """An event of several packets, and their end; empty until the last packet has arrived."""
    parts, length = [], LONGEST
    while length == LONGEST:
        length = int.from_bytes(received[at : at + 3], "little")
        parts.append(received[at + LENGTH_SIZE : at + LENGTH_SIZE + length])
        at += LENGTH_SIZE + length
        if at > len(received) or (length == LONGEST and at == len(received)):
            return b"", 0
    return b"".join(parts)[STATUS_SIZE:], at


def _missing(rest: bytes) -> int:
    """The number of bytes that the last packet in `rest` lacks, if its length has arrived."""
    at, length = 0, LONGEST
    while length == LONGEST and at + LENGTH_SIZE <= len(rest):
        length = int.from_bytes(rest[at : at + 3], "little")
        at += LENGTH_SIZE + length
    return at - len(rest)


def _demand_no_end(rest: bytes) -> None:
    """Raises an error for a packet that is no event: the server ends the stream, or reports an error."""
    length = int.from_bytes(rest[:3], "little")
    if len(rest) <= LENGTH_SIZE or len(rest) < LENGTH_SIZE + length:
        return
    if rest[LENGTH_SIZE] == ERROR:
        raise_mysql_exception(rest[LENGTH_SIZE:])
    if rest[LENGTH_SIZE] != OK:
        raise SourceUnavailable(
            "the source ended the binlog stream (it shuts down, or another reader has our id)"
        )
