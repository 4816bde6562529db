"""Names of Redis commands in a schedule's trace, and reads of values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tests.verification.schedules.wire import Wire

CHANGING = frozenset({"SET", "EVAL", "EVALSHA"})
ANNOUNCING = "EVALSHA"
PREFIX = "tidemark:"
EPOCH = re.compile("-[0-9a-f]{8}:")  # the random part


def described(arguments: Sequence[Any]) -> str:
    """The name and the sorted keys of a Redis command, as `e7:post:5`."""
    name, *rest = (one.decode() if isinstance(one, bytes) else str(one) for one in arguments)
    keys = [EPOCH.sub(":", one.removeprefix(PREFIX)) for one in rest if one.startswith(PREFIX)]
    return " ".join([name, *sorted(keys)])


def read_values(cache: Wire, keys: Sequence[bytes | str]) -> list[bytes | None]:
    """The values of `keys`, in one MGET."""
    [values] = cache.call([b"MGET", *keys])
    return [value if isinstance(value, bytes) else None for value in values]
