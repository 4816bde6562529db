"""The feed is a merge of cached heads, exactly the newest posts of the caller and of whom they follow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest

from ops.stack import Stack
from reader.asked import FeedQuery, Query
from reader.composing import Answer, compose
from reader.named import Position
from reader.paging import Page
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import (
    Entry,
    Watermark,
    decode,
    encode_absent,
    encode_cursor,
    encode_entity,
    encode_list,
    encode_page,
)
from reader.read_model.declarations import (
    HEAD,
    MAX_FOLLOWEES,
    POST,
    POSTS_BY_HASHTAG,
    USER,
    USER_FOLLOWEES,
    USER_POSTS,
    USERS_BY_SUBJECT,
)
from reader.read_model.scans import CachedList, time_text
from reader.view import View
from tests.reader.inside import Inside, inside, shown
from tests.reader.world import World

pytestmark = pytest.mark.anyio
MOMENT = Watermark(1, "1", 3, 1, "1", "", False, "2026", "")
ME = FeedQuery("subject-1", Page())
CHUNK = 255


@dataclass
class Facts:
    """The rows of MySQL: user 1 asks. Gives any part as MongoDB would."""

    authors: dict[int, int]  # post -> its author
    followees: list[int]  # the most recently followed first
    ranks: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # post -> second, likes, comments
    asked: list[WantedPage] = field(default_factory=list)

    def entry(self, wanted: Wanted | WantedPage) -> Entry:
        found = decode(self._value(wanted))
        assert found is not None
        return found

    def _value(self, wanted: Wanted | WantedPage) -> bytes:
        if isinstance(wanted, WantedPage):
            self.asked.append(wanted)
            ids = [id for id in self._posts({*map(int, wanted.values)}) if id < self.below(wanted.page)]
            shown = ids[: wanted.page.limit]
            return encode_page(1, shown, encode_cursor(shown[-1:]) if ids != shown else None)
        if isinstance(wanted.kind, CachedList):
            user = {USERS_BY_SUBJECT: [1], USER_FOLLOWEES: self.followees}.get(wanted.kind)
            ids = user if user is not None else self._posts({int(wanted.id)})
            shown = ids[: wanted.kind.limit]
            return encode_list(wanted.kind, 1, shown, encode_cursor(shown[-1:]) if ids != shown else None)
        if wanted.kind is USER:
            return encode_absent(1)
        fields: dict[str, object] = {
            "_id": wanted.id,
            "body": "",
            "hashtags": [],
            "v": 1,
            "author_id": self.authors[int(wanted.id)],
        }
        second, likes, comments = self.ranks.get(int(wanted.id), (0, 0, 0))
        counts = {"like_count": likes, "comment_count": comments}
        times = dict.fromkeys(("created_at", "updated_at"), time_text(second * 1_000_000))
        return encode_entity(POST, {**fields, **counts, **times})

    @staticmethod
    def below(page: Page) -> int:
        return int(page.after[0]) if page.after else 2**63

    def _posts(self, authors: set[int]) -> list[int]:
        return sorted((id for id, author in self.authors.items() if author in authors), reverse=True)

    def expected(self, page: Page) -> list[int]:
        """All of the feed behind the page's cursor."""
        found = self._posts({1, *self.followees[:MAX_FOLLOWEES]})
        return [id for id in found if id < self.below(page)]


def composed(facts: Facts, query: Query, *, blind: bool = False) -> Answer:
    view = View(MOMENT, None if blind else Position(0, 0), None)
    while (answer := compose(query, view)) is None:
        view.add({one.key: facts.entry(one) for one in view.missing.values()}, Origin.HIT)
    return answer


def random_facts(chance: Random) -> Facts:
    """A few users who write little, or so much that heads of 100 are cut."""
    users = range(1, chance.choice((3, 10, 60)))
    weights = [chance.choice((1, 1, 5, 200)) for _ in users]
    ids = chance.sample(range(1, 2_000), chance.choice((0, 5, 100, 600)))
    authors = dict(zip(ids, chance.choices(users, weights, k=len(ids)), strict=True))
    return Facts(authors, chance.sample(users, chance.randrange(len(users))))


@pytest.mark.parametrize("blind", [False, True], ids=["heads", "blind"])
def test_the_feed_of_any_world_is_its_newest_posts(blind: bool) -> None:
    pages = 0
    for seed in range(1_000):
        chance = Random(seed)
        facts = random_facts(chance)
        after = (chance.randrange(1, 2_100),) if chance.random() < 0.6 else None
        page = Page(chance.choice((1, 5, 20, 20, 100)), after)
        answer, expected = (
            shown(composed(facts, FeedQuery("subject-1", page), blind=blind)),
            facts.expected(page),
        )
        ids = [int(post["id"]) for post in answer["items"]]
        assert ids == expected[: page.limit], seed
        more = len(expected) > page.limit
        assert answer["next"] == (encode_cursor(ids[-1:]) if more else None), seed
        pages += len(facts.asked)
    assert pages == 1_000 if blind else 10 < pages < 300


def test_a_feed_from_former_heads_is_the_feed_of_new_ones() -> None:
    kept = 0
    for seed in range(200):
        chance = Random(seed)
        facts = random_facts(chance)
        entries: dict[str, Entry] = {}  # as a replica would hold them
        heads, gone = None, set[str]()
        for _ in range(8):
            view = View(MOMENT, Position(0, 0), None)
            view.parts, view.heads, view.gone = dict(entries), heads, gone
            while (answer := compose(ME, view)) is None:
                view.add({one.key: facts.entry(one) for one in view.missing.values()}, Origin.HIT)
            assert [int(post["id"]) for post in shown(answer)["items"]] == facts.expected(Page())[:20], seed
            assert view.heads is not None
            kept += heads is not None and heads.authors is view.heads.authors
            heads, gone = view.heads, set()
            entries = {key: entry for key, entry in view.parts.items() if not key.startswith("page ")}
            for _ in range(chance.randrange(4)):
                author = chance.choice([1, *facts.followees])
                if facts.authors and chance.random() < 0.4:
                    author = facts.authors.pop(chance.choice([*facts.authors]))
                else:
                    facts.authors[chance.choice([*{*range(1, 2_100)} - {*facts.authors}])] = author
                entries.pop(USER_POSTS.key(author), None)
                gone.add(USER_POSTS.key(author))
            entries = {key: entry for key, entry in entries.items() if not key.startswith("post:")}
            if chance.random() < 0.2:
                facts.followees = facts.followees[1:]
                entries.pop(USER_FOLLOWEES.key(1))
    assert 800 < kept < 1_400


def test_mongodb_is_asked_only_for_authors_whose_head_ends_above_the_page() -> None:
    """Author 2 wrote the newest 300 posts, and 3 the 300 before; 4 wrote two posts."""
    authors = {**dict.fromkeys(range(301, 601), 2), **dict.fromkeys(range(3, 301), 3), 1: 4, 2: 4}
    facts = Facts(authors, [2, 3, 4])
    for page, asked in (
        (Page(), None),
        (Page(99), None),
        (Page(100), (2,)),
        (Page(20, (522,)), None),
        (Page(20, (521,)), (2,)),
        (Page(20, (301,)), (2,)),  # nothing is left of author 2, but the head does not tell
        (Page(20, (200,)), (2, 3)),
    ):
        facts.asked.clear()
        answer = shown(composed(facts, FeedQuery("subject-1", page)))
        assert [int(post["id"]) for post in answer["items"]] == facts.expected(page)[: page.limit], page
        assert [one.values for one in facts.asked] == ([asked] if asked else []), page


def people(world: World, followees: range) -> None:
    """User 1 follows `followees`, the last one most recently. Each of them wrote one post."""
    with world.many():
        for id in (1, *followees):
            world.user(id)
        for id in followees:
            world.follow(1, id, second=id)
            world.post(100_000 - id, author_id=id, body="#sea")
    world.batch(2)


def ids(answer: Answer) -> list[int]:
    return [int(post["id"]) for post in shown(answer)["items"]]


def aggregates(reader: Inside) -> list[int]:
    """The lists that each `aggregate` command asked for."""
    return [len(one["pipeline"][0]["$documents"]) for one in reader.commands.sent if "aggregate" in one]


async def test_a_warm_feed_asks_neither_redis_nor_mongodb(shared_stack: Stack, world: World) -> None:
    people(world, range(2, 202))
    async with inside(shared_stack, local_bytes=2**24) as reader:
        first = await reader.ask(ME)
        assert ids(first) == list(range(99_998, 99_978, -1)) and first.origin is Origin.STORED
        reader.commands.sent.clear()
        asked = reader.counted("redis_commands")
        second = await reader.ask(ME)
        assert (second.body, second.origin) == (first.body, Origin.LOCAL)
        assert reader.counted("redis_commands") == asked and reader.commands.sent == []


async def test_a_cold_feed_of_a_thousand_fills_heads_by_the_chunk(shared_stack: Stack, world: World) -> None:
    """While MongoDB makes heads, others are answered."""
    people(world, range(2, 1_002))
    world.user(5_000)
    async with inside(shared_stack, local_bytes=2**24) as reader:
        feed = asyncio.create_task(reader.ask(ME))
        between = 0
        while not feed.done():
            reader.replica.drop(["user:5000"])
            await reader.read(USER, 5_000)
            between += 1
        assert ids(await feed) == list(range(99_998, 99_978, -1))
        assert sum(aggregates(reader)) == 1_001 and max(aggregates(reader)) <= CHUNK
        assert len(aggregates(reader)) == 4 and between > 4
    async with inside(shared_stack, local_bytes=2**24) as reader:
        assert (await reader.ask(ME)).origin is Origin.HIT  # Redis has all heads
        assert not reader.commands.sent


async def test_the_heads_of_many_authors_are_read_from_the_index_alone(
    shared_stack: Stack, world: World
) -> None:
    with world.many():
        for id in range(1, 1_001):
            world.post(id, author_id=id % 4)
    world.batch(2)
    async with inside(shared_stack) as reader:
        present = await reader.documents.present()
        values = await reader.documents.values(present, [Wanted(USER_POSTS, id) for id in range(5)])
        (command,) = [one for one in reader.commands.sent if "aggregate" in one]
    for id, value in enumerate(values.values()):
        head = decode(value)
        expected = list(range(1_000 - (4 - id) % 4, 0, -4)) if id < 4 else []
        assert head is not None and head.ids() == expected[:HEAD]
        assert head.head == (encode_cursor([expected[HEAD - 1]]).encode() if expected else b"")
    query = {name: command[name] for name in ("aggregate", "pipeline", "cursor")}
    stages = world.database.command("explain", query, verbosity="executionStats")["stages"]
    (lookup,) = [stage for stage in stages if "$lookup" in stage]
    assert lookup["totalDocsExamined"] == 0 and lookup["totalKeysExamined"] <= 4 * (HEAD + 1) + 5
    assert lookup["indexesUsed"] == ["author_id_1__id_-1"]


async def test_a_feed_of_more_than_five_thousand_says_that_it_is_not_complete(
    shared_stack: Stack, world: World
) -> None:
    """The one whom the caller followed first is left out."""
    people(world, range(2, 3 + MAX_FOLLOWEES))
    async with inside(shared_stack, local_bytes=2**25) as reader:
        answer = await reader.ask(ME)
        assert shown(answer)["complete"] is False and ids(answer)[0] == 99_997
        world.database["follows_b3"].delete_one({"_id.u": 3})
        world.batch(3, [USER_FOLLOWEES.key(1)])
        await reader.follows(world)
        answer = await reader.ask(ME)
        assert "complete" not in shown(answer) and ids(answer)[:2] == [99_998, 99_996]


@pytest.mark.parametrize("redis", [True, False], ids=["heads", "without redis"])
async def test_pages_behind_the_heads_are_exact(shared_stack: Stack, world: World, redis: bool) -> None:
    with world.many():
        for id in range(1, 6):
            world.user(id)
        for id in range(1, 401):
            world.post(id, author_id=2 if id > 120 else 1 + id % 5)
        for id in (2, 3, 4):
            world.follow(1, id)
    world.batch(2)
    expected = [id for id in range(400, 0, -1) if id > 120 or 1 + id % 5 < 5]
    url = "" if redis else "redis://127.0.0.1:1"
    async with inside(shared_stack, follow=redis, redis_url=url) as reader:
        for limit in (20, 100):
            found: list[int] = []
            page = Page(limit)
            while True:
                answer = await reader.ask(FeedQuery("subject-1", page))
                found += ids(answer)
                if answer.next_cursor is None:
                    break
                page = Page(limit, (found[-1],))
            assert found == expected


async def test_a_new_post_of_one_followee_costs_one_key(shared_stack: Stack, world: World) -> None:
    people(world, range(2, 302))
    async with inside(shared_stack, local_bytes=2**24) as reader:
        await reader.ask(ME)
        world.post(200_000, author_id=7)
        world.batch(3, [USER_POSTS.key(7), POST.key(200_000)])
        await reader.follows(world)
        reader.commands.sent.clear()
        assert ids(await reader.ask(ME))[:2] == [200_000, 99_998]
        assert reader.commands.collections() == ["control", "control", "posts_b3", "posts_b3"]


async def test_a_feed_that_a_message_overtakes_takes_all_else_from_the_replica(
    shared_stack: Stack, world: World
) -> None:
    """It holds its moment: a head is named while another one, which it lacks, is on its way."""
    people(world, range(2, 32))
    async with inside(shared_stack, local_bytes=2**24) as reader:
        before = await reader.ask(ME)
        reader.replica.drop([USER_POSTS.key(7)])
        reader.commands.sent.clear()
        async with reader.fetching.before_level.holding(reader.ask(ME)) as asking:
            world.post(200_000, author_id=9)
            world.batch(3, [USER_POSTS.key(9), POST.key(200_000), USER.key(9)])
            await reader.follows(world)
        answer = await asking
        assert (answer.moment.seq, answer.body) == (2, before.body)
        found = {kind: reader.requests("redis", kind, "hit") for kind in ("user_posts", "post", "user")}
        assert found == {"user_posts": 1, "post": 0, "user": 0}
        assert ids(await reader.ask(ME))[0] == 200_000


async def test_heads_of_the_feed_before_count_as_long_as_no_message_names_them(
    shared_stack: Stack, world: World
) -> None:
    """One is named before the next composition, and another one during it."""
    people(world, range(2, 32))
    async with inside(shared_stack, local_bytes=2**24) as reader:
        await reader.ask(ME)
        kept = await reader.ask(ME, path="the feed")
        world.post(200_000, author_id=7)
        world.batch(3, [USER_POSTS.key(7), POST.key(200_000), USER.key(7)])
        await reader.follows(world)
        async with reader.fetching.before_level.holding(reader.ask(ME, path="the feed")) as asking:
            world.post(300_000, author_id=9)
            world.batch(4, [USER_POSTS.key(9), POST.key(300_000), USER.key(9)])
            await reader.follows(world)
        answer = await asking
        assert (answer.moment.seq, ids(answer)) == (3, [200_000, *ids(kept)[:19]])
        assert ids(await reader.ask(ME, path="the feed"))[:2] == [300_000, 200_000]


async def test_a_caller_without_a_user_has_one_at_the_batch_that_makes_it(
    shared_stack: Stack, world: World
) -> None:
    world.post(5, author_id=1)
    world.batch(2)
    async with inside(shared_stack) as reader:
        assert ids(await reader.ask(ME)) == []
        assert (await reader.ask(ME)).origin is Origin.LOCAL
        world.user(1)
        world.batch(3, [USERS_BY_SUBJECT.key("subject-1"), USER.key(1)])
        await reader.follows(world)
        assert ids(await reader.ask(ME)) == [5]


def test_free_text_in_keys_is_hex() -> None:
    """A subject may contain what separates keys and lines."""
    for text in ("a:b", "a b\nc", "user:1", "ü"):
        for kind in (USERS_BY_SUBJECT, POSTS_BY_HASHTAG):
            name, _, rest = kind.key(text).partition(":")
            assert name == kind.name and bytes.fromhex(rest).decode() == text == kind.value(rest)
