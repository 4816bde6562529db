"""The benchmark of feeds runs, tells every lane, and its judge knows a false page from a true one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from perf import measured
from perf.__main__ import main
from perf.feed import command, judging, people
from perf.feed.judging import Commit, History, Seen, State
from tidemark.gtid import GtidSet

PER_READ = {"rps", "p50_ms", "p99_ms", "cpu_us", "mongodb_operations_per_read", "redis_commands_per_read"}
SOURCE = "0f0e0d0c-0b0a-0908-0706-050403020100"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few people, and a second for each lane."""
    for name, value in {
        "AUTHORS": 500,
        "POSTS": 600,
        "COMMENTS": 50,
        "LIKES": 50,
        "LIKES_OF_A_CALLER": 5,
        "CALLERS": 4,
        "COLD_AUTHORS": 60,
        "FOLLOWERS": (2, 5),
    }.items():
        monkeypatch.setattr(people, name, value)
    monkeypatch.setattr(measured, "ROUNDS", 1)
    monkeypatch.setattr(command, "FILL_SECONDS", 1.0)
    monkeypatch.setattr(judging, "PAGES", 200)


def run(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["feed", "--json", "--seconds", "1", "--posts-per-s", "20", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.mark.server
@pytest.mark.usefixtures("tiny")
def test_a_tiny_run_has_every_lane_and_only_true_pages(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "--followees", "6")
    for lane in ("post", "list", "feed_6", "hot_6", "hashtag", "feed_6_viewer", "feed_6_cold_heads"):
        assert found[lane].keys() >= PER_READ and found[lane]["rps"] > 0, lane
    assert found["sql"]["rps"] > 0 and found["fanout"]["rps"] > 0
    assert [found["fanout"][f"post_{followers}_keys"] for followers in (2, 5)] == [3, 6]
    assert found["cold_6_ms"] > 0 and found["feed_6_cold_heads"]["max_rps"] > 0
    hot_list = found["hot_list_under_writes"]
    assert hot_list["batches"] > 0 and hot_list["mongodb_reads_per_batch"] < 5
    assert found["oracle_pages"] >= 200 and found["oracle_commits"] > 3
    assert found["oracle_mismatches"] == 0


@pytest.mark.long
@pytest.mark.server
@pytest.mark.usefixtures("tiny")
def test_a_celebritys_post_touches_few_keys(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "--followees", "3,6,12", "--celebrity", "30")
    assert found["feed_3"]["rps"] > 0 and found["feed_12"]["rps"] > 0 and found["cold_12_ms"] > 0
    celebrity = found["celebrity"]
    assert celebrity["fanout_keys"] == found["fanout"]["post_30_keys"] == 31
    assert 0 < celebrity["keys"] <= 4 and 0 < celebrity["few_keys"] <= 4
    assert celebrity["visible_ms"] > 0 and celebrity["fanout_visible_ms"] > 0


def gtids(first: int, last: int) -> GtidSet:
    return GtidSet.parse(f"{SOURCE}:{first}-{last}")


def commit(number: int, state: State) -> Commit:
    """Sent at `number` seconds, acknowledged half a second later."""
    return Commit(1, number, number + 0.5, "", gtids(number, number), state)


@pytest.fixture
def history() -> History:
    """User 1 has posted 10. User 2 follows 1 (commit 2), and 1 posts 11 (commit 3)."""
    found = History(commit(1, State({10: 1}, {})))
    found.commits.append(commit(2, State({10: 1}, {2: frozenset({1})})))
    found.commits.append(commit(3, State({10: 1, 11: 1}, {2: frozenset({1})})))
    return found


AFTER_THE_FOLLOW = Seen(2, None, 20, [(10, 1)], False, gtids(1, 2), 0.0, 9.0)


def test_a_page_with_a_moment_must_be_of_exactly_that_moment(history: History) -> None:
    assert history.is_true(AFTER_THE_FOLLOW)
    assert not history.is_true(replace(AFTER_THE_FOLLOW, moment=gtids(1, 3)))
    assert not history.is_true(replace(AFTER_THE_FOLLOW, moment=gtids(1, 1)))
    assert not history.is_true(replace(AFTER_THE_FOLLOW, more=True))


def test_a_page_older_than_its_readers_token_is_false(history: History) -> None:
    assert history.is_true(replace(AFTER_THE_FOLLOW, least=1))
    assert not history.is_true(replace(AFTER_THE_FOLLOW, least=2))


def test_a_plain_page_is_of_its_time_or_later(history: History) -> None:
    plain = replace(AFTER_THE_FOLLOW, moment=None)
    assert history.is_true(replace(plain, as_of=2.6, received=2.8))
    assert history.is_true(replace(plain, as_of=2.6, received=9.0))
    assert not history.is_true(replace(plain, as_of=3.6, received=9.0)), "commit 3 must be in"
    assert not history.is_true(replace(plain, as_of=1.6, received=1.8)), "commit 2 had not begun"


def test_a_page_begins_below_its_cursor(history: History) -> None:
    whole = Seen(2, None, 1, [(11, 1)], True, gtids(1, 3), 0.0, 9.0)
    assert history.is_true(whole)
    assert history.is_true(replace(whole, below=11, items=[(10, 1)], more=False))
    assert not history.is_true(replace(whole, below=11, items=[(11, 1)], more=False))
