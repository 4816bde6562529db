"""Announcements: APPLY tells on TIDE_CHANNEL which keys a batch has touched, and which watermark it left.

A message is text of four lines: the lineage found, the watermark left, keys, and keys of counters only. A key
has no space. Valkey does not count messages of 16 KB and more in a client's output buffer, so a subscriber
that reads nothing would be kept while its messages evict the cache: a large batch has several messages.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from reader.read_model.cached_values import Watermark

MAX_MESSAGE_BYTES = 15 * 1024
SEPARATORS = 3


class Announcement(msgspec.Struct, frozen=True):
    """One message about an APPLY. A batch's messages come in order, and nothing comes between them.

    `found`: the lineage that APPLY found. `to`: the watermark it left; None in all but the batch's last
    message. `keys`: touched keys, present or not, without the epoch's prefix. `counted`: keys of which only
    counters changed; none of these is in `keys`. A tick has no keys, and `to` is of the lineage found.
    """

    found: str
    to: Watermark | None
    keys: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()


def encode(found: str, to: Watermark, keys: Iterable[str] = (), counted: Iterable[str] = ()) -> list[bytes]:
    """The messages of one APPLY, each within MAX_MESSAGE_BYTES unless the watermark alone is longer."""
    left = to.encode()
    room = MAX_MESSAGE_BYTES - len(found) - len(left) - SEPARATORS
    lists: list[tuple[list[str], list[str]]] = [([], [])]
    size = 0
    for place, names in enumerate((keys, counted)):
        for key in names:
            size += len(key) + 1
            if size > room:
                lists.append(([], []))
                size = len(key) + 1
            lists[-1][place].append(key)
    *former, last = ("\n".join(map(" ".join, pair)) for pair in lists)
    return [f"{found}\n\n{text}".encode() for text in former] + [f"{found}\n{left}\n{last}".encode()]


def decode(message: bytes) -> Announcement:
    """Raises ValueError for another shape."""
    found, left, keys, counted = message.decode().split("\n")
    return Announcement(
        found, Watermark.decode(left) if left else None, tuple(keys.split()), tuple(counted.split())
    )
