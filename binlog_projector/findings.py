"""The result of a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """`name`: the server's setting, or the checked object. `remedy`: what to do if it is not `ok`.

    A remedy that begins with a command of the server can be pasted whole.

    `stops`: a projector does not start if it is not `ok`.
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
