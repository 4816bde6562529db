"""Messages of database drivers in one line for people."""

from __future__ import annotations

import re

DETAILS = re.compile(r" \(configured timeouts: [^)]*\)|, (?:Timeout|full error): .*", re.DOTALL)


def brief(error: BaseException) -> str:
    """PyMongo's message without its view of all servers, its timeouts, and the server's whole reply."""
    return DETAILS.sub("", str(error))
