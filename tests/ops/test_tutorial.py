"""The tutorial, followed as written in a checkout of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import ROOT, wait_until
from tests.test_docs import tracked

TUTORIAL = ROOT / "docs/tutorial.md"
BLOCK = re.compile(r"^```(sh background|sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
READY = Path(".tidemark/run/env")


@dataclass
class Step:
    """Commands as a reader types them, and the lines that their output must have."""

    commands: str
    in_background: bool
    shows: list[str]


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for kind, text in BLOCK.findall(page):
        if kind == "text":
            found[-1].shows += text.splitlines()
        else:
            found.append(Step(text, kind == "sh background", []))
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Git's files with the installed environment."""
    for path in tracked():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        os.utime(target, (0, 0))  # older than the environment, so that nothing is installed again
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


class Reader:
    """A person with two shells: one for commands that stay in the foreground, one for all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before = ""
        self.started: list[subprocess.Popen[bytes]] = []

    def follow(self, step: Step) -> None:
        if step.in_background:
            self._start(step.commands)
        else:
            output = self._type(step.commands)
            assert not re.search(r"\}(\{|HTTP)", output), "an answer has no line of its own"
            for line in step.shows:
                assert line in output, f"after {step.commands!r} {line!r} is missing in:\n{output}"

    def _start(self, commands: str) -> None:
        with (self.folder / "first-terminal.log").open("wb") as log:
            shell = ["bash", "-c", f"trap - INT; {commands}"]
            self.started.append(
                subprocess.Popen(shell, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
            )
        ready = self.folder / READY  # it is empty for a moment
        wait_until(lambda: ready.exists() and ready.stat().st_size, "make run to be ready", 60)

    def _type(self, commands: str) -> str:
        """Run `commands` with the shell variables that earlier commands have set."""
        keep = self.folder / "variables"
        script = f"{self.before}set -eo pipefail\n{commands}\nset +e; declare -p > {keep}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        self.before = f"source {keep} 2> /dev/null\n"
        return done.stdout

    def stop(self) -> None:
        """Send Ctrl-C: SIGINT to every process in that terminal."""
        for process in self.started:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


@contextlib.contextmanager
def reader_in(folder: Path) -> Iterator[Reader]:
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stop()


EARLIER = """
send() { curl -fsS -w '\\n' -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' "$@"; }
send -X PUT $WRITER/user/me -d '{"handle": "jane", "display_name": "Jane"}'
send -X POST $WRITER/post -d '{"body": "not this one"}'
"""


@pytest.mark.server
def test_the_tutorial_can_be_followed_as_it_is_written(checkout: Path) -> None:
    with reader_in(checkout) as reader:
        for step in steps(TUTORIAL.read_text()):
            reader.follow(step)
            if ".tidemark/run/env" in step.commands:  # jane has tried other pages before this one
                reader.follow(Step(EARLIER, False, ['"body":"not this one"']))
    assert not (checkout / READY).exists()
    said = (checkout / "first-terminal.log").read_text().splitlines()
    assert [line for line in said if not line.startswith("make")][-1] == "stopped"


def test_every_page_is_in_the_site() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    pages = {str(path.relative_to(ROOT / "docs")) for path in tracked("docs/*.md")}
    assert set(named(site["nav"])) == pages


def named(nav: Any) -> Iterator[str]:
    """Pages at any depth of the navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from named(entry)
