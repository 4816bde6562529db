"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """`name` is the setting as the server calls it, or what was looked at; `remedy` says what to do if it is not ok.

    `stops`: a projector does not start with it.
    """

    name: str
    ok: bool
    found: str
    expected: str
    remedy: str
    stops: bool = True

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} is {self.found!r}, should be {self.expected}: {self.remedy}"
