"""Hashtags: which parts of a text are one, and in which form they are stored and looked up.

Unicode Standard Annex 31, "Hashtag Identifiers", as a profile of its own (UAX31-R8-2): Start is #, small or
fullwidth # too, behind no Continue character and no &. Continue is XID_Continue, without emoji, - and +. Medial are the
two joiners. A tag does not begin with a mark. Python's Unicode version decides which characters there are.
"""

from __future__ import annotations

import re
from unicodedata import category, normalize

MAX_LENGTH = 64  # characters of the text
JOINERS = "\u200c\u200d"  # between two letters they are spelling in Persian, Sinhala and others
RUN = re.compile("(?<!&)[#\ufe5f\uff03]([^\\s#\ufe5f\uff03]+)")


def hashtags(text: str) -> list[str]:
    """The distinct hashtags of a text, canonical, without the #, in order of appearance."""
    runs = [run[1] for run in RUN.finditer(text) if not _continues(text[run.start() - 1 : run.start()])]
    return list(dict.fromkeys(canonical(tag) for tag in map(_tag, runs) if tag))


def canonical(tag: str) -> str:
    """The one form of all spellings of a hashtag: lower case, in Unicode's normalization form C."""
    return normalize("NFC", normalize("NFC", tag).lower())


def _tag(run: str) -> str:
    """As much of the beginning of a run as is a hashtag; a character keeps its marks or is left out with them."""
    run = normalize("NFC", run)
    length = next((at for at in range(len(run)) if not _belongs(run, at)), len(run))
    if length > MAX_LENGTH:
        length = MAX_LENGTH
        while length and _is_mark(run[length]):
            length -= 1
    return "" if _is_mark(run[0]) else run[:length].rstrip(JOINERS)


def _belongs(run: str, at: int) -> bool:
    if run[at] in JOINERS:
        return at > 0 and _continues(run[at - 1]) and _continues(run[at + 1 : at + 2])
    return _continues(run[at])


def _continues(character: str) -> bool:
    """Whether it is XID_Continue; nothing is not."""
    return character != "" and f"_{character}".isidentifier()


def _is_mark(character: str) -> bool:
    return category(character).startswith("M")
