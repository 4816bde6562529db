"""`make quick` starts no server: a test without the mark `server` is refused one."""

import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack import RedisServer, StackError
from tests.support.harness import ROOT

START = "import sys, pathlib, ops.stack; ops.stack.RedisServer(pathlib.Path(sys.argv[1])).start()"


def test_a_test_without_the_mark_gets_no_server(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="redis is not started: TIDEMARK_NO_SERVERS is set"):
        RedisServer(tmp_path).start()


def test_a_process_of_a_test_without_the_mark_gets_no_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "redis is not started: TIDEMARK_NO_SERVERS is set" in done.stderr


def test_a_test_that_uses_the_stack_has_the_mark(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("server") is None
    users = [item for item in request.session.items if "shared_stack" in getattr(item, "fixturenames", ())]
    assert all(item.get_closest_marker("server") for item in users)
