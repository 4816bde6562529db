"""Shards of the cache, and the URLs that name a cluster."""

import pytest
from redis.crc import key_slot

from reader.read_model.cached_values import TIDE_CHANNEL, WATERMARK_KEY, cache_key
from reader.read_model.control import Serving
from reader.read_model.shards import SINGLE, SLOTS, owners, shard_number, shards
from tidemark.redis_url import RedisUrl, node_at


def test_all_names_of_a_shard_lie_in_its_slot() -> None:
    for one in shards(16):
        names = [one.watermark_key, one.channel, one.cache_key("17", "post:1")]
        assert {key_slot(name.encode()) for name in names} == {one.slot}


@pytest.mark.parametrize("count", [2, 3, 16, 256])
def test_slots_are_spread_evenly_over_the_cluster(count: int) -> None:
    assert [one.slot * count // SLOTS for one in shards(count)] == list(range(count))


def test_another_number_of_shards_has_other_names() -> None:
    eight, sixteen = ({one.prefix for one in shards(count)} for count in (8, 16))
    assert eight.isdisjoint(sixteen)


def test_a_single_server_keeps_its_names() -> None:
    assert shards(1) == (SINGLE,)
    assert (SINGLE.watermark_key, SINGLE.channel) == (WATERMARK_KEY, TIDE_CHANNEL)
    assert SINGLE.cache_key("17", "post:1") == cache_key("17", "post:1")
    assert shard_number("post:1", 1) == 0


def test_keys_are_spread_evenly_over_shards() -> None:
    found = [shard_number(f"post:{id}", 16) for id in range(16_000)]
    assert all(800 < found.count(number) < 1_200 for number in range(16))


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    text = "redis+cluster://reader:pw@one:7000,two/?shards=8&health_check_interval=2"
    assert RedisUrl.parse(text) == RedisUrl(
        text,
        (
            "redis://reader:pw@one:7000/0?health_check_interval=2",
            "redis://reader:pw@two/0?health_check_interval=2",
        ),
        8,
    )
    assert RedisUrl.parse("rediss+cluster://one:7000").shards == 16
    assert RedisUrl.parse("rediss+cluster://one:7000").nodes == ("rediss://one:7000/0",)


def test_a_single_server_is_one_shard() -> None:
    text = "redis://reader:pw@one:6379/3"
    assert RedisUrl.parse(text) == RedisUrl(text, (text,), 1)


@pytest.mark.parametrize(
    ("text", "should"),
    [
        ("http://one", "begins with"),
        ("redis+sentinel://one", "begins with"),
        ("redis://", "a host"),
        ("redis+cluster://one:7000,/", "each node"),
        ("redis+cluster://one:x/", "each node"),
        ("redis+cluster://one/3", "no database"),
        ("redis+cluster://one/?shards=1", "from 2 to 256"),
        ("redis+cluster://one/?shards=many", "from 2 to 256"),
    ],
)
def test_a_wrong_address_is_said(text: str, should: str) -> None:
    with pytest.raises(ValueError, match=should):
        RedisUrl.parse(text)


@pytest.mark.parametrize(
    ("host", "netloc"), [("two", "two:7001"), ("", "one:7001"), ("2001:db8::2", "[2001:db8::2]:7001")]
)
def test_another_node_has_the_account_and_the_options_of_the_one_asked(host: str, netloc: str) -> None:
    url = "rediss://reader:p%40@one:7000/0?ssl_ca_certs=/a"
    assert node_at(url, host, 7001) == f"rediss://reader:p%40@{netloc}/0?ssl_ca_certs=/a"


def test_the_reply_to_cluster_slots_tells_the_node_of_each_shard() -> None:
    """A node that does not know its own address leaves it out."""
    one, two, three = shards(3)
    reply = [
        [0, 5_460, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.4", 7003, b"id", []]],
        [two.slot, two.slot, [None, 7001, b"id", []]],
    ]
    assert owners(reply, [one, two, three]) == {0: ("10.0.0.1", 7000), 1: ("", 7001)}


def test_epochs_of_another_number_of_shards_are_nobodys() -> None:
    single, cluster = Serving(1, "7-a"), Serving(1, "7-b", ("7-b", "7-c"))
    assert (single.epoch_of(0, 1), cluster.epoch_of(1, 2)) == ("7-a", "7-c")
    assert single.epoch_of(0, 2) == cluster.epoch_of(0, 1) == cluster.epoch_of(0, 3) == ""
    for one in (single, cluster):
        assert Serving.decode(one.encode()) == one
