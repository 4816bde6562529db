"""Handles: the API's are ASCII, and whoever looks one up need not know its case.

SQL can write others. MySQL's collation compares them without accents, so `Jörg` takes the handle `jorg`.
Nobody is found by such a handle, because no path can ask for it. ASCII handles that are equal in lower case
are equal to MySQL, whose unique key lets only one user have them.
"""

from __future__ import annotations

HANDLE = r"^[A-Za-z0-9_]{3,30}(?![\s\S])"  # Python's $ would let a final newline pass


def handles(handle: str) -> list[str]:
    """The texts by which a user with this handle is found: one at most."""
    return [handle.lower()] if handle.isascii() else []
