"""Whether memory and open files stay flat: the last sixth of a run against the second one.

Of an hour, that is minutes 50 to 60 against minutes 10 to 20. The first sixth is for warming up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.verification.torture.processes import Sample

MOST_RATIO = 1.15
MORE = (16.0, 8)  # MiB, and files
# its cache may take 1 GiB; for five minutes it keeps the 110 files of each dropped build
MORE_OF = {"MongoDB": (128.0, 600)}
PARTS = 6


@dataclass(frozen=True)
class Growth:
    """Medians of the largest process of a role, early and late."""

    role: str
    mib: tuple[float, float]
    files: tuple[float, float]
    oldest_seconds: float  # the age of a process of this role when it was last seen, at most

    @property
    def flat(self) -> bool:
        """At most 1.15 times the early median, plus 16 MiB or 8 files; MongoDB's may vary more."""
        mib, files = MORE_OF.get(self.role, MORE)
        return _is_flat(*self.mib, mib) and _is_flat(*self.files, files)

    def as_json(self) -> dict[str, Any]:
        """With `flat` only where it is False."""
        return {
            "mib": [round(value, 1) for value in self.mib],
            "files": [*self.files],
            "oldest_seconds": round(self.oldest_seconds),
            **({} if self.flat else {"flat": False}),
        }


def growths(samples: Sequence[Sample], seconds: float) -> dict[str, Growth]:
    """By role, of the samples of a run of so many seconds. A role without samples in a sixth has 0 there."""
    found = {}
    for role in dict.fromkeys(sample.role for sample in samples):
        own = [sample for sample in samples if sample.role == role]
        early, late = (
            [sample for sample in own if part <= PARTS * sample.seconds / seconds < part + 1]
            for part in (1, PARTS - 1)
        )
        found[role] = Growth(
            role,
            (_median(one.mib for one in early), _median(one.mib for one in late)),
            (_median(one.files for one in early), _median(one.files for one in late)),
            max(one.age_seconds for one in own),
        )
    return found


def _is_flat(early: float, late: float, more: float) -> bool:
    return late <= early * MOST_RATIO + more


def _median(values: Iterable[float]) -> float:
    return median(found) if (found := [*values]) else 0.0
