"""The GTIDs of a session's own commit, from the part of the OK packet that PyMySQL leaves unread.

Layout: MySQL's source documentation, "OK_Packet" and "Session State Information" (OWN_GTID).
"""

from __future__ import annotations

from collections.abc import Iterator

SERVER_SESSION_STATE_CHANGED = 0x4000
SESSION_TRACK_GTIDS = 3
WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}  # of length-encoded integers, by their first byte


def own_gtids(rest: bytes, server_status: int) -> str:
    """GTIDs in MySQL's text form, from the bytes behind the packet's number of warnings.

    Empty if the packet has none or has an unknown form: the commit is done anyway.
    """
    if not server_status & SERVER_SESSION_STATE_CHANGED:
        return ""
    try:
        changes = _text(_text(rest)[1])[0]
        found = [
            _text(change[1:])[0].decode() for kind, change in _changes(changes) if kind == SESSION_TRACK_GTIDS
        ]
    except (IndexError, UnicodeDecodeError):
        return ""
    return ",".join(found)


def _changes(block: bytes) -> Iterator[tuple[int, bytes]]:
    while block:
        change, rest = _text(block[1:])
        yield block[0], change
        block = rest


def _text(block: bytes) -> tuple[bytes, bytes]:
    """A length-encoded string, and the bytes behind it."""
    width = WIDTHS.get(block[0], 0)
    length = int.from_bytes(block[1 : 1 + width], "little") if width else block[0]
    start = 1 + width
    return block[start : start + length], block[start + length :]
