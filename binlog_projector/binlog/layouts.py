"""How many bytes a value takes in a row image, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import calcsize
from typing import Any

Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class Fixed:
    """A value of fixed size: its code for the struct module, and what to do with what that gives."""

    code: str
    convert: Convert | None = None

    @property
    def size(self) -> int:
        return calcsize(f"<{self.code}")


@dataclass(frozen=True)
class Counted:
    """Bytes behind their number, which takes `prefix` bytes."""

    prefix: int
    convert: Convert | None = None


Layout = Fixed | Counted
