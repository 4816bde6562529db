"""Single entities over HTTP: bodies, freshness, provenance, versions, and rights."""

from __future__ import annotations

import httpx2
import pytest

from reader.read_model.cached_values import encode_absent, encode_entity
from reader.read_model.declarations import POST
from tests.reader.conftest import RunningReader, follows, hit
from tests.reader.world import World, moment, now
from tests.support.harness import wait_until


def test_a_post_is_answered_with_its_author_counts_and_hashtags(api: httpx2.Client, world: World) -> None:
    world.user(1, handle="jane", display_name="Jane")
    world.post(5, body="hello #Sea", like_count=3, comment_count=2)
    answer = api.get("/post/5")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "id": "5",
        "body": "hello #Sea",
        "hashtags": ["sea"],
        "like_count": 3,
        "comment_count": 2,
        "created_at": moment(5),
        "updated_at": moment(5),
        "author": {"id": "1", "handle": "jane", "display_name": "Jane"},
    }


def test_a_user_is_answered_with_counts_and_without_the_subject(api: httpx2.Client, world: World) -> None:
    world.user(2, bio="line\nbreak", follower_count=7)
    answer = api.get("/user/2").json()
    assert (answer["id"], answer["bio"], answer["follower_count"]) == ("2", "line\nbreak", 7)
    assert "subject" not in answer


def test_a_hit_has_the_bytes_and_the_version_of_the_first_read(api: httpx2.Client, world: World) -> None:
    world.user(1)
    world.post(5)
    first, second = api.get("/post/5"), hit(api, "/post/5")
    assert first.headers["cache-status"] == "redis; fwd=miss; stored"
    assert (first.content, first.headers["etag"]) == (second.content, second.headers["etag"])


def test_an_answer_is_as_fresh_as_its_moment(api: httpx2.Client, world: World) -> None:
    world.user(1)
    world.batch(2, as_of="2026-11-23T16:00:00.123999Z")
    world.commit(3, as_of="2026-11-23T16:00:07.987654Z")
    assert api.get("/user/1").headers["freshness"].startswith('as-of="2026-11-23T16:00:00.123Z"')
    world.cache.delete("tidemark:watermark")
    wait_until(lambda: not follows(api), "the reader to miss its watermark")
    assert api.get("/user/1").headers["freshness"].startswith('as-of="2026-11-23T16:00:07.987Z"')


def test_an_answer_says_that_a_transaction_is_in_parts(api: httpx2.Client, world: World) -> None:
    world.user(1)
    world.batch(2)
    assert "in-parts" not in api.get("/user/1").headers["freshness"]
    world.batch(3, open=True)
    assert api.get("/user/1").headers["freshness"].endswith(", in-parts")


def test_an_answer_beyond_the_staleness_limit_is_served_and_marked(api: httpx2.Client, world: World) -> None:
    world.user(1)
    world.batch(2, as_of=now())
    assert "stale" not in api.get("/user/1").headers["freshness"]
    world.batch(3, as_of="2026-01-01T00:00:00.000000Z")
    answer = api.get("/user/1")
    assert (answer.status_code, answer.headers["freshness"]) == (
        200,
        'as-of="2026-01-01T00:00:00.000Z", stale',
    )


def test_an_absence_says_how_fresh_it_is_and_is_remembered(api: httpx2.Client, world: World) -> None:
    for answer in (api.get("/post/5"), hit(api, "/post/5")):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["freshness"].startswith("as-of=")
    assert world.cached("post:5") == encode_absent(1)


@pytest.mark.parametrize(
    "id", ["0", "01", "-1", "x", "9223372036854775808", "1e3", "%31%00", "99999999999999999999"]
)
def test_a_bad_id_names_nothing(api: httpx2.Client, id: str) -> None:
    for path in (f"/post/{id}", f"/user/{id}", f"/post/{id}/comments"):
        assert api.get(path).status_code == 404


def test_the_greatest_id_can_be_asked_for(api: httpx2.Client, world: World) -> None:
    world.user(2**63 - 1)
    assert api.get(f"/user/{2**63 - 1}").status_code == 200


def test_a_stub_is_absent(api: httpx2.Client, world: World) -> None:
    world.put("posts", {"_id": 5, "like_count": 4, "comment_count": 0, "v": 1})
    world.put("users", {"_id": 6, "post_count": 1, "follower_count": 0, "following_count": 0, "v": 1})
    assert api.get("/post/5").status_code == 404
    assert api.get("/user/6").status_code == 404


def test_a_user_is_found_by_handle_in_any_case(api: httpx2.Client, world: World) -> None:
    world.user(1, handle="Jane_D")
    for handle in ("jane_d", "JANE_D", "Jane_D"):
        assert api.get(f"/user/by-handle/{handle}").json() == api.get("/user/1").json()
    hit(api, "/user/by-handle/janE_D")
    nobody = api.get("/user/by-handle/jane")
    assert (nobody.status_code, nobody.headers["freshness"][:6]) == (404, "as-of=")


@pytest.mark.parametrize(
    "handle", ["ab", "a" * 31, "jane-d", "jane%20d", "jan\u00eb", "\u212aelvin", "jane%0A"]
)
def test_no_store_is_asked_for_a_handle_that_nobody_can_choose(api: httpx2.Client, handle: str) -> None:
    answer = api.get(f"/user/by-handle/{handle}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "freshness" not in answer.headers


def test_the_version_of_a_handle_changes_with_its_user(api: httpx2.Client, world: World) -> None:
    """Two users change their handles in one batch."""
    tags: list[str] = []
    for first, second in (("jane", "joe"), ("joe", "jane")):
        world.user(1, handle=first, v=5)
        world.user(2, handle=second, v=5)
        world.batch(5 + len(tags), ["handle:6a616e65", "user:1", "user:2"])
        tags.append(api.get("/user/by-handle/jane").headers["etag"])
    assert tags == ['"4.7.1.5"', '"4.7.2.5"']


def test_a_caller_finds_their_own_user_or_how_to_make_one(api: httpx2.Client, world: World) -> None:
    for _ in range(2):
        answer = api.get("/user/me")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-user")
        assert "PUT /user/me" in answer.json()["detail"]
        assert answer.headers["freshness"].startswith("as-of=")
    world.user(1)
    world.user(2)
    world.batch(3, ["subject:" + b"subject-1".hex()])
    assert api.get("/user/me").json() == api.get("/user/1").json()
    hit(api, "/user/me")


def test_a_post_outlives_its_author(api: httpx2.Client, world: World) -> None:
    world.post(5, author_id=2)
    assert api.get("/post/5").json()["author"] is None


def test_the_version_names_epoch_model_and_every_part(api: httpx2.Client, world: World) -> None:
    world.user(1, v=11)
    world.post(5, v=22)
    world.batch(30)
    assert api.get("/post/5").headers["etag"] == '"4.7.22.11"'
    world.user(1, v=31, display_name="Renamed")
    world.batch(31, ["user:1"])
    answer = api.get("/post/5", headers={"if-none-match": '"4.7.22.11"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"4.7.22.31"')
    assert answer.json()["author"]["display_name"] == "Renamed"


@pytest.mark.parametrize("known", ["{tag}", 'W/{tag}, "other"', '"a,b", {tag}', "*"])
def test_a_version_that_the_client_knows_is_not_sent_again(
    api: httpx2.Client, world: World, known: str
) -> None:
    world.user(1)
    tag = api.get("/user/1").headers["etag"]
    answer = hit(api, "/user/1", headers={"if-none-match": known.format(tag=tag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert answer.headers["freshness"].startswith("as-of=")


@pytest.mark.parametrize("known", ['"other"', "1.7:1", '"', ""])
def test_another_version_is_sent_whole(api: httpx2.Client, world: World, known: str) -> None:
    world.user(1)
    assert api.get("/user/1", headers={"if-none-match": known}).status_code == 200


def test_an_absent_document_has_no_version_to_match(api: httpx2.Client) -> None:
    assert api.get("/user/1", headers={"if-none-match": "*"}).status_code == 404


def test_answers_are_for_one_caller_and_always_revalidated(api: httpx2.Client, world: World) -> None:
    world.user(1)
    for path in ("/user/1", "/user/2", "/feed"):
        headers = api.get(path).headers
        assert headers["cache-control"] == "private, no-cache"
        assert "Authorization" in headers["vary"].split(", ")


def test_head_is_get_without_the_body(api: httpx2.Client, world: World) -> None:
    world.user(1)
    got, head = api.get("/user/1"), api.head("/user/1")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["etag"] == got.headers["etag"]


def test_reading_needs_a_token_with_the_scope_read(running_reader: RunningReader, world: World) -> None:
    with running_reader.anonymous() as nobody, running_reader.client(scope="write") as writer:
        assert nobody.get("/post/5").status_code == 401
        assert writer.get("/post/5").status_code == 403
        assert writer.post("/post/5").status_code == 405


def test_a_path_with_a_slash_too_many_is_not_found(api: httpx2.Client, world: World) -> None:
    world.user(1)
    world.post(5)
    outside = {"host": "pub.example", "x-forwarded-proto": "https"}
    for path in ("/post/5", "/user/1", "/post/5/comments", "/feed", "/hashtag/sea", "/openapi.json"):
        assert api.get(path, headers=outside).status_code == 200
        answer = api.get(f"{path}/", headers=outside)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-path")
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/post/7", "post"), ("/post/x", "post"), ("/user/7/posts", "user"), ("/user/by-handle/joe", "user")],
)
def test_a_missing_thing_is_named(api: httpx2.Client, path: str, kind: str) -> None:
    answer = api.get(path)
    assert (answer.json()["type"], answer.json()["detail"]) == (
        "/problems/not-found",
        f"There is no such {kind}.",
    )


def test_the_openapi_document_is_public(running_reader: RunningReader) -> None:
    with running_reader.anonymous() as nobody:
        assert nobody.get("/openapi.json").json()["openapi"] == "3.1.0"


def test_lookups_fills_requests_and_decisions_are_counted(
    api: httpx2.Client, running_reader: RunningReader, world: World
) -> None:
    names = (
        'tidemark_cache_requests_total{entity="comment",layer="redis",result="',
        'tidemark_cache_requests_total{entity="post",layer="redis",result="hit"}',
        'tidemark_cache_requests_total{entity="post",layer="redis",result="miss"}',
        'tidemark_cache_requests_total{entity="post",layer="mongo",result="hit"}',
        'tidemark_cache_requests_total{entity="user",layer="mongo",result="absent"}',
        'tidemark_cache_fills_total{entity="post",result="stored"}',
        "tidemark_http_request_duration_seconds_count"
        '{code="200",method="GET",route="/post/{id}",service="reader"}',
        'tidemark_authorizer_decisions_total{result="allow"',
        "tidemark_freshness_bound_seconds_count",
    )
    before = running_reader.metrics(*names)
    world.post(5)
    api.get("/post/5")
    api.get("/post/5")
    grown = [new - old for new, old in zip(running_reader.metrics(*names), before, strict=True)]
    assert grown == [0, 1, 1, 1, 1, 1, 2, 2, 2]


def test_the_json_of_a_cached_entity_is_not_touched(api: httpx2.Client, world: World) -> None:
    post = world.post(5, body='quotes " and \\ and \u2028 and \U0001f30a')
    world.user(1)
    world.put_cached("post:5", encode_entity(POST, post))
    assert api.get("/post/5").json()["body"] == post["body"]
