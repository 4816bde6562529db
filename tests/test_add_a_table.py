"""Follows docs/add-a-table.md: its diffs bring bookmarks, or a field, to a system that already has rows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import pytest

from ops.stack import Stack
from tests.conftest import service_environment
from tests.support.harness import ROOT, wait_until
from tests.support.services import Services, running_services

PAGE = (ROOT / "docs/add-a-table.md").read_text()
PACKAGES = ("tidemark", "writer", "binlog_projector", "reader", "authorizer_lambda")


@dataclass(frozen=True)
class Example:
    """One part of the page: the shell block that applies it, the files it changes, and the one it adds."""

    block: int
    changed: frozenset[str]
    new: str


TABLE = Example(
    0,
    frozenset(
        {
            "writer/schema.py",
            "writer/commands.py",
            "writer/handlers.py",
            "writer/deletion.py",
            "writer/endpoints.py",
            "reader/read_model/declarations.py",
            "binlog_projector/domain/projections.py",
        }
    ),
    "writer/migrations/0010_bookmarks.sql",
)
FIELD = Example(
    1,
    frozenset({"writer/schema.py", "writer/commands.py", "reader/read_model/declarations.py"}),
    "writer/migrations/0010_language.sql",
)


@dataclass(frozen=True)
class Paths:
    """The reader's paths of jane's post and of joe's bookmarks."""

    post: str
    bookmarks: str


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the packages and the page in a folder of its own."""
    for name in (*PACKAGES, "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def apply(example: Example, checkout: Path) -> None:
    """Applies the example by its shell block on the page."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    run(["sh", "-c", [block for block in blocks if "git apply" in block][example.block]], checkout)


def put_to_work(stack: Stack, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploys the checkout by the commands of the page. Later processes run the checkout."""
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # else the working folder would come first
    monkeypatch.setenv("PYTHONPATH", os.fspath(checkout))
    commands = re.findall("`python -m ([^`]+)`", PAGE)
    assert commands == ["writer migrate", "binlog_projector rebuild"]
    for command in commands:
        run([sys.executable, "-m", *command.split()], checkout, service_environment(stack))


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for name in PACKAGES for path in (folder / name).rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in files if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("example", [TABLE, FIELD], ids=["a table: eight files", "a field: four files"])
def test_the_page_changes_the_files_it_names_and_is_clean(checkout: Path, example: Example) -> None:
    before = contents(checkout)
    apply(example, checkout)
    after = contents(checkout)
    assert after.keys() - before.keys() == {example.new}
    assert {name for name, content in before.items() if after.get(name) != content} == example.changed
    run([sys.executable, "-m", "ruff", "check", "--no-cache", *example.changed], checkout)
    run([sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *example.changed], checkout)


def test_bookmarks_work_after_the_page_was_applied(
    stack: Stack, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_services(stack) as services:
        paths = people_and_a_post(services)
        wait_until(lambda: services.read(paths.post).status_code == 200, "the post")
        assert "bookmark_count" not in services.read(paths.post).json()
    apply(TABLE, checkout)
    put_to_work(stack, checkout, monkeypatch)
    with running_services(stack) as services:
        assert services.read(paths.post).json()["bookmark_count"] == 0
        check_bookmarks(services, paths)
        check_openapi(services)
        check_that_a_bookmarked_post_can_be_deleted(services, paths)


def test_a_post_has_its_language_after_the_page_was_applied(
    stack: Stack, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_services(stack) as services:
        old = people_and_a_post(services).post
        wait_until(lambda: services.read(old).status_code == 200, "the post")
        assert "language" not in services.read(old).json()
        assert (
            services.write("jane", "POST", "/post", {"body": "hi", "language": "en"}).json()["field"]
            == "language"
        )
    apply(FIELD, checkout)
    put_to_work(stack, checkout, monkeypatch)
    with running_services(stack) as services:
        assert services.read(old).json()["language"] == ""
        for sent, language in (({"language": "pt-BR"}, "pt-BR"), ({}, "")):
            written = services.write("jane", "POST", "/post", {"body": "Bom dia", **sent})
            assert (written.status_code, written.json()["language"]) == (201, language)
            check_language(services, written.headers["location"], language)
        refused = services.write("jane", "POST", "/post", {"body": "hi", "language": "no language"})
        assert (refused.status_code, refused.json()["field"]) == (422, "language")
        for url in (services.writer_url, services.reader_url):
            schemas = httpx2.get(f"{url}/openapi.json", trust_env=False).json()["components"]["schemas"]
            assert schemas["Post"]["properties"]["language"] == {"type": "string"}


def check_language(services: Services, path: str, language: str) -> None:
    """The post shows the language as written, also after an edit of its text."""
    wait_until(lambda: services.read(path).status_code == 200, "the new post")
    assert services.read(path).json()["language"] == language
    assert services.write("jane", "PATCH", path, {"body": "Boa noite"}).json()["language"] == language
    wait_until(lambda: services.read(path).json()["body"] == "Boa noite", "the edit")
    assert services.read(path).json()["language"] == language


def people_and_a_post(services: Services) -> Paths:
    """Users jane and joe, and a post of jane."""
    people = [
        services.write(name, "PUT", "/user/me", {"handle": name, "display_name": name}).headers["location"]
        for name in ("jane", "joe")
    ]
    post = services.write("jane", "POST", "/post", {"body": "worth keeping"}).headers["location"]
    return Paths(post, f"{people[1]}/bookmarks")


def check_bookmarks(services: Services, paths: Paths) -> None:
    assert shows(services, paths, 0)
    for method, count in (("PUT", 1), ("PUT", 1), ("DELETE", 0), ("DELETE", 0), ("PUT", 1)):
        assert services.write("joe", method, f"{paths.post}/bookmark").status_code == 204
        wait_until(partial(shows, services, paths, count), f"{count} bookmarks after {method}")
    assert services.write("joe", "PUT", "/post/999/bookmark").status_code == 404


def shows(services: Services, paths: Paths, count: int) -> bool:
    """Whether the post's counter is `count`, and the list holds exactly the post, or nothing."""
    post = services.read(paths.post).json()
    items = services.read(paths.bookmarks).json()["items"]
    return bool(post["bookmark_count"] == count and items == [post] * count)


def check_openapi(services: Services) -> None:
    writer, reader = (
        httpx2.get(f"{url}/openapi.json", trust_env=False).json()
        for url in (services.writer_url, services.reader_url)
    )
    assert writer["paths"]["/post/{id}/bookmark"].keys() == {"put", "delete"}
    assert "/user/{id}/bookmarks" in reader["paths"]
    assert "bookmark_count" in reader["components"]["schemas"]["Post"]["properties"]


def check_that_a_bookmarked_post_can_be_deleted(services: Services, paths: Paths) -> None:
    assert services.write("jane", "DELETE", paths.post).status_code == 204
    wait_until(lambda: services.read(paths.post).status_code == 404, "the post to be gone")
    assert services.read(paths.bookmarks).json()["items"] == []
