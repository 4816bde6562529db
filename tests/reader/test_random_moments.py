"""Random reads among random batches: every answer is the read model as of the moment that it names."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ops.stack import Stack
from reader.asked import EntityQuery, FeedQuery, HashtagQuery, HotQuery, ListQuery, Query
from reader.composing import Answer
from reader.paging import FIRST_PAGE, Page
from reader.ranking import hot
from reader.read_model.declarations import COMMENT, LISTINGS, POST, POSTS_BY_HASHTAG
from tests.reader.inside import Inside, inside, shown
from tests.reader.world import World, moment

pytestmark = pytest.mark.anyio
POSTS = next(listing for listing in LISTINGS if listing.path == "/user/{id}/posts")
COMMENTS = next(listing for listing in LISTINGS if listing.path == "/post/{id}/comments")
USERS, IDS = (1, 2, 3), range(1, 9)
LONG_AGO = "1.1"
READERS = 6
QUERIES: tuple[Query, ...] = (
    *(EntityQuery(kind, id) for kind in (POST, COMMENT) for id in (1, 2, 3)),
    *(ListQuery(POSTS, id, page) for id in USERS for page in (FIRST_PAGE, Page(100))),
    *(ListQuery(COMMENTS, id, page) for id in (1, 2) for page in (FIRST_PAGE, Page(100))),
    *(kind("subject-9", page) for kind in (FeedQuery, HotQuery) for page in (Page(), Page(3))),
    *(HashtagQuery("sea", page) for page in (Page(), Page(3))),
)


@dataclass
class State:
    """The content shown: names of users, and (author, text) of posts and comments by id."""

    names: dict[int, str] = field(default_factory=lambda: dict.fromkeys(USERS, "first"))
    posts: dict[int, tuple[int, str]] = field(default_factory=dict)
    likes: dict[int, int] = field(default_factory=dict)  # by post
    comments: dict[int, tuple[int, str]] = field(default_factory=dict)  # all odd ones on post 1, others on 2

    def copy(self) -> State:
        return State(dict(self.names), dict(self.posts), dict(self.likes), dict(self.comments))

    def item(self, of: dict[int, tuple[int, str]], id: int) -> Any:
        author, text = of[id]
        return str(id), text, self.names[author]

    def answer(self, query: Query) -> Any:
        """The content of an answer to `query`; None if there is no such document."""
        match query:
            case EntityQuery(entity, id):
                of = self.posts if entity is POST else self.comments
                return [self.item(of, id)] if id in of else None
            case ListQuery(listing, parent, page) if listing is POSTS:
                of, ids = self.posts, [id for id, (author, _) in self.posts.items() if author == parent]
            case ListQuery(_, parent, page):
                of, ids = self.comments, [id for id in self.comments if (id % 2 == 1) == (parent == 1)]
                if parent not in self.posts:
                    return None
            case FeedQuery(_, page):  # user 9 follows 1 and 2
                of, ids = self.posts, [id for id, (author, _) in self.posts.items() if author < 3]
            case HotQuery(_, page):
                ids = [id for id, (author, _) in self.posts.items() if author < 3]
                hottest = sorted(ids, key=lambda id: (hot(id, self.likes[id], 0), id), reverse=True)
                return [self.item(self.posts, id) for id in hottest[: page.limit]]
            case HashtagQuery(_, page):
                of, ids = self.posts, [id for id, (_, text) in self.posts.items() if "#sea" in text]
            case _:
                raise AssertionError(query)
        return [self.item(of, id) for id in sorted(ids, reverse=True)[: page.limit]]


def change(world: World, state: State, chance: random.Random, word: str) -> set[str]:
    """Change some documents, in `state` too. Returns the keys that a projector would name."""
    keys: set[str] = set()
    for _ in range(chance.randint(1, 4)):
        kind, id = chance.choice("uppcc"), chance.choice(IDS)
        if kind == "u":
            id = chance.choice(USERS)
            state.names[id] = word
            world.user(id, display_name=word)
            keys.add(f"user:{id}")
        elif kind == "p":
            author = id % 3 + 1
            keys |= {f"post:{id}", POSTS_BY_HASHTAG.key("sea")}
            if id in state.posts and chance.random() < 0.5:
                del state.posts[id]
                world.remove("posts", id)
                keys |= {f"user:{author}", f"user:{author}:posts"}
                continue
            if id not in state.posts:
                keys |= {f"user:{author}", f"user:{author}:posts"}
            text = chance.choice((word, f"{word} #sea"))
            state.posts[id], state.likes[id] = (author, text), chance.randrange(9)
            world.post(id, author, body=text, like_count=state.likes[id])  # each a second younger
        else:
            author, parent = chance.choice(USERS), 1 if id % 2 else 2
            keys |= {f"comment:{id}"}
            if id in state.comments:
                del state.comments[id]
                world.remove("comments", id)
            else:
                state.comments[id] = author, word
                times = {"created_at": moment(id), "updated_at": moment(id)}
                its = {"post_id": parent, "author_id": author, "body": word, **times, "v": 1}
                world.put("comments", {"_id": id, **its})
            keys |= {f"post:{parent}", f"post:{parent}:comments"}
    return keys


def told(answer: Answer) -> Any:
    body = shown(answer)
    if body is None:
        return None
    return [(one["id"], one["body"], one["author"]["display_name"]) for one in body.get("items", [body])]


async def read_on(reader: Inside, states: dict[int, State], chance: random.Random, batches: int) -> int:
    """Check answers until all batches are there. Nothing that one client reads goes back."""
    last = number = 0
    while last < batches:
        query = chance.choice(QUERIES)
        answer = await reader.ask(query)
        seq = answer.moment.seq
        assert told(answer) == states[seq].answer(query), (seq, query)
        assert seq >= last
        last, number = seq, number + 1
        await asyncio.sleep(chance.choice((0, 0, 0.001)))
    return number


@pytest.mark.parametrize("batches", [100, pytest.param(300, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("seed", "local_bytes", "cluster_times"),
    [(1, 2**20, True), (2, 6_000, True), (3, 0, True), (4, 2**20, False)],
    ids=["all fits", "little fits", "no replica", "times are gone"],
)
async def test_every_answer_is_what_its_moment_had(
    shared_stack: Stack, world: World, seed: int, local_bytes: int, cluster_times: bool, batches: int
) -> None:
    """One batch in ten is committed well before it reaches Redis."""
    chance, state = random.Random(seed), State()
    for id in (*USERS, 9):
        world.user(id, display_name="first")
    for id in (1, 2):
        world.follow(9, id)
    world.apply(world.commit(1))
    states = {1: state.copy()}

    def batch(seq: int) -> None:
        with world.transaction() as committed:
            keys = change(world, state, chance, f"at {seq}")
            checkpoint = world.commit(seq)
            states[seq] = state.copy()
        if chance.random() < 0.1:
            time.sleep(0.02)
        moment = committed() if cluster_times or chance.random() < 0.5 else LONG_AGO
        world.apply(replace(checkpoint, cluster_time=moment), sorted(keys))

    async with inside(shared_stack, local_bytes=local_bytes) as reader:
        clients = [
            asyncio.create_task(read_on(reader, states, random.Random(100 * seed + at), batches))
            for at in range(READERS)
        ]
        for seq in range(2, batches + 1):
            await asyncio.to_thread(batch, seq)
            await asyncio.sleep(chance.choice((0, 0.002, 0.01)))
        read = await asyncio.gather(*clients)
        assert sum(read) > 2 * batches
        assert reader.resets("broken") == 0
        counts = {layer: reader.requests(layer, "user", "hit") for layer in ("local", "redis", "mongo")}
        assert (counts["local"] > 0) == (local_bytes > 0)
        assert counts["redis"] > 0 and counts["mongo"] > 0
        assert (reader.counted("session_answers", reason="moved_on") > 0) == (not cluster_times)
        print(f"{sum(read)} answers of {len(states)} moments; {counts}")
