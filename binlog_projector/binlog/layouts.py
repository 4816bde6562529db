"""The size of a value in a row image, and its conversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import calcsize
from typing import Any

Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class Fixed:
    """A value of fixed size: its code for the struct module, and the conversion of the result."""

    code: str
    convert: Convert | None = None

    @property
    def size(self) -> int:
        return calcsize(f"<{self.code}")


@dataclass(frozen=True)
class Counted:
    """Bytes behind their length, which takes `prefix` bytes."""

    prefix: int
    convert: Convert | None = None


Layout = Fixed | Counted
