"""`services.json`: secrets and ports of a folder's services, which stay the same from start to start."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

AUTH = "TIDEMARK_AUTH_"
FILE = "services.json"


def development_secrets() -> dict[str, str]:
    """The variables with secrets, for a system that nobody else uses."""
    return {
        f"{AUTH}ALGORITHM": "HS256",
        f"{AUTH}SECRET": secrets.token_hex(32),
        f"{AUTH}ISSUER": "development",
        f"{AUTH}AUDIENCE": "tidemark",
        "TIDEMARK_CONSISTENCY_SECRET": secrets.token_hex(32),
    }


@dataclass
class Remembered:
    """`secrets`: variable -> value. `ports`: variable of an address -> the port of the last start."""

    secrets: dict[str, str] = field(default_factory=development_secrets)
    ports: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The content of the folder's file; new secrets if there is none."""
        path = directory / FILE
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, directory: Path) -> None:
        """Replace the file in one step; only its owner may read it."""
        new = directory / f"{FILE}.new"
        new.touch(mode=0o600)
        new.write_text(json.dumps(asdict(self), indent=2) + "\n")
        new.replace(directory / FILE)
