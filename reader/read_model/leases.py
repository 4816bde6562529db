"""A lease as the control collection stores it, and what its holder says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from reader.read_model.entities import Document

STORED = ("epoch", "holder", "session", "renewals", "released", "wanted_by")


@dataclass(frozen=True)
class Tenure:
    """The time of one holder, by MongoDB's clock. `said` at `renewed_at`: part -> its state, since when."""

    taken_at: datetime
    renewed_at: datetime
    said: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class LeaseRecord:
    """A lease as stored. `epoch` changes only at a takeover, `renewals` while the holder lives.

    `session`: MongoDB's id of the session that the holder writes in. `wanted_by`: who asks for the lease.
    `tenure`: None if the holder is of a release that does not write one.
    """

    epoch: int
    holder: Mapping[str, Any]
    session: Any
    renewals: int = 0
    released: bool = False
    wanted_by: Mapping[str, Any] | None = None
    tenure: Tenure | None = None

    def encode(self) -> dict[str, Any]:
        """All fields but the id, which names the lease, and the tenure, whose times MongoDB sets."""
        return {name: getattr(self, name) for name in STORED}

    @classmethod
    def decode(cls, document: Document) -> Self:
        document = {"wanted_by": None, **document}
        return cls(**{name: document[name] for name in STORED}, tenure=_tenure(document))


def _tenure(lease: Document) -> Tenure | None:
    stored = lease.get("tenure")
    if stored is None or stored["epoch"] != lease["epoch"]:
        return None
    return Tenure(stored["taken_at"], stored["renewed_at"], stored["said"])
