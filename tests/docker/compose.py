"""The Compose files and docker/Dockerfile as values."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.harness import ROOT

FOLDER = ROOT / "docker"
COMPOSE, DOCKERFILE = FOLDER / "compose.yaml", FOLDER / "Dockerfile"
CLUSTER = FOLDER / "compose.cluster.yaml"  # goes on top of COMPOSE
WANTED = re.compile(r"\$\{([A-Z_]+):\?[^}]*\}")
Json = dict[str, Any]


def compose(secrets: Mapping[str, str], *on_top: Path) -> Json:
    """The compose file, and others on top, as Compose reads them with these variables in docker/.env."""
    document: Json = {}
    for path in (COMPOSE, *on_top):
        text = WANTED.sub(lambda wanted: secrets[wanted[1]], path.read_text()).replace("$$", "$")
        document = _merged(document, yaml.safe_load(text))
    return document


def _merged(below: Json, above: Json) -> Json:
    """Of two lists, the upper one: Compose would join them, and ours hold the same."""
    both = {
        key: _merged(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(above[key], dict)
    }
    return {**below, **above, **both}


def wanted_secrets() -> set[str]:
    return set(WANTED.findall(COMPOSE.read_text()))


def new_secrets(folder: Path) -> dict[str, str]:
    """The secrets that docker/secrets.sh writes, run in a copy of the folder."""
    for path in (COMPOSE, FOLDER / "secrets.sh"):
        (folder / path.name).write_text(path.read_text())
    subprocess.run(["sh", str(folder / "secrets.sh")], check=True)
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@dataclass
class Stage:
    """One FROM and what follows it; `environment` includes that of the stages below it."""

    base: str
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    command: Sequence[str] = ()
    healthcheck: Sequence[str] | None = None
    sources: list[str] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name."""
    found: dict[str, Stage] = {}
    stage = Stage("")
    for keyword, rest in _instructions():
        if keyword == "FROM":
            base, name = rest.split(" AS ")
            below = found.get(base, Stage(base))
            stage = found[name] = Stage(base, dict(below.environment), below.user)
        else:
            _apply(stage, keyword, rest)
    return found


def _apply(stage: Stage, keyword: str, rest: str) -> None:
    match keyword:
        case "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in rest.split())
        case "USER":
            stage.user = rest
        case "CMD":
            stage.command = json.loads(rest)
        case "HEALTHCHECK":
            stage.healthcheck = [] if rest == "NONE" else json.loads(rest[rest.index("[") :])
        case "COPY" if not rest.startswith("--from"):
            stage.sources += rest.split()[:-1]


def _instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in whole.splitlines())]
