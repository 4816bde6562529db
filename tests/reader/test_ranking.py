"""The ranked feed: integers, monotone, and pages of one window."""

from __future__ import annotations

import math
from random import Random

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as some

from reader.asked import HotQuery
from reader.feed import HOTTEST_FIRST
from reader.paging import Page, decode_cursor
from reader.ranking import hot
from tests.reader.inside import shown
from tests.reader.test_feed import Facts, composed, random_facts
from tests.reader.world import World

COUNTS = some.integers(0, 2**40)
SECONDS = some.integers(-(2**36), 2**36)


@given(SECONDS, COUNTS, COUNTS)
def test_a_like_a_comment_and_a_second_never_cool_a_post(second: int, likes: int, comments: int) -> None:
    now = hot(second, likes, comments)
    assert hot(second + 1, likes, comments) == now + 1
    assert now <= hot(second, likes + 1, comments) <= hot(second, likes, comments + 1)
    assert isinstance(now, int)


@given(SECONDS, COUNTS, COUNTS)
def test_points_count_by_their_logarithm(second: int, likes: int, comments: int) -> None:
    """Never more, and less by one eighth and a straight line's distance (0.0861 of a doubling) at most."""
    gained = hot(second, likes, comments) - second
    exact = 8 * 1_693 * math.log2(1 + likes + 2 * comments)
    assert -0.01 <= exact - gained <= (1 + 8 * 0.0861) * 1_693


def test_a_damaged_counter_is_a_cold_post_and_no_error() -> None:
    assert hot(7, -5, -5) == hot(7, 0, 0) == 7


def ranked(chance: Random) -> Facts:
    facts = random_facts(chance)
    for id in facts.authors:
        points = chance.choice((1, 10, 1_000))
        facts.ranks[id] = chance.randrange(-9_000, 90_000), chance.randrange(points), chance.randrange(points)
    return facts


def hottest(facts: Facts) -> list[int]:
    return sorted(facts.expected(Page())[:100], key=lambda id: (hot(*facts.ranks[id]), id), reverse=True)


@pytest.mark.parametrize("blind", [False, True], ids=["heads", "blind"])
def test_pages_of_one_window_neither_repeat_nor_miss_a_post(blind: bool) -> None:
    """Posts that come meanwhile are newer than the window."""
    asked = 0
    for seed in range(120):
        chance = Random(seed)
        facts, found, page = ranked(chance), [], Page(chance.choice((1, 7, 20, 100)))
        expected = hottest(facts)
        while True:
            answer = composed(facts, HotQuery("subject-1", page), blind=blind)
            found += [int(post["id"]) for post in shown(answer)["items"]]
            if answer.next_cursor is None:
                break
            page = Page(page.limit, decode_cursor(answer.next_cursor, HOTTEST_FIRST))
            new = 10_000 + 100 * len(found)
            for id in range(new, new + chance.choice((0, 0, 1, 50))):
                facts.authors[id], facts.ranks[id] = 1, (0, 0, 0)
        assert found == expected, seed
        asked += len(facts.asked)
    assert asked > 0  # where one author's new posts push the window out of a head


def test_another_order_and_a_cursor_of_another_order_are_refused(api: httpx2.Client, world: World) -> None:
    world.user(1)
    for id in range(1, 4):
        world.post(id, like_count=10**id)
    world.batch(2)
    refused = api.get("/feed?order=new")
    assert (refused.status_code, refused.json()["field"]) == (400, "order")
    first = api.get("/feed?order=hot&limit=2")
    assert [post["id"] for post in first.json()["items"]] == ["3", "2"]
    second = api.get(first.headers["link"].split(">")[0].lstrip("<"))
    assert [post["id"] for post in second.json()["items"]] == ["1"] and second.json()["next"] is None
    for path in (f"/feed?cursor={first.json()['next']}", "/feed?order=hot&cursor=WzVd"):
        refused = api.get(path)
        assert (refused.status_code, refused.json()["field"]) == (400, "cursor"), path
