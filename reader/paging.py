"""Pages and cursors; a cursor holds the order values of the last item, and is opaque to clients."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from reader.read_model.cached_values import OrderValue, encode_cursor
from reader.read_model.declarations import PAGE_LIMIT_MAX
from reader.read_model.entities import PAGE_LIMIT
from reader.read_model.scans import Order, microseconds
from tidemark.ids import MAX_ID
from tidemark.problem import Problem, fault, together

LIMIT = re.compile(r"[1-9][0-9]{0,2}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


@dataclass(frozen=True)
class Page:
    """Up to `limit` items behind the item with the order values `after`; None: from the start."""

    limit: int = PAGE_LIMIT
    after: tuple[OrderValue, ...] | None = None


FIRST_PAGE = Page()  # the only one that is cached


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The query string of an ASGI scope."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def next_url(scope: Mapping[str, Any], cursor: str) -> str:
    """The request again, with `cursor`."""
    asked = query_of(scope)
    query = {name: asked[name] for name in ("limit", "include", "order") if name in asked} | {
        "cursor": cursor
    }
    return f"{quote(scope['path'])}?{urlencode(query)}"


def requested_page(query: Mapping[str, str], order: Order) -> Page:
    """The page that a query string asks for. Raises Problem 400 that names `limit`, `cursor` or both."""
    limit, cursor = query.get("limit", str(PAGE_LIMIT)), query.get("cursor")
    faults, after = [], None
    if not LIMIT.fullmatch(limit) or int(limit) > PAGE_LIMIT_MAX:
        detail = f"limit must be a number from 1 to {PAGE_LIMIT_MAX}."
        faults.append(fault(400, "bad-limit", detail, parameter="limit"))
    if cursor is not None:
        try:
            after = decode_cursor(cursor, order)
        except Problem as problem:
            faults.append(problem)
    if faults:
        raise together(faults)
    return Page(int(limit), after)


def decode_cursor(text: str, order: Order) -> tuple[OrderValue, ...]:
    """The order values of a cursor; checked, because they become part of queries. Raises Problem 400."""
    try:
        encoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values = msgspec.json.decode(encoded, type=tuple[int | str, ...])
    except (ValueError, msgspec.MsgspecError):
        values = ()
    names = [name for name, _ in order]
    if len(values) != len(names) or not all(map(_fits, names, values)) or encode_cursor(values) != text:
        detail = "cursor must be one that a page of this list gave."
        raise fault(400, "bad-cursor", detail, parameter="cursor")
    return values


def _fits(name: str, value: OrderValue) -> bool:
    if name == "hot":
        return isinstance(value, int)
    if name == "created_at":
        return isinstance(value, str) and TIME.fullmatch(value) is not None and _is_time(value)
    return isinstance(value, int) and 1 <= value <= MAX_ID


def _is_time(text: str) -> bool:
    """TIME alone would take the 99th of a month."""
    try:
        microseconds(text)
    except ValueError:
        return False
    return True
