"""Ids: up to 2^63 - 1, as MongoDB's numbers. HTTP has them as strings: JavaScript's numbers end at 2^53."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

MAX_ID = 2**63 - 1
ID = re.compile("^[1-9][0-9]{0,18}$")
Id = Annotated[str, msgspec.Meta(pattern=ID.pattern, description="A number, as a string")]
