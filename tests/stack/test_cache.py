"""An entry of the download cache is whole or absent."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack import StackError
from ops.stack.fetch.cache import cache_folder, completed, require_space
from tests.support.harness import ROOT

FILLER = """
import sys, time
from pathlib import Path
from ops.stack.fetch.cache import completed

def fill(folder):
    print("filling", flush=True)
    (folder / "half").touch()
    sys.stdin.readline()
    (folder / "whole").touch()

completed(Path(sys.argv[1]), fill)
"""


def filler(folder: Path) -> "subprocess.Popen[str]":
    """Another run that fills the folder; after its first half it waits for a line."""
    command = [sys.executable, "-c", FILLER, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fill_at_once(folder: Path) -> None:
    assert list(folder.iterdir()) == []
    (folder / "whole").write_text("second run")


def test_leftovers_of_a_killed_run_never_count_and_are_completed(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with filler(folder) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "filling\n"
        killed.kill()
    assert not folder.exists()
    completed(folder, fill_at_once)
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_a_fill_that_fails_leaves_nothing_that_counts(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ConnectionError("the line dropped")

    with pytest.raises(StackError, match=f"the folder {tmp_path}/server cannot be filled: the line dropped"):
        completed(tmp_path / "server", fail)
    assert not (tmp_path / "server").exists()
    assert (completed(tmp_path / "server", fill_at_once) / "whole").read_text() == "second run"


def test_two_runs_at_once_fill_it_once(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with filler(folder) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "filling\n"
        with filler(folder) as second:
            first.stdin.write("go on\n")
            first.stdin.flush()
            said, _ = second.communicate(timeout=20)
        assert said == ""
        assert second.returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["half", "whole"]


def test_a_full_disk_is_told_before_and_while_a_folder_is_filled(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        Path("/dev/full").write_text("a server")

    with pytest.raises(StackError, match=r"cannot be filled: .*No space left on device"):
        completed(tmp_path / "server", fill)
    with pytest.raises(StackError, match=r"^0 MB are free for /sys/server, and 400 are needed$"):
        require_space(Path("/sys/server"))


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        (["ops.stack", "up", "--dir", "/sys/run"], {}, r"\[Errno \d+\] .*: '/sys/run'"),
        (["ops.run", "--dir", "/sys/run"], {}, r"\[Errno \d+\] .*: '/sys/run'"),
        (
            ["ops.stack", "up"],
            {"TIDEMARK_CACHE_DIR": "/sys/cache"},
            r"the folder /sys/cache/\S+ cannot be filled: .*; TIDEMARK_CACHE_DIR can name another",
        ),
    ],
)
def test_a_folder_that_takes_no_files_is_one_line_not_a_traceback(
    tmp_path: Path, command: list[str], environment: dict[str, str], said: str
) -> None:
    """`/sys` takes no files from anybody, root included; `PATH` holds no program that is used instead."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": "/nowhere", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(said + "\n", done.stderr)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TIDEMARK_CACHE_DIR": "/own", "XDG_CACHE_HOME": "/xdg"}, Path("/own")),
        ({"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/tidemark")),
        ({}, Path.home() / ".cache/tidemark"),
    ],
)
def test_the_cache_is_where_the_user_says_or_where_caches_belong(
    environment: dict[str, str], expected: Path
) -> None:
    assert cache_folder(environment) == expected
