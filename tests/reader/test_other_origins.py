"""Browser pages of the origins in TIDEMARK_*_ALLOWED_ORIGINS use the API; pages of other origins do not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page
from starlette.testclient import TestClient
from websockets.exceptions import InvalidStatus

import reader.openapi
import writer.openapi
from ops.stack import Stack
from tests.conftest import AUTH, service_environment
from tests.ops.test_console import headless_chromium
from tests.reader.conftest import RunningReader, starting_reader
from tests.reader.test_live_websocket import open_socket
from tests.reader.world import World
from tests.support.harness import wait_until
from tests.support.tokens import AUTH_SETTINGS, bearer, token
from tidemark.settings import load
from writer.app import create_app
from writer.settings import WriterSettings

ORIGIN = "https://app.example.org"
WITHOUT_MYSQL = {**AUTH, "TIDEMARK_WRITER_MYSQL_URL": "mysql://u:p@127.0.0.1:1/tidemark"}


@contextlib.contextmanager
def writer_for(origins: str) -> Iterator[TestClient]:
    environment = {**WITHOUT_MYSQL, "TIDEMARK_WRITER_ALLOWED_ORIGINS": origins}
    with TestClient(create_app(load(WriterSettings, environment), AUTH_SETTINGS)) as client:
        yield client


def headers_of(document: Any, place: str) -> set[str]:
    """The names of an OpenAPI document's headers: `parameters` of requests, or `headers` of answers."""
    if place == "headers":
        return {name.lower() for name in document["components"]["headers"]} - {"set-cookie"}
    operations = [each for item in document["paths"].values() for each in item.values()]
    parameters = [one for operation in operations for one in operation.get("parameters", ())]
    return {one["name"].lower() for one in parameters if one["in"] == "header"}


@pytest.mark.parametrize("document", [reader.openapi.document(), writer.openapi.document()])
def test_a_page_may_send_and_see_every_header_of_the_api(document: Any) -> None:
    with writer_for(ORIGIN) as client:
        sent = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        asked = ", ".join({*headers_of(document, "parameters"), "authorization", "content-type"})
        preflight = client.options("/post", headers={**sent, "Access-Control-Request-Headers": asked})
        assert preflight.status_code == 200, preflight.text
        seen = client.get("/openapi.json", headers={"Origin": ORIGIN}).headers
        exposed = {name.lower() for name in seen["access-control-expose-headers"].split(", ")}
        assert headers_of(document, "headers") <= exposed


def test_a_refusal_names_the_allowed_origin_and_allows_no_cookies() -> None:
    with writer_for(f"{ORIGIN}, http://localhost:3000") as client:
        for origin in (ORIGIN, "http://localhost:3000"):
            for status, headers in ((401, {}), (503, bearer("jane"))):
                answer = client.delete("/post/1", headers={**headers, "Origin": origin})
                assert answer.status_code == status
                assert answer.headers["access-control-allow-origin"] == origin
                assert answer.headers["vary"] == "Origin"
                assert "access-control-allow-credentials" not in answer.headers
        other = client.get("/openapi.json", headers={"Origin": "https://evil.example.org"})
        assert other.status_code == 200 and "access-control-allow-origin" not in other.headers


def test_without_the_setting_no_answer_speaks_of_origins() -> None:
    with writer_for("") as client:
        sent = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        for answer in (client.options("/post", headers=sent), client.get("/openapi.json", headers=sent)):
            assert not [name for name in answer.headers if name.startswith("access-control")]


class BlankPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The port of a site with blank pages."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def open_reader(shared_stack: Stack, site: int) -> Iterator[RunningReader]:
    """A reader for pages of http://127.0.0.1, and one stream for each caller."""
    settings = {
        "TIDEMARK_READER_ALLOWED_ORIGINS": f"http://127.0.0.1:{site}",
        "TIDEMARK_READER_LIVE_PER_SUBJECT": "1",
    }
    with starting_reader({**service_environment(shared_stack), **settings}) as reader:
        wait_until(reader.answers, "the reader to answer")
        yield reader


CALL = """async ([url, headers]) => {
    try {
        const answer = await fetch(url, {headers});
        const names = ["etag", "cache-status", "retry-after", "www-authenticate"];
        const seen = names.filter((name) => answer.headers.has(name));
        const text = new TextDecoder().decode((await answer.body.getReader().read()).value);
        return [answer.status, seen, text];
    } catch (error) {
        return [0, [], String(error)];
    }
}"""
SOCKET = """([url, token]) => new Promise((done) => {
    const socket = new WebSocket(url, ["tidemark.live", `bearer.${token}`]);
    socket.onopen = () => { socket.close(); done("open"); };
    socket.onerror = () => done("refused");
})"""


def test_a_browser_shows_answers_and_streams_to_allowed_pages_only(
    open_reader: RunningReader, world: World, site: int
) -> None:
    world.begin()
    world.user(1)
    world.post(5)
    url, jane = open_reader.url, bearer("jane", "read")
    events = {"Accept": "text/event-stream", "Last-Event-ID": '"x"'}

    def call(page: Page, path: str, headers: dict[str, str]) -> Any:
        return page.evaluate(CALL, [url + path, headers])

    with headless_chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{site}/")
        assert call(page, "/post/5", jane)[:2] == [200, ["etag", "cache-status"]]
        assert call(page, "/post/6", jane)[:2] == [404, ["cache-status"]]
        assert call(page, "/post/5", {})[:2] == [401, ["www-authenticate"]]
        assert call(page, "/post/5", {**jane, **events})[2].startswith("retry: ")
        assert call(page, "/post/5", {**jane, **events})[:2] == [429, ["retry-after"]]
        socket = [f"ws{url.removeprefix('http')}/live", token("joe", "read")]
        assert page.evaluate(SOCKET, socket) == "open"
        page.goto(f"http://localhost:{site}/")
        for path, headers in (("/post/5", jane), ("/openapi.json", {})):
            assert call(page, path, headers) == [0, [], "TypeError: Failed to fetch"]
        assert page.evaluate(SOCKET, socket) == "refused"


def test_a_websocket_of_another_origin_is_403_and_programs_name_none(open_reader: RunningReader) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        open_socket(open_reader.url, of=token("ann", "read"), headers={"Origin": "https://evil.example.org"})
    assert refusal.value.response.status_code == 403
    assert b"origin-not-allowed" in refusal.value.response.body
    with open_socket(open_reader.url, of=token("ann", "read")):
        pass


def test_without_a_list_any_page_may_open_a_websocket(running_reader: RunningReader) -> None:
    with open_socket(running_reader.url, of=token("ann", "read"), headers={"Origin": ORIGIN}):
        pass
