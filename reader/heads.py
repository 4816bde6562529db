"""The heads of a feed: of each author the newest posts, and whose are the newest of all.

The newest k of a union are among the newest k of its parts. So only the k heads with the greatest first ids
can hold a page of k, and a head that is cut is exact down to its last id.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from reader.read_model.cached_values import Entry
from tidemark.ids import MAX_ID


class Heads(NamedTuple):
    """The heads of a feed's authors. They never change, so that one composition hands them on to the next.

    `followees`: the entry that tells who the authors are. `authors`: key of the head -> the author.
    `order`: the first id of each head and its key, in ascending order. The first id of an empty head is 0.
    """

    followees: Entry
    authors: Mapping[str, int]
    entries: Mapping[str, Entry]
    order: Sequence[tuple[int, str]]

    @classmethod
    def of(cls, followees: Entry, authors: Mapping[str, int], entries: Mapping[str, Entry]) -> Heads:
        return cls(followees, authors, entries, sorted((head.first, key) for key, head in entries.items()))

    def replaced(self, entries: Mapping[str, Entry]) -> Heads:
        """With others for some of them. A feed of a thousand heads seldom has many new ones."""
        order = [*self.order]
        for key, head in entries.items():
            del order[bisect_left(order, (self.entries[key].first, key))]
            insort(order, (head.first, key))
        return self._replace(entries={**self.entries, **entries}, order=order)

    def newest(self, below: int, wanted: int) -> tuple[list[int], tuple[int, ...]]:
        """The `wanted` greatest ids below `below` that the heads have.

        Also the authors who may have others as great, below their heads.
        """
        order = self.order
        if below <= MAX_ID:
            order = sorted((next(_ids(head, below), 0), key) for key, head in self.entries.items())
        opened = order[-wanted:]
        least = opened[0][0] if len(opened) == wanted else 0  # as many firsts are as great
        ids: list[int] = []
        ends = {key: MAX_ID for _, key in takewhile(lambda one: not one[0], order)}  # all they have is above
        for _, key in opened:
            for id in _ids(self.entries[key], below):
                if id < least:
                    break
                ids.append(id)
            else:
                ends.setdefault(key, ids[-1] if ids else 0)
        ids.sort(reverse=True)
        del ids[wanted:]
        end = ids[-1] if len(ids) == wanted else 0
        deeper = (key for key, last in ends.items() if last > end and self.entries[key].head)
        return ids, tuple(sorted(self.authors[key] for key in deeper))


def _ids(head: Entry, below: int) -> Iterator[int]:
    """Its ids below `below`, parsed only as far as they are taken."""
    rest = head.body
    while rest:
        text, _, rest = rest.partition(b",")
        id = int(text)
        if id < below:
            yield id
