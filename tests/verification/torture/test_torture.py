"""Through any faults of the servers: all stores equal in the end, and no answer was older than its bound."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import redis

from binlog_projector.domain.changes import BinlogPosition, RowChange, Transaction
from reader.read_model.cached_values import encode_cursor
from tests.support.harness import admin_connection, run_sql, wait_until_caught_up
from tests.verification.torture import faults
from tests.verification.torture.__main__ import main
from tests.verification.torture.faults import FAULTS, Hindered, fail_over_mysql
from tests.verification.torture.history import Clock, History, Observed
from tests.verification.torture.judge import Answer, Judge
from tests.verification.torture.running import torture
from tests.verification.torture.screens import wrongs
from tests.verification.torture.system import System, running_system
from tests.verification.torture.watchers import Had, Left, Tide, Told
from tidemark.gtid import Gtid, GtidSet

CUT = pytest.mark.filterwarnings(  # the HTTP client leaves cut sockets to the garbage collector
    "ignore:unclosed <socket:ResourceWarning",
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
)
SOURCE = "aaaaaaaa-0000-0000-0000-000000000001"
MOMENT = datetime(2026, 1, 1)
USER = {"id": 1, "subject": "s0", "handle": "h", "display_name": "N", "bio": ""}
TIMES = {"created_at": MOMENT, "updated_at": MOMENT}


def row(**columns: object) -> dict[str, Any]:
    return {**columns, **TIMES}


def post(body: str, id: int = 1) -> dict[str, Any]:
    return row(id=id, author_id=1, body=body)


HOT = 1_767_225_600 + 1_693 * 8  # of MOMENT, with one like
LIKE = {"post_id": 1, "user_id": 1, "created_at": MOMENT, "post_author_id": 1}
LATER = datetime(2026, 1, 1, 0, 0, 1)
MENTION = {"id": 1, "author_id": 2, "post_id": 9, "comment_id": None, "created_at": LATER}
CHANGES = [
    RowChange("users", None, row(**USER)),
    RowChange("posts", None, post("first")),
    RowChange("posts", post("first"), post("second")),
    RowChange("likes", None, LIKE),
    RowChange("posts", post("second"), post("third #tag")),
    RowChange("likes", LIKE, None),
    RowChange("posts", None, post("another", 2)),
    RowChange("posts", post("another", 2), None),
    RowChange("posts", post("third #tag"), post("fourth #tag")),
    RowChange("users", row(**USER), row(**{**USER, "display_name": "M"})),
    RowChange("users", None, row(**{**USER, "id": 2, "subject": "t", "handle": "g"})),
    RowChange("follows", None, {"follower_id": 2, "followee_id": 1, "created_at": MOMENT}),
    RowChange("posts", None, post("last", 3)),
    RowChange("likes", None, LIKE),
    RowChange("likes", None, {**LIKE, "user_id": 2}),
    RowChange("notification_reads", None, {"user_id": 1, "until": MOMENT}),
    RowChange("mentions", None, {**MENTION, "user_id": 1}),
]


def gtids(number: int) -> GtidSet:
    return GtidSet.parse(f"{SOURCE}:1-{number}") if number else GtidSet({})


@pytest.fixture
def judge() -> Judge:
    """A judge of a history in which transaction n is committed by second n."""
    transactions = [
        Transaction(Gtid(SOURCE, number), 0, 0, (change,), BinlogPosition("", 0))
        for number, change in enumerate(CHANGES, start=1)
    ]
    history = History(transactions)
    return Judge(
        history,
        Clock(history, [Observed(second(number), gtids(number)) for number in range(len(CHANGES) + 1)]),
    )


def second(number: float) -> str:
    return f"2026-01-01T00:00:{number:09.6f}"


def shown(body: str, likes: int, **changes: object) -> dict[str, Any]:
    moment = "2026-01-01T00:00:00.000000Z"
    counts = {"like_count": likes, "comment_count": 0}
    author = {"id": "1", "handle": "h", "display_name": "N"}
    tags = ["tag"] if "#tag" in body else []
    times = {"created_at": moment, "updated_at": moment}
    return {"id": "1", "body": body, "hashtags": tags, **counts, **times, "author": author, **changes}


ME = {
    **{"id": "1", "handle": "h", "display_name": "N", "bio": ""},
    **{"post_count": 0, "follower_count": 0, "following_count": 0},
    **dict.fromkeys(TIMES, "2026-01-01T00:00:00.000000Z"),
}
M = {"id": "1", "handle": "h", "display_name": "M"}
FOURTH, LIKED = (shown("fourth #tag", likes, author=M) for likes in (0, 1))
LAST = shown("last", 0, id="3", author=M)
G = {"id": "2", "handle": "g", "display_name": "N"}
NOBODY = {"following": False, "followed_by": False}


def told(kind: str, at: float, post_id: str | None) -> dict[str, Any]:
    """A deed of user 2."""
    return {"kind": kind, "created_at": f"{second(at)}Z", "actor": G, "post_id": post_id, "comment_id": None}


def notified(*items: dict[str, Any], unread: int, **changes: object) -> dict[str, Any]:
    return {"items": [*items], "next": None, "unread_count": unread, **changes}


NOTIFICATIONS = "/user/me/notifications"
FOLLOW, LIKES, MENTIONS = told("follow", 0, None), told("like", 0, "1"), told("mention", 1, "9")
OF_FIRST = encode_cursor((LIKES["created_at"], 2, 2, 1))
ALLOWED = [
    Answer("/post/1", shown("second", 1), second(4)),
    Answer("/post/1", shown("second", 1), second(3)),  # fresher than its bound
    Answer("/post/1", shown("second", 1), second(2), token=gtids(4)),
    Answer("/post/1", None, second(1)),
    Answer("/user/1/posts", {"items": [shown("third #tag", 1)]}, second(5), received=second(6)),
    Answer("/hashtag/tag", {"items": [shown("third #tag", 0)]}, second(6)),
    Answer("/post/1/likes", {"items": []}, second(6)),
    Answer("/post/2", None, second(8)),
    Answer("/posts", {"items": [shown("third #tag", 0, id="1")]}, second(8), received=second(8)),
    Answer("/posts", {"items": []}, second(1)),
    Answer("/post/1?include=viewer", shown("second", 1, viewer={"liked": True}), second(4), subject="s0"),
    Answer("/posts?include=viewer", {"items": [shown("third #tag", 0, viewer={"liked": False})]}, second(8)),
    Answer("/user/1?include=viewer", {**ME, "viewer": NOBODY}, second(1), received=second(1)),
    Answer("/user/me", None, second(0), subject="s0"),
    Answer("/user/me", ME, second(1), received=second(1), subject="s0"),
    Answer("/user/by-handle/H", ME, second(1), received=second(1)),
    Answer("/user/by-handle/hh", None, second(5)),
    Answer("/feed", {"items": []}, second(9), subject="t"),
    Answer("/feed", {"items": [FOURTH]}, second(12), subject="t", received=second(12)),
    Answer("/feed", {"items": [LAST, LIKED]}, second(14), subject="t"),
    Answer("/feed?limit=1", {"items": [LAST], "next": "WzNd"}, second(14), subject="t"),
    Answer("/feed?limit=1&cursor=WzNd", {"items": [LIKED], "next": None}, second(14), subject="t"),
    Answer("/feed?order=hot", {"items": [LAST, FOURTH]}, second(13), subject="s0", received=second(13)),
    Answer("/feed?order=hot", {"items": [LIKED, LAST]}, second(14), subject="s0"),
    Answer(
        f"/feed?order=hot&cursor={encode_cursor((HOT, 1, 3))}", {"items": [LAST]}, second(14), subject="s0"
    ),
    Answer(
        f"/feed?order=hot&cursor={encode_cursor((HOT, 2, 2))}", {"items": [LIKED]}, second(14), subject="s0"
    ),
    Answer("/hashtag/tag?limit=1&cursor=WzFd", {"items": []}, second(14)),
    Answer(NOTIFICATIONS, notified(unread=0), second(14), subject="nobody"),
    Answer(NOTIFICATIONS, notified(FOLLOW, unread=1), second(14), subject="s0", received=second(14)),
    Answer(NOTIFICATIONS, notified(LIKES, FOLLOW, unread=0), second(16), subject="s0", received=second(16)),
    Answer(NOTIFICATIONS, notified(MENTIONS, LIKES, FOLLOW, unread=1), second(17), subject="s0"),
    Answer(f"{NOTIFICATIONS}?limit=1", notified(MENTIONS, unread=1, next="x"), second(17), subject="s0"),
    Answer(f"{NOTIFICATIONS}?cursor={OF_FIRST}", notified(FOLLOW, unread=1), second(17), subject="s0"),
]
FORBIDDEN = {
    "older than its bound": Answer("/post/1", shown("second", 0), second(4.1)),
    "a counter that is older than its bound": Answer("/post/1", shown("third #tag", 1), second(6.1)),
    "without what its token names": Answer("/post/1", shown("second", 0), second(3), token=gtids(4)),
    "something that never was": Answer("/post/1", shown("third #tag", 2), second(4)),
    "half of one state and half of another": Answer("/post/1", shown("first", 1), second(1)),
    "an author that never was": Answer("/post/1", shown("second", 1, author=None), second(4)),
    "what was written after it was received": Answer(
        "/post/1", shown("third #tag", 0), second(2), received=second(4)
    ),
    "absent although it was there": Answer("/post/1", None, second(2)),
    "there although it was deleted": Answer("/post/2", shown("another", 0, id="2"), second(8)),
    "a list without an item": Answer("/user/1/posts", {"items": []}, second(5)),
    "a list with an item too many": Answer("/post/1/likes", {"items": [shown("x", 0)]}, second(6)),
    "parts of two moments": Answer(
        "/post/1", shown("third #tag", 0, author={"id": "1", "handle": "h", "display_name": "M"}), second(8)
    ),
    "a like that is gone": Answer(
        "/post/1?include=viewer", shown("third #tag", 0, viewer={"liked": True}), second(6)
    ),
    "a follow that never was": Answer(
        "/user/1?include=viewer", {**ME, "viewer": {**NOBODY, "following": True}}, second(1)
    ),
    "a post too few of all": Answer("/posts", {"items": []}, second(2)),
    "another's profile": Answer("/user/me", {**ME, "id": "2"}, second(1), received=second(1), subject="s0"),
    "a handle that somebody has": Answer("/user/by-handle/h", None, second(1)),
    "a feed of somebody else": Answer("/feed", {"items": [LAST, LIKED]}, second(14), subject="nobody"),
    "a feed without a new followee": Answer("/feed", {"items": []}, second(12), subject="t"),
    "a feed with a post that its other parts had not yet": Answer(
        "/feed", {"items": [LAST, LIKED]}, second(13), subject="t", received=second(13)
    ),
    "a page that hides the next one": Answer("/feed?limit=1", {"items": [LAST]}, second(14), subject="t"),
    "a feed that leaves out followees": Answer(
        "/feed", {"items": [LAST, LIKED], "complete": False}, second(14), subject="t"
    ),
    "a ranked feed in another order": Answer(
        "/feed?order=hot", {"items": [LAST, LIKED]}, second(14), subject="s0"
    ),
    "a ranked page beyond its window": Answer(
        f"/feed?order=hot&cursor={encode_cursor((HOT, 2, 2))}",
        {"items": [LIKED, LAST]},
        second(14),
        subject="s0",
    ),
    "without a notification": Answer(NOTIFICATIONS, notified(FOLLOW, unread=1), second(15), subject="s0"),
    "unread although it was read": Answer(
        NOTIFICATIONS, notified(LIKES, FOLLOW, unread=2), second(16), subject="s0"
    ),
    "somebody else's notifications": Answer(NOTIFICATIONS, notified(FOLLOW, unread=1), second(14)),
    "a list that is older than its bound": Answer("/hashtag/tag", {"items": []}, second(5)),
}


@pytest.mark.parametrize("answer", ALLOWED, ids=str)
def test_the_judge_allows_what_mysql_said_recently_enough(judge: Judge, answer: Answer) -> None:
    assert judge.allows(answer)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_the_judge_refuses_an_answer_that_is(judge: Judge, name: str) -> None:
    assert judge.stale([*ALLOWED, FORBIDDEN[name]]) == [FORBIDDEN[name]]
    assert name not in ("older than its bound",) or judge.allows(replace(FORBIDDEN[name], as_of=second(3)))


def test_nobody_is_told_of_a_like_without_a_posts_author() -> None:
    """Regression, seed 26: without its foreign keys, `likes` takes a like of no post, whose author is 0."""
    change = RowChange("likes", None, {**LIKE, "user_id": 2, "post_author_id": 0})
    history = History([Transaction(Gtid(SOURCE, 1), 0, 0, (change,), BinlogPosition("", 0))])
    judge = Judge(history, Clock(history, [Observed(second(1), gtids(1))]))
    nothing = {"items": [], "unread_count": 0}
    assert judge.allows(Answer("/user/me/notifications", nothing, second(2), subject="nobody"))


def state(body: Any, as_of: float, received: float = 99, path: str = "/post/1") -> Answer:
    text = json.dumps(body) if body is not None else None
    return Answer(path, text, second(as_of), received=second(received))


def tide(as_of: float, received: float = 99) -> Tide:
    return Tide(second(as_of), second(received))


FIRST, SECOND, THIRD = shown("first", 0), shown("second", 0), shown("third #tag", 1)
TOLD: dict[str, tuple[str, list[Told]]] = {
    "every change": ("", [state(FIRST, 2), tide(2), state(SECOND, 3), state(THIRD, 5), tide(5)]),
    "some changes, and a tide behind a state": ("", [state(FIRST, 2), state(THIRD, 5), tide(4)]),
    "a state that it has": ("", [Had(state(SECOND, 3)), tide(3), state(THIRD, 5)]),
    "a read that it leaves": ("", [state(None, 6, path="/post/2"), Left("/post/2"), tide(7, 7)]),
    "a tide above a change that it was not told": ("missed", [state(SECOND, 3), tide(5)]),
    "a tide above what it has": ("missed", [Had(state(SECOND, 3)), tide(5)]),
    "of one read, but not of the other": (
        "missed",
        [state(shown("third #tag", 0), 6), state(None, 6, path="/post/2"), tide(7, 7)],
    ),
    "an earlier tide": ("backwards", [tide(5), tide(4)]),
    "a state before the tide": ("backwards", [tide(5), state(THIRD, 4)]),
    "an earlier state as of the same moment": (
        "backwards",
        [state(FOURTH, 3), state(None, 3, path="/post/3"), state(SECOND, 3)],
    ),
    "an earlier state": ("backwards", [state(THIRD, 5), state(THIRD, 4)]),
    "an old state": ("older_than_said", [state(FIRST, 3)]),
    "a state that never was": ("older_than_said", [state({**THIRD, "like_count": 5}, 2)]),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_judge_sees_what_is_wrong_for_a_watcher_who_is_told(judge: Judge, name: str) -> None:
    wrong, messages = TOLD[name]
    assert [one for one, _ in wrongs(judge, messages)] == ([wrong] if wrong else [])


@pytest.mark.server
@CUT
def test_a_hindered_fault_is_noted_and_the_outcome_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regression, seed 99173: another fault cut a FLUSHALL's connection, and no outcome was printed."""

    errors = iter(
        [redis.ConnectionError("cut by another fault")] * 2 + [AssertionError("waited for nothing")] * 2
    )

    def fault(system: System, chance: random.Random) -> str:
        raise next(errors)

    for name in FAULTS:
        monkeypatch.setitem(FAULTS, name, fault)
    monkeypatch.setattr(sys, "argv", ["torture", "--duration", "60"])
    assert main() == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sum(line["passed_over"].values()) == 2 and not line["faults"]
    assert line["error"] == "AssertionError: waited for nothing" and line["seed"] == 7


@pytest.mark.server
@CUT
def test_a_short_torture_leaves_everything_equal_and_every_answer_was_allowed() -> None:
    outcome = torture(16, seed=7)
    assert outcome.as_expected, outcome
    assert outcome.transactions > 100 and outcome.answers > 100 and outcome.faults.total() > 3, outcome
    assert outcome.audits > 0 and outcome.watched_states > 50 and outcome.tides > 20, outcome


@pytest.mark.server
@CUT
def test_a_failover_whose_replica_stops_is_given_up_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression, seed 26: a replica executed nothing for 200 s, which ended the torture and told nothing."""
    monkeypatch.setattr(faults, "CAUGHT_UP_SECONDS", 0)
    with running_system() as system:
        with pytest.raises(Hindered, match=r"the replica to catch up: .*'ON'"):
            fail_over_mysql(system, random.Random(7))
        with admin_connection(system.stack) as connection:
            run_sql(connection, "CREATE TABLE written (id INT)")
            wait_until_caught_up(system.stack, connection)
        system.assert_projectors_run()
