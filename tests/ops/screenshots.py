"""`python -m tests.ops.screenshots`: takes the pictures of docs/console.md and docs/shore.md."""

from __future__ import annotations

import os
import time

from playwright.sync_api import Browser, expect

from ops.shore.front import shore
from ops.system import System
from tests.ops.test_console import PHONE, headless_chromium, write_and_read
from tests.ops.test_shore import card, join, post, screen
from tests.support.harness import ROOT

DOCS = ROOT / "docs"
SECONDS = 30
QUALITY = 50  # of pictures with many colours


def main() -> None:
    with System(os.environ) as system, headless_chromium() as browser:
        take_shore(system, browser)
        take_console(system, browser)


def take_console(system: System, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(system.admin_url("projector"))
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        write_and_read(system)
        page.wait_for_timeout(50)
    page.emulate_media(color_scheme="light")
    page.screenshot(path=DOCS / "console-light.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=DOCS / "console-dark.png")
    page.set_viewport_size(PHONE)
    page.screenshot(path=DOCS / "console-phone.png")


def take_shore(system: System, browser: Browser) -> None:
    with shore(system):
        page = browser.new_page(viewport={"width": 900, "height": 720})
        page.goto(f"{system.url('shore')}/#both")
        jane, joe = screen(page, "jane"), screen(page, "joe")
        join(jane)
        join(joe)
        post(jane, "The tide is coming in #tidemark")
        post(joe, "See you at the shore, @jane")
        seen = card(joe, "The tide")
        seen.get_by_role("button", name="Comments").click()
        seen.get_by_label("A comment").fill("Bring boots")
        seen.get_by_role("button", name="Comment", exact=True).click()
        expect(seen.get_by_role("listitem")).to_contain_text("Bring boots")
        seen.get_by_role("button", name="Like").click()
        expect(page.locator("#way-other output")).to_contain_text("ms")
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1_500)
        page.emulate_media(color_scheme="light")
        page.screenshot(path=DOCS / "shore-light.jpg", quality=QUALITY)
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=DOCS / "shore-dark.jpg", quality=QUALITY)
        page.set_viewport_size(PHONE)
        page.goto(f"{system.url('shore')}/#joe")
        joe.scroll_into_view_if_needed()
        expect(joe.locator("header [role=status]")).to_have_text("live")
        expect(joe.locator(".origin").first).to_contain_text("as of")
        page.screenshot(path=DOCS / "shore-phone.jpg", quality=QUALITY)


if __name__ == "__main__":
    main()
