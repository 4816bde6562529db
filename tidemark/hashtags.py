"""Hashtags: the parts of a text that are hashtags, and the form that is stored and looked up.

A profile (UAX31-R8-2) of "Hashtag Identifiers" in Unicode Standard Annex 31. Start is #, also small or
fullwidth, not behind a Continue character or &. Continue is XID_Continue, without emoji, - and +. Medial are
the two joiners. A tag does not begin with a mark. The characters are those of Python's Unicode version.
"""

from __future__ import annotations

import re
from unicodedata import category, normalize

MAX_LENGTH = 64  # characters of the text
MAX_COUNT = 30  # of one text; each is a cache key that its post touches
STARTS = "#\ufe5f\uff03"
JOINERS = "\u200c\u200d"  # part of the spelling of words in Persian, Sinhala and other languages
RUN = re.compile(f"[{STARTS}]([^\\s{STARTS}]+)")
ASCII_TAG = re.compile(r"\w*", re.ASCII)


def hashtags(text: str) -> list[str]:
    """The first 30 distinct hashtags of a text, canonical, without the #, in order of appearance."""
    runs = [run[1] for run in RUN.finditer(text) if _may_follow(text[run.start() - 1 : run.start()])]
    return list(dict.fromkeys(canonical(tag) for tag in map(_tag, runs) if tag))[:MAX_COUNT]


def at_most(text: str) -> int:
    """A number that the text's hashtags do not exceed, found much faster."""
    return min(MAX_COUNT, sum(map(text.count, STARTS)))


def canonical(tag: str) -> str:
    """The one form of all spellings of a hashtag: lower case, in Unicode's normalization form C."""
    return normalize("NFC", normalize("NFC", tag).lower())


def _tag(run: str) -> str:
    """The longest start of a run that is a hashtag; a character is never cut from its marks."""
    if run.isascii() and (found := ASCII_TAG.match(run)):  # as the rules below, ten times faster
        return found[0][:MAX_LENGTH]
    run = normalize("NFC", run)
    length = next((at for at in range(len(run)) if not _belongs(run, at)), len(run))
    if length > MAX_LENGTH:
        length = MAX_LENGTH
        while length and _is_mark(run[length]):
            length -= 1
    return "" if _is_mark(run[0]) else run[:length].rstrip(JOINERS)


def _may_follow(character: str) -> bool:
    return character != "&" and not _continues(character)


def _belongs(run: str, at: int) -> bool:
    if run[at] in JOINERS:
        return at > 0 and _continues(run[at - 1]) and _continues(run[at + 1 : at + 2])
    return _continues(run[at])


def _continues(character: str) -> bool:
    """Whether `character` is XID_Continue; the empty text is not."""
    return character != "" and f"_{character}".isidentifier()


def _is_mark(character: str) -> bool:
    return category(character).startswith("M")
