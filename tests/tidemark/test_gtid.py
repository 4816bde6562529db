"""GTID sets behave as sets of numbers and use MySQL's text form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.gtid import EMPTY, Gtid, GtidSet

A, B = "aaaaaaaa-0000-0000-0000-000000000001", "bbbbbbbb-0000-0000-0000-000000000002"
members = st.sets(st.tuples(st.sampled_from([A, B]), st.integers(1, 30)))


def built(pairs: set[tuple[str, int]]) -> GtidSet:
    found = EMPTY
    for source, number in pairs:
        found = found.with_gtid(Gtid(source, number))
    return found


@given(members, members)
def test_sets_of_gtids_are_sets(one: set[tuple[str, int]], other: set[tuple[str, int]]) -> None:
    assert (built(one) >= built(other)) == (one >= other)
    assert built(one) | built(other) == built(one | other)
    assert built(one) - built(other) == built(one - other)
    assert all(
        (Gtid(source, number) in built(one)) == ((source, number) in one)
        for source in (A, B)
        for number in range(32)
    )


@given(members)
def test_text_and_back(pairs: set[tuple[str, int]]) -> None:
    assert GtidSet.parse(str(built(pairs))) == built(pairs)


@given(members, st.sampled_from([A, B]), st.integers(1, 30))
def test_taking_one_out_and_putting_it_back(pairs: set[tuple[str, int]], source: str, number: int) -> None:
    gtid = Gtid(source, number)
    assert gtid not in built(pairs).without_gtid(gtid)
    assert built(pairs).without_gtid(gtid).with_gtid(gtid) == built(pairs).with_gtid(gtid)


def test_the_servers_text_form_is_understood() -> None:
    text = f"{A.upper()}:1-3:5:8-9,\n{B}:7:blue:1-2"
    assert str(GtidSet.parse(text)) == f"{A}:1-3:5:8-9,{B}:7,{B}:blue:1-2"
    assert GtidSet.parse(text).last_of(A.upper()) == Gtid(A, 9)
    assert GtidSet.parse("") == EMPTY


@pytest.mark.parametrize("text", ["x", "x:1", f"{A}:0", f"{A}:3-2", f"{A}:1-x", f"{A}:1-2-3"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a GTID set"):
        GtidSet.parse(text)
