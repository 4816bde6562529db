"""The projector's benchmarks check their results, and their table goes to its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ops.stack import Stack
from perf.__main__ import main
from perf.dataset import load_posts
from perf.projector import growth, plain_bulk
from perf.projector.backlog import Backlog, executed
from perf.projector.everything import fill
from perf.projector.peers.run import table
from perf.projector.performance import PAGE, read_place
from perf.projector.projecting import counters_are_exact, projecting
from perf.projector.workload import add_single_rows, add_updates, posts_of_lanes
from reader.read_model.control import CONTROL, SERVING_ID
from reader.read_model.declarations import COLLECTIONS
from tests.support.harness import admin_connection, rows
from writer.migrate import migrate


def test_every_update_finds_its_post_however_chance_has_shared_them_out(stack: Stack) -> None:
    url = stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
    migrate(stack.environment()["TIDEMARK_MIGRATOR_MYSQL_URL"])
    load_posts(url, 0, 7)
    add_single_rows(stack, 60, 7)
    posts = posts_of_lanes(url)
    with admin_connection(stack) as connection:
        assert posts < rows(connection, "SELECT COUNT(*) FROM posts")[0][0], "one lane got more"
    start = executed(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"])
    add_updates(url, 200, 7, posts)
    assert Backlog(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"], start, 200).count() == 200


def test_counters_are_exact_only_if_every_one_of_them_is(stack: Stack) -> None:
    migrate(stack.environment()["TIDEMARK_MIGRATOR_MYSQL_URL"])
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        url = stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        load_posts(url, 0, 7)
        with projecting(stack) as running:
            running.wait_until_caught_up()
            add_single_rows(stack, 500, 7)
            running.wait_until_caught_up()
        assert counters_are_exact(stack)
        database = client["tidemark"]
        serving = database[CONTROL].find_one({"_id": SERVING_ID})
        assert serving is not None
        posts, likes = (database[COLLECTIONS[name].in_build(serving["build"])] for name in ("posts", "likes"))
        posts.update_one({"_id": 1}, {"$inc": {"like_count": 1}})
        assert not counters_are_exact(stack)
        posts.update_one({"_id": 1}, {"$inc": {"like_count": -1}})
        assert counters_are_exact(stack)
        likes.delete_one({})
        assert not counters_are_exact(stack)


@pytest.mark.server
@pytest.mark.parametrize(
    ("command", "size", "ours", "peers"),
    [
        ("project", "--transactions", "ours_rows_per_s", ("plain_bulk", "plain_bulk_same_layout")),
        ("snapshot", "--rows", "rows_per_s", ("copy_floor",)),
    ],
)
def test_ours_stands_next_to_the_simplest_code(
    command: str,
    size: str,
    ours: str,
    peers: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"perf.projector.{command}.ROUNDS", 1)
    assert main([command, "--json", size, "1000"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["counters_exact"] is True and found[size.removeprefix("--")] == 1000
    for peer in peers:
        assert found[f"ours_to_{peer}"] == round(found[ours] / found[f"{peer}_rows_per_s"], 3) > 0


def test_the_same_layout_is_that_of_the_build(stack: Stack) -> None:
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        client.drop_database("plain")
        built, plain = client["tidemark"]["edges"], client["plain"]
        client["tidemark"].create_collection("edges", clusteredIndex={"key": {"_id": 1}, "unique": True})
        built.create_index([("_id.u", 1), ("_id.t", -1)])
        plain_bulk.create_like(built, plain, "likes")
        assert plain["likes"].options() == built.options()
        assert plain["likes"].index_information() == built.index_information()


def test_the_table_replaces_only_its_own_place_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / PAGE.name
    page.write_text("before\n<!-- python -m perf all -->\nold\n<!-- end -->\nafter\n")
    found = {"project": {"ours_to_plain_bulk": 1.5, "ours_rows_per_s": 12345, "counters_exact": True}}
    fill(page, found, {"processor": "2 cores"})
    assert page.read_text().splitlines() == [
        "before",
        "<!-- python -m perf all -->",
        "| command | ratio | value |",
        "| --- | --- | ---: |",
        "| `perf project` | `ours_to_plain_bulk` | 1.5 |",
        "",
        "| command | figure | value |",
        "| --- | --- | ---: |",
        "| `perf project` | `ours_rows_per_s` | 12,345 |",
        "| `perf project` | `counters_exact` | True |",
        "",
        "Measured on processor: 2 cores.",
        "<!-- end -->",
        "after",
    ]


def test_figures_without_a_place_are_told_and_the_page_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / PAGE.name
    page.write_text("no place\n")
    fill(page, {"project": {"counters_exact": True}}, {"processor": "2 cores"})
    assert page.read_text() == "no place\n"
    assert f"{page} has 0 places for `python -m perf all`" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["all", "stages", "growth", "peers"])
def test_the_page_has_a_place_for_each_table(command: str) -> None:
    assert "Measured on" in read_place(PAGE, command)


@pytest.mark.long
@pytest.mark.server
def test_one_binlog_is_streamed_for_each_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / PAGE.name
    page.write_text("<!-- python -m perf growth -->\n<!-- end -->\n")
    monkeypatch.setattr(growth, "PAGE", page)
    monkeypatch.setattr(growth, "SIZES", (500,))
    monkeypatch.setattr(growth, "SHORT_RUNS", 0)
    assert main(["growth", "--json", "--rows", "2000", "--cache-gb", "0.25", "1"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() == {"0.25 GB", "1 GB"}
    for figures in found.values():
        assert figures["counters_exact"] is True and figures["likes_bytes"] > 0
        ratio = figures["rows_per_s_at_2000"] / figures["rows_per_s_at_500"]
        assert figures["ratio_at_2000"] == round(ratio, 3) > 0
    assert "| figure | 0.25 GB | 1 GB |" in page.read_text()


def test_each_lane_has_a_line_for_each_backlog() -> None:
    ours, debezium = (
        {"decode_rows_per_s": 124_412, "cpu_s": 3.7},
        {"decode_rows_per_s": 21_079, "cpu_s": 16.7},
    )
    ratio = {"decode_rows_per_s": 5.902, "cpu_s": 0.222}
    found = {
        f"{prefix}{who}": figures
        for prefix in ("", "many_rows_", "updates_")
        for who, figures in {"ours": ours, "debezium": debezium, "ratio": ratio}.items()
    }
    assert table(found).splitlines() == [
        "| transactions | who | `decode_rows_per_s` | `cpu_s` |",
        "| --- | --- | ---: | ---: |",
        "| one row each | ours | 124,412 | 3.7 |",
        "| one row each | debezium | 21,079 | 16.7 |",
        "| one row each | ratio | 5.902 | 0.222 |",
        "| 50 rows each | ours | 124,412 | 3.7 |",
        "| 50 rows each | debezium | 21,079 | 16.7 |",
        "| 50 rows each | ratio | 5.902 | 0.222 |",
        "| updates of one row | ours | 124,412 | 3.7 |",
        "| updates of one row | debezium | 21,079 | 16.7 |",
        "| updates of one row | ratio | 5.902 | 0.222 |",
    ]
