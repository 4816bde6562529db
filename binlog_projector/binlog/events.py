"""Events of the binlog: their types, and the places of their fields."""

from __future__ import annotations

import struct
import uuid
from functools import lru_cache

from binlog_projector.errors import UnsupportedEvent

QUERY, ROTATE, XID, TABLE_MAP, WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS, GTID = 2, 4, 16, 19, 30, 31, 32, 33
STOP, FORMAT_DESCRIPTION, HEARTBEAT, IGNORABLE, ROWS_QUERY, PREVIOUS_GTIDS, HEARTBEAT_2 = (
    3,
    15,
    27,
    28,
    29,
    35,
    41,
)
ANONYMOUS_GTID, TAGGED_GTID = 34, 42
BEGINNINGS, OF_FILES = (GTID, ANONYMOUS_GTID, TAGGED_GTID), (ROTATE, FORMAT_DESCRIPTION)
HARMLESS = (STOP, HEARTBEAT, IGNORABLE, ROWS_QUERY, PREVIOUS_GTIDS, HEARTBEAT_2)
INTVAR, RAND, USER_VAR, APPEND_BLOCK, BEGIN_LOAD, EXECUTE_LOAD, XA_PREPARE, PAYLOAD = (
    5,
    13,
    14,
    9,
    17,
    18,
    38,
    40,
)
FOR_A_STATEMENT = (INTVAR, RAND, USER_VAR, APPEND_BLOCK, BEGIN_LOAD)  # the statement follows, and is judged
OTHER_ROWS = {23: "WRITE_ROWS_V1", 24: "UPDATE_ROWS_V1", 25: "DELETE_ROWS_V1", 39: "PARTIAL_UPDATE_ROWS"}
EVENT_NAMES = {**OTHER_ROWS, 26: "INCIDENT", 34: "ANONYMOUS_GTID", 42: "GTID_TAGGED_LOG"}
REMEDIES = {
    26: "events were lost on the source; look into its error log",
    34: "set gtid_mode=ON",
    39: "set binlog_row_value_options='' for every session",
    42: "do not use tagged GTIDs",
}
BODY, DEFINITION, CHECKSUM = 19, 25, -4  # places in an event; a definition begins behind the table id
CRC32 = 1  # the kind of checksum
GTID_BODY = struct.Struct("<x16sQB16xQ")  # UUID, number, kind of times, commit time in the low seven bytes
VERSION = slice(2, 52)  # in the body of a FORMAT_DESCRIPTION
QUERY_BODY = struct.Struct("<8xB2xH")  # lengths of the schema and of the status variables
LOAD_SIZE = 13  # behind those lengths: the file, and the place of its name in the statement
ROWS_BODY = struct.Struct("<6s2xH")  # table id, length of the extra bytes before the number of columns
HAS_TIMES = 2
NEWER = "it cannot be projected truthfully; look whether a newer projector knows it"
SEVEN_BYTES, ORIGINAL_FOLLOWS = (1 << 55) - 1, 1 << 55


def gtid_fields(event: bytes) -> tuple[bytes, int, int, int]:
    """A GTID event's source (16 bytes), number, original and immediate commit time (microseconds)."""
    source, number, times, immediate = GTID_BODY.unpack_from(event, BODY)
    if times != HAS_TIMES:
        raise UnsupportedEvent("a GTID event has no commit timestamps; MySQL 8.0 or newer is needed")
    original = immediate
    if immediate & ORIGINAL_FOLLOWS:
        original = int.from_bytes(event[BODY + GTID_BODY.size - 1 :][:7], "little")
    return source, number, original & SEVEN_BYTES, immediate & SEVEN_BYTES


@lru_cache(maxsize=64)
def source_id(raw: bytes) -> str:
    """A source's UUID as text."""
    return str(uuid.UUID(bytes=raw))


def query_fields(event: bytes) -> tuple[bytes, bytes, bytes]:
    """A QUERY event's default schema, status variables and text."""
    schema_length, status_length = QUERY_BODY.unpack_from(event, BODY)
    status_at = BODY + QUERY_BODY.size
    schema_at = status_at + status_length
    text_at = schema_at + schema_length
    return event[schema_at:text_at], event[status_at:schema_at], event[text_at + 1 : CHECKSUM]


def query_of_load(event: bytes) -> bytes:
    """An EXECUTE_LOAD_QUERY event as a QUERY event, without the fields of the file."""
    at = BODY + QUERY_BODY.size
    return event[:at] + event[at + LOAD_SIZE :]


def has_checksums(description: bytes) -> bool:
    """Whether a file's events have CRC32 checksums: the last byte of its FORMAT_DESCRIPTION."""
    return description[CHECKSUM - 1] == CRC32


def server_version(description: bytes) -> bytes:
    return description[BODY + VERSION.start : BODY + VERSION.stop]


def next_file(event: bytes) -> tuple[str, int]:
    """The file and the offset that a ROTATE event names."""
    return event[BODY + 8 : CHECKSUM].decode(), int.from_bytes(event[BODY : BODY + 8], "little")


def unsupported(kind: int) -> str:
    name = EVENT_NAMES.get(kind, "unknown")
    return f"event of type {kind} ({name}): {REMEDIES.get(kind, NEWER)}, then run `rebuild`"
