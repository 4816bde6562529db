"""The session state in OK packets, as MySQL documents it and as other servers may send it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from writer.session_track import SERVER_SESSION_STATE_CHANGED, own_gtids

GTID = b"aaaaaaaa-0000-0000-0000-000000000001:5"


def text(content: bytes) -> bytes:
    """A length-encoded string."""
    if len(content) < 251:
        return bytes([len(content)]) + content
    return b"\xfc" + len(content).to_bytes(2, "little") + content


def packet(*changes: tuple[int, bytes]) -> bytes:
    return text(b"") + text(b"".join(bytes([kind]) + text(content) for kind, content in changes))


def test_the_gtid_is_found_among_other_changes() -> None:
    schema = (1, text(b"tidemark"))
    rest = packet(schema, (3, b"\0" + text(GTID)), (0, text(b"autocommit") + text(b"ON")))
    assert own_gtids(rest, SERVER_SESSION_STATE_CHANGED) == GTID.decode()


def test_a_long_list_of_gtids_is_read_whole() -> None:
    many = b",".join([GTID] * 20)
    assert own_gtids(packet((3, b"\0" + text(many))), SERVER_SESSION_STATE_CHANGED) == many.decode()


def test_without_a_change_of_state_there_is_none() -> None:
    assert own_gtids(packet((3, b"\0" + text(GTID))), 0) == ""
    assert own_gtids(packet((1, text(b"tidemark"))), SERVER_SESSION_STATE_CHANGED) == ""


@given(st.binary(max_size=80))
def test_nonsense_is_no_gtid_and_no_error(rest: bytes) -> None:
    assert isinstance(own_gtids(rest, SERVER_SESSION_STATE_CHANGED), str)
