"""The endpoints: from a request to a query."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from authorizer_lambda.middleware import CLAIMS
from reader.answering import respond
from reader.asked import (
    EntityQuery,
    EverybodyQuery,
    FeedQuery,
    HashtagQuery,
    HotQuery,
    ListQuery,
    NotificationsQuery,
    Plain,
    Query,
    UserQuery,
    ViewedQuery,
)
from reader.errors import NOTHING, no_such, not_found
from reader.feed import HOTTEST_FIRST
from reader.live.sse import stream, wants_stream
from reader.live.watch import Watched
from reader.paging import Page, query_of, requested_page
from reader.read_model.declarations import NEWEST_FIRST, USER, USERS_BY_HANDLE, USERS_BY_SUBJECT, VIEWED
from reader.read_model.entities import Entity, Listing
from reader.read_model.notifications import CURSOR
from reader.read_model.scans import Order
from tidemark.handles import HANDLE
from tidemark.hashtags import canonical
from tidemark.ids import ID, MAX_ID
from tidemark.problem import Problem, fault, together

NO_PROFILE = "unknown-user", "You have no profile yet: create it with PUT /user/me."
VIEWER, HOT = b"include=viewer", b"order=hot"
KEPT = frozenset({b"", VIEWER, HOT})  # query strings of which answers are kept ready
NOT_WATCHED = frozenset({"cursor", "limit"})


class Read:
    """One kind of read, as raw ASGI: Starlette's requests and responses would take longer than our own code.

    `asked` makes the query of a request. `personal`: the answer is another for each caller. `viewed`: what
    items are to the caller can be included. `absent`: the code and detail of the problem if there is none.
    """

    def __init__(
        self,
        asked: Callable[[Scope], Plain],
        *,
        personal: bool = False,
        viewed: bool = True,
        absent: tuple[str, str] = NOTHING,
    ) -> None:
        self._asked = asked
        self._personal = personal
        self._viewed = viewed
        self._absent = absent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if wants_stream(scope):
            await stream(scope, receive, send, scope["state"]["services"].connections, self.watched(scope))
            return
        status, headers, body = await respond(scope, self._query, self.kept_as(scope), self._absent)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def watched(self, scope: Scope) -> Watched:
        """The read as one that is kept current. Raises Problem 400 for a page that is not the usual one."""
        query, text = self._query(scope), scope["query_string"].decode("latin-1")
        if given := sorted(query_of(scope).keys() & NOT_WATCHED):
            detail = "Only a first page of the usual length is kept current."
            raise together([fault(400, "not-watchable", detail, parameter=name) for name in given])
        subject = scope[CLAIMS].subject if self._personal or text else ""
        return Watched((scope["path"], text, subject), query, not_found(*self._absent))

    def kept_as(self, scope: Scope) -> str:
        """All that tells the answer: the path, also by whom it is read, if this matters. Empty: more does.

        A path begins with a slash, and a subject has no space, so no text means two.
        """
        query, path = scope["query_string"], scope["path"]
        if query not in KEPT:
            return ""
        return f"of {scope[CLAIMS].subject} {query.decode()} {path}" if query or self._personal else path

    def _query(self, scope: Scope) -> Query:
        """Raises Problem 400 that names all faulty parameters, `include` among them."""
        include = query_of(scope).get("include")
        if include is None:
            return self._asked(scope)
        if include == "viewer" and self._viewed:
            return ViewedQuery(self._asked(scope), scope[CLAIMS].subject)
        faults = [
            fault(400, "bad-include", "include must be viewer, with posts or users.", parameter="include")
        ]
        try:
            self._asked(scope)
        except Problem as problem:
            faults += [problem] if problem.errors else []
        raise together(faults)


def entity(kind: Entity) -> Read:
    return Read(lambda scope: EntityQuery(kind, path_id(scope, kind)), absent=no_such(kind.name))


def listing(kind: Listing) -> Read:
    def asked(scope: Scope) -> Plain:
        page = _page(scope, kind.order)  # first: a bad page is reported before a bad id
        return ListQuery(kind, path_id(scope, kind.parent), page)

    return Read(asked, viewed=kind.item.name in VIEWED, absent=no_such(kind.parent.name))


def caller() -> Read:
    return Read(
        lambda scope: UserQuery(USERS_BY_SUBJECT, scope[CLAIMS].subject), personal=True, absent=NO_PROFILE
    )


def user_by_handle() -> Read:
    def asked(scope: Scope) -> Plain:
        handle = scope["path_params"]["handle"]
        if not re.match(HANDLE, handle):
            raise not_found(*no_such(USER.name))  # nobody can ever have it
        return UserQuery(USERS_BY_HANDLE, handle.lower())

    return Read(asked, absent=no_such(USER.name))


def everybody() -> Read:
    return Read(lambda scope: EverybodyQuery(_page(scope)))


def feed() -> Read:
    def asked(scope: Scope) -> Plain:
        query, subject = query_of(scope), scope[CLAIMS].subject
        match query.get("order"):
            case None:
                return FeedQuery(subject, requested_page(query, NEWEST_FIRST))
            case "hot":
                return HotQuery(subject, requested_page(query, HOTTEST_FIRST))
        detail = "order must be hot. Without it the newest posts come first."
        faults = [fault(400, "bad-order", detail, parameter="order")]
        try:
            query.pop("cursor", "")  # nobody knows of which list
            requested_page(query, NEWEST_FIRST)
        except Problem as problem:
            faults.append(problem)
        raise together(faults)

    return Read(asked, personal=True)


def hashtag() -> Read:
    return Read(lambda scope: HashtagQuery(canonical(scope["path_params"]["tag"]), _page(scope)))


def notifications() -> Read:
    def asked(scope: Scope) -> Plain:
        return NotificationsQuery(scope[CLAIMS].subject, _page(scope, CURSOR))

    return Read(asked, personal=True, viewed=False)


def path_id(scope: Scope, kind: Entity) -> int:
    """Raises Problem 404 for a text that is no id: nothing can ever have it."""
    text = scope["path_params"]["id"]
    if not ID.fullmatch(text) or int(text) > MAX_ID:
        raise not_found(*no_such(kind.name))
    return int(text)


def _page(scope: Scope, order: Order = NEWEST_FIRST) -> Page:
    return requested_page(query_of(scope), order)
