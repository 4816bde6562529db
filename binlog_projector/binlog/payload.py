"""A compressed transaction: one event that contains all events behind the GTID, without checksums.

MySQL's source documents the layout (mysql::binlog::event::Transaction_payload_event): fields of type, length
and value, a type of 0, then the compressed events. They are unpacked in pieces: a transaction has any size.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from binlog_projector.binlog.packets import PIECE, Event
from binlog_projector.binlog.table_map import Cursor
from binlog_projector.errors import UnsupportedEvent

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEADER = struct.Struct("<4xB4xI6x")  # event type, length
CHECKSUM_SIZE = 4
END, COMPRESSION, ZSTD = 0, 2, b"\0"
REMEDY = "set binlog_transaction_compression=OFF for every session, then run `rebuild`"


def unpacked(event: bytes) -> Iterator[Iterator[Event]]:
    """The events in a TRANSACTION_PAYLOAD event, piece by piece. Raises UnsupportedEvent."""
    cursor = Cursor(event, HEADER.size)
    fields = {kind: cursor.text() for kind in iter(cursor.number, END)}
    if fields.get(COMPRESSION) != ZSTD:
        raise UnsupportedEvent(f"a transaction is compressed, and not by zstd; {REMEDY}")
    held, missing = [b""], 0  # the first bytes of an event, and the number of bytes it lacks
    for piece in _decompressed(memoryview(event)[cursor.at : -CHECKSUM_SIZE]):
        held.append(piece)
        missing -= len(piece)
        if missing <= 0:
            events, rest = _split(b"".join(held))
            length = HEADER.unpack_from(rest)[1] if len(rest) >= HEADER.size else 0
            held, missing = [rest], length - len(rest)
            yield iter(events)
    if any(held):
        raise UnsupportedEvent(f"a compressed transaction ends inside an event; {REMEDY}")


def _decompressed(packed: memoryview) -> Iterator[bytes]:
    decompressor, at = zstd.ZstdDecompressor(), 0
    try:
        while not decompressor.eof:
            more = packed[at : at + PIECE] if decompressor.needs_input else b""
            at += len(more)
            piece = decompressor.decompress(more, PIECE)
            if not (piece or more or decompressor.eof):
                break
            yield piece
    except zstd.ZstdError as error:
        raise UnsupportedEvent(f"a compressed transaction cannot be unpacked: {error}; {REMEDY}") from error
    if not decompressor.eof or decompressor.unused_data or at < len(packed):
        raise UnsupportedEvent(f"a compressed transaction does not end where its event does; {REMEDY}")


def _split(received: bytes) -> tuple[list[Event], bytes]:
    """The complete events in `received`, with zeros for their checksums, and the remaining bytes."""
    events, at = [], 0
    while at + HEADER.size <= len(received):
        kind, length = HEADER.unpack_from(received, at)
        if at + length > len(received):
            break
        events.append((kind, 0, received[at : at + length] + bytes(CHECKSUM_SIZE)))
        at += max(length, HEADER.size)
    return events, received[at:]
