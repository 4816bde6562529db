"""Ids as HTTP shows them: MySQL's numbers as strings, because JavaScript's numbers end at 2^53."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

ID = re.compile("^[1-9][0-9]{0,18}$")
Id = Annotated[str, msgspec.Meta(pattern=ID.pattern, description="A number, as a string")]
