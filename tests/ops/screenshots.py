"""`python -m tests.ops.screenshots`: takes the pictures of docs/console.md from a system with traffic."""

from __future__ import annotations

import os
import time

from ops.system import System
from tests.ops.test_console import PHONE, headless_chromium, write_and_read
from tests.support.harness import ROOT

DOCS = ROOT / "docs"
SECONDS = 30


def main() -> None:
    with System(os.environ) as system, headless_chromium() as browser:
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


if __name__ == "__main__":
    main()
