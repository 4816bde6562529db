"""The message about a missing tool of the system."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack.fetch.prerequisites import PrerequisiteMissing, require
from tests.support.harness import ROOT


def prerequisites(*tools: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the module as the Makefile does: without the packages of any virtual environment."""
    command = [sys.executable, "-W", "error", "-S", "ops/stack/fetch/prerequisites.py", *tools]
    environment = {"PATH": str(path)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def test_one_line_names_missing_tools_and_the_command_that_installs_them(tmp_path: Path) -> None:
    done = prerequisites("make", "git", "java", path=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "missing: make, git, java; run: sudo apt-get install -y make git default-jre-headless\n"
    )


def test_nothing_is_said_when_nothing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "git").touch(mode=0o755)
    done = prerequisites("git", "venv", path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_tool_is_asked_for_by_its_own_name() -> None:
    with pytest.raises(
        PrerequisiteMissing, match=r"^missing: no-such-tool; run: sudo apt-get install -y no-such-tool$"
    ):
        require("no-such-tool")


def test_an_old_python_can_read_the_message_about_itself() -> None:
    source = (ROOT / "ops/stack/fetch/prerequisites.py").read_text()
    assert "__future__" not in source, "Python 3.6 does not know today's futures"
    ast.parse(source, feature_version=(3, 6))


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(PrerequisiteMissing, match=r"Python 3\.11 or newer is needed, this is 3\.10\.4"):
        require()
