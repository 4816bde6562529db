"""The services of docker/compose.yaml start in the order written there and serve through nginx."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx2
import pytest

from tests.docker.compose import new_secrets
from tests.docker.outside import Outside
from tests.support.harness import wait_until

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("compose")
    (folder / "docker").mkdir()
    with contextlib.ExitStack() as undo:
        started = Outside(folder, new_secrets(folder / "docker"))
        undo.callback(started.down)
        started.up()
        yield started
        undo.pop_all()
        statuses = started.down()
    ours = {name: status for name, status in statuses.items() if "build" in started.services[name]}
    assert ours == dict.fromkeys(ours, 0), statuses


@pytest.fixture
def jane(outside: Outside) -> Iterator[httpx2.Client]:
    """A client of nginx with a token from the command in docs/containers.md."""
    mint = ("-m", "authorizer_lambda", "mint", "--sub", "jane", "--scope", "read write")
    headers = {"authorization": f"Bearer {outside.run('authorizer', 'python', *mint)}"}
    url = f"http://127.0.0.1:{outside.port('nginx', '8080')}"
    with httpx2.Client(base_url=url, headers=headers, timeout=10, verify=False) as client:
        yield client


def test_a_post_written_through_nginx_is_read_through_nginx(outside: Outside, jane: httpx2.Client) -> None:
    assert jane.put("/user/me", json={"handle": "jane", "display_name": "Jane"}).status_code == 201
    written = jane.post("/post", json={"body": "Hello #containers"})
    assert written.status_code == 201
    path, token = written.headers["location"], written.headers["consistency-token"]
    read = jane.get(path, headers={"consistency-token": token, "prefer": "wait=2"})
    assert (read.status_code, read.json()["body"]) == (200, "Hello #containers")
    assert read.headers["preference-applied"] == "wait=2"
    again = jane.get(path, headers={"if-none-match": read.headers["etag"]})
    assert again.status_code == 304
    wait_until(lambda: "hit" in jane.get(path).headers["cache-status"], "the cache to have it")
    assert jane.get("/hashtag/containers").json()["items"][0]["author"]["handle"] == "jane"


def test_stores_have_only_the_services_accounts_with_their_own_passwords(outside: Outside) -> None:
    checked = outside.run("projector", "python", "-m", "binlog_projector", "check", "--json")
    assert '"ok": true' in checked
    assert (
        len(outside.run("accounts", "python", "-m", "ops.stack", "accounts").splitlines()) == 7
    )  # a second run does no harm


def test_reads_go_to_both_readers(outside: Outside, jane: httpx2.Client) -> None:
    for _ in range(8):
        assert jane.get("/feed").status_code == 200
    for reader in ("reader-1", "reader-2"):
        url = f"http://127.0.0.1:{outside.port(reader, '9102')}/metrics"
        feeds = [line for line in httpx2.get(url, verify=False).text.splitlines() if 'route="/feed"' in line]
        assert feeds, reader


def test_both_descriptions_are_public(outside: Outside, jane: httpx2.Client) -> None:
    for service in ("writer", "reader"):
        answer = jane.get(f"/openapi/{service}.json", headers={"authorization": ""})
        assert answer.status_code == 200
        assert service in answer.json()["info"]["title"]
