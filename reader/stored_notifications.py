"""A page of a user's notifications in MongoDB: a page of each source at one moment, merged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from reader.errors import DocumentsUnavailable
from reader.paging import FIRST_PAGE, Page
from reader.parts import Wanted, WantedPage
from reader.read_model.cached_values import Watermark, encode_cursor, encode_notifications
from reader.read_model.notifications import NOTIFICATIONS, Notification, Source, Told
from reader.read_model.scans import Scan, microseconds
from reader.stored_scan import BsonDocument, StoredScan

SINCE = 4  # the read-model version
Find = Callable[[Scan, BsonDocument], Awaitable[Sequence[BsonDocument]]]


async def stored_notifications(find: Find, proof: Watermark, wanted: Wanted | WantedPage) -> bytes:
    """The page in the encoding of the cache. `find` carries out the fields of a `find` command.

    Raises DocumentsUnavailable if the build has none.
    """
    if proof.model_version < SINCE:
        raise DocumentsUnavailable("an older release made the read model: it has no notifications yet")
    if isinstance(wanted, WantedPage):
        user, page = int(wanted.values[0]), wanted.page
    else:
        user, page = int(wanted.id), Page(NOTIFICATIONS.limit)
    found: list[Notification] = []
    for number, source in enumerate(NOTIFICATIONS.sources, 1):
        after = source.after(page.after, number) if page.after else None
        stored = StoredScan.of(source, proof.model_version)
        asked = stored.page(user, Page(page.limit + 1, after))  # one follow may be one's own
        columns = (source.order[0][0], source.item_id, *source.shows)
        documents = await find(source, {**asked, "projection": stored.projection(columns)})
        found += [_notification(number, source, stored, document) for document in documents]
    found = sorted((each for each in found if each.actor != user), reverse=True)
    shown = found[: page.limit]
    cursor = encode_cursor(shown[-1].cursor) if len(found) > page.limit else None
    stored = StoredScan.of(NOTIFICATIONS, proof.model_version)
    marks = await find(NOTIFICATIONS, stored.page(user, FIRST_PAGE))
    until = stored.value(marks[0], "until") if marks else 0
    return encode_notifications(proof.seq, Told(until, shown), cursor)


def _notification(number: int, source: Source, stored: StoredScan, document: BsonDocument) -> Notification:
    def of(column: str) -> Any:
        return stored.value(document, column)

    at = of(source.order[0][0])
    at = at if isinstance(at, int) else microseconds(at)
    comment = of(source.comment) if source.comment else None
    return Notification(at, number, of(source.item_id), of(source.of), of(source.actor), comment or 0)
