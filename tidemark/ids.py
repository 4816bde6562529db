"""How large an id may be: MySQL's ids are unsigned, MongoDB's numbers are not."""

from __future__ import annotations

MAX_ID = 2**63 - 1
