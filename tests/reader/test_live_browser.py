"""The clients of docs/live.md in a real browser: a like arrives, and an outage of Redis passes by itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from ops.stack import Stack
from tests.conftest import service_environment
from tests.ops.test_console import headless_chromium
from tests.reader.test_other_origins import site  # noqa: F401 - a fixture
from tests.support.harness import ROOT, wait_until
from tests.support.services import Services, running_services
from tests.support.tokens import token

TRANSPORTS = ("socket", "events")
SECONDS = 30  # a busy machine is no defect
STOPS_WITHIN_SECONDS = 2  # by what the tide itself says: how busy the machine is does not matter
CLIENTS = re.findall(r"```js\n(.*?)```", (ROOT / "docs/live.md").read_text(), re.DOTALL)
PAGE = """([[liveCode, watchCode], url, path, token]) => {
    const socketUrl = url.replace("http", "ws") + "/live";
    window.seen = {socket: {states: [], tides: []}, events: {states: [], tides: []}};
    const note = (seen, body, tide) => {
        if (body) seen.states.push([body.like_count, Date.now()]);
        if (tide) seen.tides.push(Date.parse(tide) / 1000);
    };
    const live = new Function(liveCode.replace("wss://api.example.org/live", socketUrl) + "return live;")();
    const watch = new Function(watchCode + "return watch;")();
    live([path], () => token, (message) => note(seen.socket, message.body, message.tide));
    const heard = (name, data) => note(seen.events, data.body, name === "tide" && data.as_of);
    watch(url + path, () => token, heard);
}"""


@pytest.fixture
def page(site: int) -> Iterator[Page]:  # noqa: F811
    """A blank page of another origin than the reader's."""
    with headless_chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{site}/")
        yield page


def tides(page: Page) -> list[list[float]]:
    """As of when, in Unix seconds, in the order in which each client got them."""
    return [page.evaluate(f"window.seen.{transport}.tides") for transport in TRANSPORTS]


def stands_still(page: Page) -> list[list[float]] | None:
    """The tides, if no more come in 3 s."""
    before = tides(page)
    time.sleep(3)
    return before if tides(page) == before else None


def wait_for_likes(page: Page, count: int) -> float:
    """Until both clients show so many. Returns the time at which the slower one got them."""
    times = []
    for transport in TRANSPORTS:
        latest = f"window.seen.{transport}.states.at(-1)"
        page.wait_for_function(f"{latest}?.[0] === {count}", timeout=SECONDS * 1000)
        times.append(page.evaluate(f"{latest}[1]"))
    return float(max(times)) / 1000


@pytest.fixture
def services(stack: Stack, site: int) -> Iterator[Services]:  # noqa: F811
    allowed = {"TIDEMARK_READER_ALLOWED_ORIGINS": f"http://127.0.0.1:{site}"}
    with running_services(stack, {**service_environment(stack), **allowed}) as services:
        yield services


def test_a_browser_sees_likes_and_outlives_an_outage_of_redis(
    services: Services, stack: Stack, page: Page
) -> None:
    for name in ("one", "two", "three"):
        profile = {"handle": name, "display_name": name, "bio": ""}
        assert services.write(name, "PUT", "/user/me", profile).is_success
    path = f"/post/{services.write('one', 'POST', '/post', {'body': 'hello'}).json()['id']}"
    wait_until(lambda: services.read(path).status_code == 200, "the post")
    page.evaluate(PAGE, [CLIENTS, services.reader_url, path, token("one", "read")])
    wait_for_likes(page, 0)
    assert services.write("one", "PUT", f"{path}/like").is_success
    committed = time.time()
    print(f"a like after {1000 * (wait_for_likes(page, 1) - committed):.0f} ms")

    wait_until(lambda: all(tides(page)), "the first tides", SECONDS)

    stack.redis.stop()
    stopped_at = time.time()
    try:
        assert services.write("two", "PUT", f"{path}/like").is_success
        last = wait_until(lambda: stands_still(page), "the tides to stop", SECONDS)
        assert all(one == sorted(one) and one[-1] <= stopped_at + STOPS_WITHIN_SECONDS for one in last)
    finally:
        stack.redis.start()
    wait_for_likes(page, 2)
    wait_until(lambda: all(now[-1] > stopped_at for now in tides(page)), "the tides to go on", SECONDS)
    assert services.write("three", "PUT", f"{path}/like").is_success
    wait_for_likes(page, 3)
