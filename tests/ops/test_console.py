"""The console in a real browser: figures move, faults show, and a keyboard or a phone suffices."""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from datetime import time as datetime_time
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from ops.stack.fetch.programs import chromium
from ops.system import System
from tests.support.harness import wait_until

pytestmark = pytest.mark.server

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
PHONE = ViewportSize(width=360, height=740)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with headless_chromium() as browser:
        yield browser


@contextlib.contextmanager
def headless_chromium() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        launcher = Path(folder) / "chromium"
        launcher.write_text(f'#!/bin/sh\nexec {shlex.join(chromium().command)} "$@"\n')
        launcher.chmod(0o700)
        browser = playwright.chromium.launch(executable_path=launcher, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, system: System) -> Iterator[Page]:
    """The console, live; an error in the browser's console fails the test."""
    errors: list[str] = []
    with contextlib.closing(browser.new_page(timezone_id="Asia/Kolkata", locale="en-US")) as page:
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(system.admin_url("projector"))
        expect(page.locator("#connection")).to_have_text("live", timeout=15_000)
        expect(page.locator("#projector .state")).to_have_text("leading", timeout=15_000)
        yield page
    assert errors == []


def write_and_read(system: System) -> None:
    headers = {"authorization": f"Bearer {system.token('jane')}"}
    with httpx2.Client(headers=headers, timeout=10, trust_env=False, verify=False) as client:
        user = client.put(f"{system.url('writer')}/user/me", json={"handle": "jane", "display_name": "Jane"})
        made = client.post(f"{system.url('writer')}/post", json={"body": "Hello #tidemark"})
        token = made.headers["consistency-token"]
        read = client.get(
            f"{system.url('reader')}/post/{made.json()['id']}", headers={"consistency-token": token}
        )
        assert (user.is_success, made.status_code, read.status_code) == (True, 201, 200)


def number(page: Page, id: str) -> float:
    text = page.locator(id).inner_text().replace(",", "")
    return float(text.split()[0]) if text[:1].isdigit() else 0.0


def test_figures_move_when_traffic_flows(page: Page, system: System) -> None:
    before = number(page, "#mongodb-seq")

    def moving() -> bool:
        write_and_read(system)
        page.wait_for_timeout(100)
        return all(number(page, id) > 0 for id in ("#writes", "#transactions", "#reads"))

    wait_until(moving, "transactions and reads to be shown")
    wait_until(lambda: moving() and number(page, "#redis-seq") > before, "a new batch in Redis")
    assert page.locator(".way.flowing").count() == 1 or number(page, "#transactions") == 0
    assert page.locator(".box.bad").count() == 0
    assert (
        "batch" in page.locator("#watermark").inner_text() and "epoch" in page.locator("#lease").inner_text()
    )


def test_a_chart_tells_time_in_utc_value_on_hover_and_text_beside_it(page: Page) -> None:
    for name in ("lag_seconds", "transactions_per_s", "hit_ratio", "batch_transactions"):
        plot = page.locator(f"#chart-{name} .u-over")
        area = plot.bounding_box()
        assert area is not None and area["height"] >= 150
        assert page.locator(f"#chart-{name}").get_attribute("aria-hidden") == "true"
        expect(page.locator(f"#reading-{name}")).to_have_text(
            re.compile(r"now .+, least .+, most .+ since \d\d:\d\d:\d\d UTC|nothing to show yet")
        )
    plot = page.locator("#chart-lag_seconds .u-over")
    area = plot.bounding_box()
    assert area is not None
    plot.hover(position={"x": 1, "y": 50})
    at, lag = page.locator("#chart-lag_seconds .u-value").all_inner_texts()
    shown = datetime.combine(datetime.now(UTC), datetime_time.fromisoformat(at), UTC)
    ago = (datetime.now(UTC) - shown).total_seconds() % 86_400
    assert 0 <= ago < 16 * 60, "the first point, by UTC's clock and not by the browser's"
    assert re.fullmatch(r"[\d.]+ (ms|s|min)|-", lag)


def test_the_box_of_redis_turns_red_within_5_seconds_and_back(page: Page, system: System) -> None:
    redis = system.stack.redis
    expect(page.locator("#redis")).to_have_class("box good", timeout=15_000)
    redis.stop()
    stopped = time.monotonic()
    expect(page.locator("#redis")).to_have_class("box bad", timeout=5_000)
    assert time.monotonic() - stopped < 5
    expect(page.locator("#errors")).to_contain_text(
        re.compile(r"cache unavailable .*\(\d+ times\)"), timeout=15_000
    )

    def away() -> bool:
        write_and_read(system)
        page.wait_for_timeout(100)
        return page.locator("#reader .state").inner_text() == "reads come from MongoDB"

    wait_until(away, "the reader's box to say where reads come from")
    redis.start()
    expect(page.locator("#redis")).to_have_class("box good", timeout=15_000)


def test_the_keyboard_suffices_and_the_theme_is_kept(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    page.keyboard.press("Enter")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "errors"


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=PHONE["width"])
    for box in ("#writer", "#mysql", "#projector", "#mongodb", "#redis", "#reader"):
        page.locator(box).scroll_into_view_if_needed()
        expect(page.locator(box)).to_be_visible()


def test_the_page_loads_nothing_from_elsewhere(page: Page, system: System) -> None:
    loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert loaded and all(url.startswith(system.admin_url("projector")) for url in loaded)


def test_a_cluster_shows_a_number_for_each_shard_and_strikes_out_those_away(page: Page) -> None:
    shown = page.evaluate(
        """() => {
          showShards([
            { shard: 0, seq: 1234, lag_seconds: 0.2 },
            { shard: 1, seq: 1200, lag_seconds: 7.5 },
            { shard: 2, seq: null, lag_seconds: null },
          ]);
          return [...document.querySelectorAll("#redis #shards li")].map(
            (item) => [item.textContent, item.title, getComputedStyle(item).textDecorationLine]);
        }"""
    )
    assert shown == [
        ["0", "shard 0: batch 1,234, 200 ms behind", "none"],
        ["1: 7.5 s", "shard 1: batch 1,200, 7.5 s behind", "none"],
        ["2", "shard 2: away", "line-through"],
    ]
