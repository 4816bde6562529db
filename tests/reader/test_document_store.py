"""Reads of MongoDB: snapshots, from the primary, by an index, and within the limit of simultaneous reads."""

from __future__ import annotations

import asyncio

import pytest

from ops.stack import Stack
from reader.document_store import DocumentStore
from reader.errors import DocumentsUnavailable, ReadModelMissing
from reader.paging import Page, decode_cursor
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import decode
from reader.read_model.declarations import (
    ENTITIES,
    EVERYBODY_POSTS,
    LISTINGS,
    LISTS,
    POSTS_BY_HASHTAG,
    USER,
    USER_LIKED,
    USER_POSTS,
)
from reader.read_model.notifications import NOTIFICATIONS, Source
from reader.read_model.scans import ROWS
from tests.reader.inside import inside
from tests.reader.world import World, moment

pytestmark = pytest.mark.anyio
OF_A_DRIVER = ("lsid", "$clusterTime", "$db", "readConcern", "$readPreference", "maxTimeMS", "txnNumber")


def populate(world: World) -> None:
    with world.many():
        for id in range(1, 330):
            world.user(id)
            world.follow(1, 1000 + id, id)
            world.follow(1000 + id, 1, id)
            world.post(id, author_id=1 if id % 2 else 1000 + id, body="#sea")
            world.comment(id, 1, author_id=1 + id % 2, told=1 if id % 2 else None)
            world.like(1, id, id, told=1)
            world.mention(1, id)


VALUES = {"subject": "subject-1", "handle": "user_1", "hashtag": "sea", "everybody": ""}


async def all_reads(store: DocumentStore) -> None:
    """Make every read that the store offers, of first pages and later ones."""
    present = await store.present()
    for entity in ENTITIES.values():
        await store.values(present, [Wanted(entity, id) for id in (1, 2, 3)])
    for listing in LISTINGS:
        first = decode(await store.page(present, WantedPage(listing, [1], Page())))
        assert first is not None
        assert first.ids(), listing.path
        behind = decode_cursor(first.head.decode(), listing.order)
        await store.page(present, WantedPage(listing, [1], Page(5, behind)))
    for one in (one for one in LISTS if not isinstance(one, Source)):
        await store.values(present, [Wanted(one, VALUES.get(one.name, 1))])
    for page in (Page(), Page(5, (moment(200), 2, 1, 1))):
        await store.values(present, [WantedPage(NOTIFICATIONS, [1], page)])
    for page in (Page(), Page(5, (200,))):
        await store.page(present, WantedPage(POSTS_BY_HASHTAG, ["sea"], page))
        await store.page(present, WantedPage(EVERYBODY_POSTS, [""], page))
        await store.page(present, WantedPage(USER_POSTS, [1, 1002, 1004], page))
    for page in (Page(), Page(5, (2,))):
        await store.page(present, WantedPage(USER_LIKED, [1], page))


async def test_every_query_is_answered_by_an_index_in_its_order(shared_stack: Stack, world: World) -> None:
    populate(world)
    older = world.batch(5).watermark(world.epoch)
    world.commit(6)
    async with inside(shared_stack, reads=8) as reader:
        await reader.documents.at(older)
        await all_reads(reader.documents)
        sent = reader.commands.sent
    assert {command["find"] for command in sent} == {
        *("control", "users_b3", "posts_b3", "comments_b3", "likes_b3", "follows_b3", "mentions_b3"),
        "notification_reads_b3",
    }
    for command in sent:
        assert command["readConcern"]["level"] == "snapshot"
        assert command.get("$readPreference", {"mode": "primary"})["mode"] == "primary"
        query = {name: value for name, value in command.items() if name not in OF_A_DRIVER}
        explained = world.database.command("explain", query, verbosity="executionStats")
        plan, ran = str(explained["queryPlanner"]["winningPlan"]), explained["executionStats"]
        assert "COLLSCAN" not in plan, query
        assert "'stage': 'SORT'" not in plan, query
        assert "IXSCAN" in plan or "IDHACK" in plan, query
        assert ("'indexName': '_id_'" not in plan) or query["filter"].keys() <= {"_id", *ROWS}, query
        if command["find"] in ("likes_b3", "follows_b3", "mentions_b3"):
            assert "CLUSTERED_IXSCAN" in plan or ran["totalDocsExamined"] == 0, query
            examined = max(ran["totalDocsExamined"], ran["totalKeysExamined"])
            assert ran["nReturned"] <= examined <= ran["nReturned"] + 1, query


async def test_all_reads_of_an_answer_name_one_cluster_time(shared_stack: Stack, world: World) -> None:
    populate(world)
    checkpoint = world.batch(5)
    async with inside(shared_stack) as reader:
        await reader.read(LISTINGS[0], 1, Page(100))
        held = {str(command["readConcern"].get("atClusterTime")) for command in reader.commands.sent}
        assert len(reader.commands.sent) > 4
        reader.commands.sent.clear()
        await reader.documents.at(checkpoint.watermark("7"))
        await all_reads(reader.documents)
        times = [command["readConcern"].get("atClusterTime") for command in reader.commands.sent]
    seconds, increment = checkpoint.cluster_time.split(".")
    assert held == {f"Timestamp({seconds}, {increment})"}
    assert times[1] is None
    assert len(set(times[2:])) == 1


async def test_without_a_serving_build_the_read_model_is_missing(shared_stack: Stack, world: World) -> None:
    world.database["control"].delete_many({})
    async with inside(shared_stack) as reader:
        with pytest.raises(ReadModelMissing, match="projector"):
            await reader.documents.present()
        world.commit(1)
        assert (await reader.documents.present()).proof.seq == 1


async def test_a_new_build_is_read_from_its_first_checkpoint_on(shared_stack: Stack, world: World) -> None:
    world.user(1, v=1)
    async with inside(shared_stack) as reader:
        assert (await reader.documents.present()).proof.build == 3
        world.begin_build(4, "9")
        world.user(1, v=50)
        world.set_watermark(world.commit(50))
        await reader.follows(world)
        answer = await reader.read(USER, 1)
        assert (answer.version, answer.moment.build, answer.origin) == ("4.9.50", 4, Origin.STORED)
    world.clear_build(4)


async def test_a_change_between_checkpoint_and_document_is_not_seen(
    shared_stack: Stack, world: World
) -> None:
    world.user(1, v=1)
    world.batch(1, as_of=moment(1))
    world.cache.delete("tidemark:watermark")
    async with inside(shared_stack, follow=False) as reader:
        async with reader.documents.before_values.holding(reader.read(USER, 1)) as reading:
            world.user(1, v=2)
            world.commit(2, as_of=moment(2))
        answer = await reading
        assert (answer.version, answer.moment.as_of) == ("4.7.1", moment(1))
        assert (await reader.read(USER, 1)).version == "4.7.2"


async def test_no_more_reads_than_allowed_are_under_way(shared_stack: Stack, world: World) -> None:
    for id in range(1, 5):
        world.user(id)
    async with inside(shared_stack, reads=2) as reader:
        await reader.documents.present()
        shared_stack.mongodb.pause()
        try:
            moments = [asyncio.create_task(reader.documents.present()) for _ in range(3)]
            done, waiting = await asyncio.wait(moments, timeout=1.5)
            assert (len(done), len(waiting)) == (1, 2)
            with pytest.raises(DocumentsUnavailable, match="all 2 reads"):
                await done.pop()
        finally:
            shared_stack.mongodb.resume()
        for moment in await asyncio.gather(*waiting):
            assert moment.proof.seq == 1
        assert len(await asyncio.gather(*(reader.documents.present() for _ in range(50)))) == 50
