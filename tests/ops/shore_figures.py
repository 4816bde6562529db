"""`python -m tests.ops.shore_figures [--fresh-clone] [--json]`: how fast the page of `make run` is."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time

from playwright.sync_api import Browser, expect

from ops.shore.front import PAGE, shore
from ops.system import System
from tests.ops.test_console import headless_chromium
from tests.ops.test_shore import card, join, post, screen
from tests.support.harness import ROOT

TIMES = 20
STEPS = {  # the output that begins each
    "clone": "Cloning",
    "venv": "python3 -m venv",
    "pip": ".venv/bin/python -m pip",
    "servers": "starting MySQL",
    "schema": "bringing the schema",
    "services": "starting projector",
    "page": "Open ",
}
FIRST_CARD = """
new MutationObserver((_, observer) => {
  if (!document.querySelector(".card")) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => (window.firstCard = performance.now())));
}).observe(document, { childList: true, subtree: true });
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.ops.shore_figures", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--fresh-clone", action="store_true", help="seconds from `git clone` to the page")
    parsed = parser.parse_args()
    figures = from_a_clone_to_the_page() if parsed.fresh_clone else medians()
    lines = (f"{name}: {each}" for name, each in figures.items())
    print(json.dumps(figures) if parsed.json else "\n".join(lines))


def medians() -> dict[str, float]:
    """Of 20 each."""
    started = time.monotonic()
    with System(os.environ) as system, shore(system), headless_chromium() as browser:
        return {
            "start_seconds": round(time.monotonic() - started, 1),
            "page_kilobytes": round(sum(path.stat().st_size for path in PAGE.iterdir()) / 1000, 1),
            "like_on_the_other_screen_ms": likes_arrive(system, browser),
            "first_feed_ms": feeds_appear(system, browser),
        }


def from_a_clone_to_the_page() -> dict[str, float]:
    """The seconds of each step of `git clone` and `make run`; caches of pip and of the servers are used."""
    begun: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = f"git clone --depth 1 file://{ROOT} {folder}/tidemark && cd {folder}/tidemark && make run"
        its = subprocess.Popen(
            ["sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert its.stdout is not None
        lines = []
        for line in its.stdout:
            lines.append(line)
            for step, beginning in STEPS.items():
                if line.startswith(beginning):
                    begun.setdefault(step, time.monotonic())
            if line.startswith(STEPS["page"]):
                os.killpg(its.pid, signal.SIGINT)
        its.wait()
    assert list(begun) == list(STEPS), "".join(lines)
    times = list(begun.values())
    seconds = {step: round(end - start, 1) for step, start, end in zip(begun, times, times[1:], strict=False)}
    return {**seconds, "all": round(times[-1] - times[0], 1)}


def likes_arrive(system: System, browser: Browser) -> float:
    """From the press of jane's button until joe's screen has the state, by the page's own clock."""
    page = browser.new_page()
    page.goto(f"{system.url('shore')}/#both")
    jane, joe = screen(page, "jane"), screen(page, "joe")
    join(jane)
    join(joe)
    post(joe, "Like me")
    like, arrived = (
        card(jane, "Like me").get_by_role("button", name="Like, "),
        page.locator("#way-other output"),
    )
    times = []
    for number in range(TIMES):
        expect(like).to_be_enabled()
        like.click()
        expect(arrived).to_contain_text("ms")
        times.append(float(arrived.inner_text().split()[0]))
        expect(like).to_have_attribute("aria-pressed", "false" if number % 2 else "true")
        page.wait_for_timeout(300)
    page.close()
    return round(statistics.median(times), 1)


def feeds_appear(system: System, browser: Browser) -> float:
    """From the beginning of the navigation until a card has been painted."""
    times = []
    for _ in range(TIMES):
        page = browser.new_page()
        page.add_init_script(FIRST_CARD)
        page.goto(f"{system.url('shore')}/#both")
        page.wait_for_selector(".card")
        page.wait_for_timeout(200)  # a page with this policy refuses wait_for_function
        times.append(float(page.evaluate("window.firstCard")))
        page.close()
    return round(statistics.median(times), 1)


if __name__ == "__main__":
    main()
