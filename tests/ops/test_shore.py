"""The page of `make run` in a real browser, as two people use it: every deed arrives, faults show and go."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import APIResponse, Browser, Locator, Page, Route, expect

from ops.shore.controls import Controls
from ops.shore.front import PAGE, shore
from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.swagger_ui import swagger_ui
from ops.stack.fetch.wheel import Wheel, unpack_member
from ops.stack.servers.process import stop_processes
from ops.system import System
from tests.ops.test_console import PHONE, headless_chromium

DESK = {"width": 1200, "height": 900}
WEIGHT_BYTES = 150_000
WITHIN_MS = 20_000
AXE_WHEEL = Wheel(
    requirement="axe-playwright-python==0.1.8",
    file_name="axe_playwright_python-0.1.8-py3-none-any.whl",
    sha256="fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8",
    size=1,
)
ATTACKS = (
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    '"><svg onload=alert(1)>',
    "{{7*7}} ${7*7}",
    "javascript:alert(1)",
    "\u202egnihsif",
    "a\u0301\ufeff\u200b",
)
SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=WITHIN_MS)
    with headless_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def own_system() -> Iterator[System]:
    """These tests stop its servers, so no other tests use it."""
    with System({**os.environ, "TIDEMARK_API_PAGES": str(swagger_ui())}) as system:
        yield system


@dataclass
class Shore:
    """The page for one test; the buttons of the page are carried out by `press`."""

    system: System
    controls: Controls
    browser: Browser
    errors: list[str]

    def open(self, hash: str = "#both", **options: object) -> Page:
        page = self.browser.new_page(**{"viewport": DESK, **options})  # type: ignore[arg-type]
        page.set_default_timeout(WITHIN_MS)
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.add_init_script(SHIFTS)
        page.goto(f"{self.system.url('shore')}/{hash}")
        for name in re.findall("jane|joe", "jane joe" if hash == "#both" else hash):
            join(screen(page, name))
        return page

    def press(self, page: Page, name: str) -> None:
        """Press a button that acts on the servers, and let it act."""
        page.get_by_role("button", name=name, exact=True).click()
        self.controls.carry_out(10)

    def write(self, name: str, method: str, path: str, **body: str) -> httpx2.Response:
        """As somebody whose page is elsewhere."""
        headers = {"authorization": f"Bearer {self.system.token(name)}"}
        url = f"{self.system.url('writer')}{path}"
        answer = httpx2.request(method, url, headers=headers, json=body or None, timeout=15, trust_env=False)
        assert answer.is_success, answer.text
        return answer


Open = Callable[..., contextlib.AbstractContextManager[Shore]]


@pytest.fixture
def given(browser: Browser, own_system: System) -> Open:
    @contextlib.contextmanager
    def opened(**settings: int) -> Iterator[Shore]:
        with shore(own_system, **settings) as controls:
            its = Shore(own_system, controls, browser, [])
            try:
                yield its
            finally:
                for context in browser.contexts:
                    context.close()

    return opened


@pytest.fixture
def its(given: Open) -> Iterator[Shore]:
    with given() as its:
        yield its


def screen(page: Page, name: str) -> Locator:
    return page.locator(f"[data-person={name}]")


def join(person: Locator) -> None:
    expect(person.locator("[role=status]")).to_have_text("live")
    form = person.locator(".composer form:visible")
    expect(form).to_be_visible()
    if "Join" in form.inner_text():
        form.get_by_role("button").click()
    expect(person.get_by_label("A post, with")).to_be_visible()


def post(person: Locator, text: str) -> Locator:
    """Write a post; returns its card."""
    person.get_by_label("A post, with").fill(text)
    person.get_by_role("button", name="Post", exact=True).click()
    return card(person, text)


def card(person: Locator, text: str) -> Locator:
    return person.get_by_role("article").filter(has_text=text)


def twice(button: Locator, question: str) -> None:
    button.click()
    button.page.get_by_role("button", name=question).click()


@pytest.mark.server
def test_two_browsers_share_a_life_from_joining_to_leaving(its: Shore) -> None:
    jane, joe = screen(its.open("#jane"), "jane"), screen(its.open("#joe"), "joe")
    own = post(jane, "High #water at noon, @joe")
    seen = card(joe, "High #water")
    expect(seen).to_be_visible()
    expect(joe.get_by_role("button", name="Notifications, 1 unread")).to_be_visible()

    seen.get_by_role("button", name="Like, 0 so far").click()
    expect(own.get_by_role("button", name="Like, 1 so far")).to_have_attribute("aria-pressed", "false")
    expect(seen.get_by_role("button", name="Like, 1 so far")).to_have_attribute("aria-pressed", "true")
    seen.get_by_role("button", name="Comments, 0 so far").click()
    seen.get_by_label("A comment").fill("Bring boots")
    seen.get_by_role("button", name="Comment", exact=True).click()
    own.get_by_role("button", name="Comments, 1 so far").click()
    expect(own.get_by_role("listitem")).to_contain_text("Joe Bring boots")

    seen.get_by_role("button", name="Jane").click()
    joe.get_by_role("button", name="Follow", exact=True).click()
    expect(joe.locator(".profile")).to_contain_text("1 posts, 1 followers")
    joe.get_by_role("button", name="Feed").click()
    expect(card(joe, "High #water")).to_be_visible()
    joe.get_by_role("button", name="Hot").click()
    card(joe, "High #water").get_by_role("button", name="#water").click()
    expect(joe.get_by_role("heading", name="#water")).to_be_visible()
    expect(card(joe, "High #water")).to_be_visible()

    jane.get_by_role("button", name="Notifications, 3 unread").click()
    for text in ("Joe follows you", "Joe likes your post", "Joe commented on your post"):
        expect(jane.get_by_role("button", name=text)).to_be_visible()
    jane.get_by_role("button", name="Mark all as read").click()
    expect(jane.get_by_role("button", name="Notifications, 0 unread")).to_be_visible()

    jane.get_by_role("button", name="Profile").click()
    twice(card(jane, "High #water").get_by_role("button", name="Delete"), "Delete for good?")
    expect(card(joe, "High #water")).to_have_count(0)
    twice(jane.get_by_role("button", name="Delete my account"), "Delete all of it?")
    expect(jane.get_by_role("button", name="Join as Jane")).to_be_visible()
    assert its.errors == []


@pytest.mark.server
def test_a_like_shows_at_once_and_goes_back_when_refused(its: Shore) -> None:
    page = its.open()
    joe, liked = screen(page, "joe"), card(screen(page, "joe"), "Refuse me")
    post(screen(page, "jane"), "Refuse me")
    expect(liked).to_be_visible()
    held: list[Route] = []
    page.route("**/like", lambda route: held.append(route))
    liked.get_by_role("button", name="Like").click()
    expect(liked.get_by_role("button", name="Like, 1 so far")).to_have_attribute("aria-pressed", "true")
    held[0].fulfill(status=403, json={"detail": "Not you."})
    expect(joe.get_by_role("alert")).to_have_text("Not you.")
    expect(liked.get_by_role("button", name="Like, 0 so far")).to_have_attribute("aria-pressed", "false")


@pytest.mark.server
def test_a_refused_post_gives_its_draft_back(its: Shore) -> None:
    page = its.open("#jane")
    jane = screen(page, "jane")
    page.route("**/post", lambda route: route.fulfill(status=422, json={"detail": "Too wet."}))
    post(jane, "A draft")
    expect(jane.get_by_role("alert")).to_have_text("Too wet.")
    expect(jane.get_by_label("A post, with")).to_have_value("A draft")
    expect(card(jane, "A draft")).to_have_count(0)


@pytest.mark.server
def test_a_post_that_is_read_before_its_answer_shows_once(its: Shore) -> None:
    page = its.open()
    jane, joe = screen(page, "jane"), screen(page, "joe")
    text = "Read before the answer"
    with held(page, "**/post") as answers:
        post(jane, text)
        read = jane.locator(".card:not([data-post=''])").filter(has_text=text)
        expect(read).to_have_count(1)
        expect(card(jane, text)).to_have_count(1)
        post(jane, text)
        expect(read).to_have_count(2)
        expect(card(jane, text)).to_have_count(2)
        expect(card(joe, text)).to_have_count(2)
        assert len(answers) == 2
    for place in ("mysql", "own", "other"):
        expect(page.locator(f"#way-{place} output")).to_contain_text("ms")
    expect(card(jane, text)).to_have_count(2)
    expect(jane.locator(".card[data-post='']")).to_have_count(0)


@pytest.mark.server
def test_a_comment_that_is_read_before_its_answer_shows_once(its: Shore) -> None:
    page = its.open("#jane")
    own = post(screen(page, "jane"), "Comment on me")
    own.get_by_role("button", name="Comments, 0 so far").click()
    busy = own.locator("li[aria-busy]")
    for number in (1, 2):
        with held(page, "**/comment"):
            own.get_by_label("A comment").fill("Read before the answer")
            own.get_by_role("button", name="Comment", exact=True).click()
            expect(own.get_by_role("button", name="Delete", exact=True)).to_have_count(1 + number)
            expect(busy).to_have_count(0)
            expect(own.get_by_role("listitem")).to_have_count(number)
        expect(page.locator("#way-own output")).to_contain_text("ms")
        expect(own.get_by_role("listitem")).to_have_count(number)


@contextlib.contextmanager
def held(page: Page, path: str) -> Iterator[list[tuple[Route, APIResponse]]]:
    """The writer acts at once; its answers reach the page at the end of the block."""
    answers: list[tuple[Route, APIResponse]] = []
    page.route(path, lambda route: answers.append((route, route.fetch())))
    yield answers
    for route, response in answers:
        route.fulfill(response=response)
    page.unroute(path)


@pytest.mark.server
def test_a_mention_of_nobody_leads_to_an_answer(its: Shore) -> None:
    jane = screen(its.open("#jane"), "jane")
    post(jane, "Is @nobody_here there?").get_by_role("button", name="@nobody_here").click()
    expect(jane.locator(".list")).to_have_text("Nothing here yet.")


@pytest.mark.server
def test_the_way_of_a_write_has_a_time_at_each_place(its: Shore) -> None:
    page = its.open()
    expect(page.locator("#lag")).to_have_text(re.compile(r"\d s$"))
    post(screen(page, "jane"), "On its way")
    expect(page.locator("#write")).to_have_text("Jane posts.")
    for place in ("mysql", "mongodb", "redis", "own", "other"):
        expect(page.locator(f"#way-{place} output")).to_have_text(re.compile(r"^\d+(\.\d)? ms$"))
    for stage in ("mongodb", "redis"):
        expect(page.locator(f"#way-{stage} small")).to_have_text(
            re.compile(r"^(the last batch|mean of \d+ batches)$")
        )
    expect(page.locator("#way-other b")).to_have_text("Joe's screen")
    expect(card(screen(page, "joe"), "On its way").locator(".origin")).to_have_text(
        re.compile(r"^from (local|Redis|MongoDB), as of \d+(\.\d)? s ago$")
    )


@pytest.mark.server
def test_without_redis_readers_see_mongodb_until_it_is_back(its: Shore) -> None:
    page = its.open()
    joe = screen(page, "joe")
    post(joe, "Before Redis went away")
    expect(card(joe, "Before Redis").locator(".origin")).to_contain_text(re.compile("from (local|Redis)"))
    its.press(page, "Stop Redis")
    expect(page.locator("#part-redis")).to_have_text("stopped")
    expect(joe.locator("header [role=status]")).to_have_text("the tide stands still")
    its.write("jane", "POST", "/post", body="Redis is away")
    for text in ("Redis is away", "Before Redis"):
        expect(card(joe, text).locator(".origin")).to_contain_text("from MongoDB")
    its.press(page, "Start Redis")
    expect(page.locator("#part-redis")).to_have_text("running")
    expect(joe.locator("header [role=status]")).to_have_text("live")
    its.system.check()


@pytest.mark.server
@pytest.mark.parametrize("press", ["Stop the projector", "Kill the projector"])
def test_without_projector_a_write_waits_until_it_is_back(its: Shore, press: str) -> None:
    page = its.open()
    jane, joe = screen(page, "jane"), screen(page, "joe")
    its.press(page, press)
    expect(page.locator("#part-projector")).to_have_text("stopped")
    text = f"Written, then: {press}"
    post(jane, text)
    expect(page.locator("#way-mysql output")).to_have_text(re.compile(r"\d ms$"))
    expect(card(jane, text).locator(".origin")).to_have_text("on its way")
    for place in ("mongodb", "redis", "own", "other"):
        assert page.locator(f"#way-{place} output").inner_text() == "-"
    assert card(joe, text).count() == 0
    its.press(page, "Start the projector")
    expect(card(joe, text)).to_be_visible()
    for place in ("mongodb", "redis", "own", "other"):
        expect(page.locator(f"#way-{place} output")).to_have_text(re.compile(r"\d ms$"))
    expect(joe.locator("header [role=status]")).to_have_text("live")
    its.system.check()


@pytest.mark.server
def test_a_crowd_likes_a_post_and_the_counter_is_exact(given: Open) -> None:
    with given(people=300) as its:
        page = its.open()
        its.press(page, "10,000 likes")
        told = page.locator("#load")
        expect(told).to_contain_text("MySQL has 300, the reader shows 300: exact.", timeout=60_000)
        crowd = card(screen(page, "joe"), "people like this post")
        expect(crowd.get_by_role("button", name="Like, 300 so far")).to_be_visible()


@pytest.mark.server
def test_a_load_that_fails_says_why(given: Open) -> None:
    with given(people=10) as its:
        page = its.open("#jane")
        reader = its.system.children["reader"]
        stop_processes([reader.identity], 25)
        assert not reader.is_running()
        its.press(page, "10,000 likes")
        expect(page.locator("#load")).to_have_text(re.compile(r"^\[Errno \d+\] Connect"))
        its.system.start_again("reader")
        expect(screen(page, "jane").locator("header [role=status]")).to_have_text("live")


@pytest.mark.server
def test_an_act_that_the_disk_refuses_is_told_and_ends_nothing(its: Shore) -> None:
    page = its.open("#before")
    log = its.system.stack.directory / "load.log"
    log.unlink(missing_ok=True)
    log.mkdir()
    its.press(page, "Read it from both")
    expect(page.locator("#compared")).to_contain_text("Is a directory")
    log.rmdir()


@pytest.mark.server
def test_before_and_after_says_what_it_lacks(its: Shore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncmy", None)  # as after `make run` alone
    page = its.open("#before")
    its.press(page, "Read it from both")
    expect(page.locator("#compared")).to_contain_text("`make dev`")


@pytest.mark.server
def test_before_and_after_read_the_same_post_in_turns(its: Shore) -> None:
    its.write("jane", "POST", "/post", body="Read me from both")
    page = its.open("#before")
    its.press(page, "Read it from both")
    expect(page.locator("#compared")).to_contain_text("times as many", timeout=60_000)
    for chart in ("rate", "slow"):
        label = page.locator(f"#chart-{chart} svg").get_attribute("aria-label") or ""
        assert re.search(r"before: [\d.,]+, after: [\d.,]+$", label), label
        assert page.locator(f"#chart-{chart} polyline.after").get_attribute("points")


@pytest.mark.server
def test_a_lost_connection_comes_back_with_what_was_missed(its: Shore) -> None:
    page = its.open("#jane")
    jane = screen(page, "jane")
    jane.get_by_label("A post, with").fill("a draft")
    reader = its.system.children["reader"]
    stop_processes([reader.identity], 25)
    assert not reader.is_running()
    expect(jane.locator("header [role=status]")).to_contain_text("connection lost")
    tries: list[str] = []
    page.on("websocket", lambda socket: tries.append(socket.url))
    page.evaluate("for (const _ of [1, 2]) dispatchEvent(new Event('online'))")
    page.wait_for_timeout(300)
    assert len(tries) == 1
    its.write("jane", "POST", "/post", body="Written meanwhile")
    its.system.start_again("reader")
    expect(card(jane, "Written meanwhile")).to_be_visible()
    expect(jane.locator("header [role=status]")).to_have_text("live")
    expect(jane.get_by_label("A post, with")).to_have_value("a draft")


@pytest.mark.server
def test_a_token_is_renewed_on_the_open_connection_and_the_draft_stays(given: Open) -> None:
    with given(token_seconds=4) as its:
        page = its.browser.new_page()
        page.on("websocket", lambda socket: sockets.append(socket.url))
        sockets: list[str] = []
        page.goto(f"{its.system.url('shore')}/#jane")
        jane = screen(page, "jane")
        join(jane)
        jane.get_by_label("A post, with").fill("written over three tokens")
        for _ in range(3):  # each after half of a token's life
            page.wait_for_event("request", lambda request: request.url.endswith("/session"))
        jane.get_by_role("button", name="Post", exact=True).click()
        expect(card(jane, "over three tokens")).to_have_attribute("aria-busy", "false")
        assert len(sockets) == 1
        assert not any("bearer" in url or "?" in url for url in sockets)


@pytest.mark.server
def test_texts_of_attackers_are_shown_as_text(its: Shore) -> None:
    page = its.open("#jane")
    page.on("dialog", lambda dialog: its.errors.append(dialog.message))
    for number, attack in enumerate(ATTACKS):
        its.write("jane", "POST", "/post", body=f"{number} {attack}")
    for number, attack in enumerate(ATTACKS):
        shown = page.locator(".body").filter(has_text=re.compile(rf"^{number} "))
        expect(shown).to_be_visible()
        assert shown.text_content() == f"{number} {attack}"
    assert page.title() == "Tidemark: the shore"
    assert page.locator(".body script, .body img, .body svg").count() == 0
    assert its.errors == []


@pytest.mark.server
def test_the_first_reads_do_not_wait_for_the_other_modules(its: Shore) -> None:
    page = its.browser.new_page()
    late: list[Route] = []
    page.route("**/page/screen.js", lambda route: late.append(route))
    with page.expect_request("**/posts?*", timeout=WITHIN_MS):
        page.goto(its.system.url("shore"), wait_until="commit")
    assert len(late) == 1
    late[0].continue_()
    join(screen(page, "jane"))


def test_the_page_names_each_module_that_its_start_imports() -> None:
    named = re.findall(r'"/page/(\w+\.js)"', (PAGE / "index.html").read_text())
    imported = ["first.js", "main.js"]
    for name in imported:
        found = re.findall(r'^import .* from "\./(.+)";$', (PAGE / name).read_text(), re.MULTILINE)
        imported += [each for each in found if each not in imported]
    assert sorted(named) == sorted(imported)


def test_no_module_of_the_page_writes_markup() -> None:
    for path in PAGE.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", path.read_text()
        ), path


def test_the_page_weighs_less_than_150_kb_and_loads_nothing_from_elsewhere() -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < WEIGHT_BYTES
    for path in files:
        found = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text()))
        assert found <= {"http://www.w3.org/2000/svg"}, path


@pytest.mark.server
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(its: Shore, scheme: str) -> None:
    page = its.open(color_scheme=scheme)
    jane = screen(page, "jane")
    talk = post(jane, f"For every reader, {scheme} #tide").get_by_role("button", name="Comments")
    talk.click()
    problems = serious(page)
    jane.get_by_role("button", name="Notifications").click()
    problems += serious(page, within="[data-person=jane]")
    jane.get_by_role("button", name="Profile").click()
    expect(jane.locator(".profile")).to_be_visible()
    problems += serious(page, within=".profile")
    page.goto(f"{its.system.url('shore')}/#before")
    problems += serious(page, within="#before")
    assert problems == []


def serious(page: Page, within: str = "html") -> list[str]:
    page.evaluate(axe())
    found = page.evaluate("within => axe.run(within, {resultTypes: ['violations']})", within)["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def axe() -> str:
    folder = cache_folder() / "axe-0.1.8"
    fill = partial(unpack_member, AXE_WHEEL.download(cache_folder() / "wheels"), "/axe.min.js")
    return (completed(folder, fill) / "axe.min.js").read_text()


@pytest.mark.server
def test_a_keyboard_suffices_to_post_and_to_like(its: Shore) -> None:
    page = its.open("#jane")
    jane = screen(page, "jane")
    jane.get_by_label("A post, with").focus()
    page.keyboard.type("By keyboard alone")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    own = card(jane, "By keyboard alone")
    expect(own).to_have_attribute("aria-busy", "false")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "like":
            break
    page.keyboard.press("Space")
    expect(own.get_by_role("button", name="Like, 1 so far")).to_have_attribute("aria-pressed", "true")
    expect(own.get_by_role("button", name="Like, 1 so far")).to_be_focused()


@pytest.mark.server
def test_a_phone_shows_long_words_and_any_script_without_scrolling_sideways(its: Shore) -> None:
    page = its.open("", viewport=PHONE)
    jane = screen(page, "jane")
    join(jane)
    assert screen(page, "joe").count() == 0
    for text in ("w" * 2_000, "مرحبا بالعالم #مد", "🌊" * 300, "line\n" * 200):
        its.write("jane", "POST", "/post", body=text)
        expect(card(jane, text.strip()[:20]).first).to_be_visible()
    card(jane, "www").get_by_role("button", name="Comments").click()
    expect(jane.get_by_label("A comment")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert (
        page.locator(".body", has_text="مرحبا").evaluate("each => getComputedStyle(each).direction") == "rtl"
    )


@pytest.mark.server
def test_nothing_moves_when_a_state_arrives(its: Shore) -> None:
    page = its.open("#jane")
    its.write("joe", "PUT", "/user/me", handle="joe", display_name="Joe")
    own = post(screen(page, "jane"), "Hold still")
    expect(own).to_have_attribute("aria-busy", "false")
    id = own.get_attribute("data-post")
    page.wait_for_timeout(1_000)
    page.evaluate("window.shifted = 0")
    its.write("joe", "PUT", f"/post/{id}/like")
    its.write("joe", "POST", f"/post/{id}/comment", body="Still")
    expect(own.get_by_role("button", name="Like, 1 so far")).to_be_visible()
    expect(own.get_by_role("button", name="Comments, 1 so far")).to_be_visible()
    page.wait_for_timeout(500)
    assert page.evaluate("window.shifted") == 0


@pytest.mark.server
@pytest.mark.parametrize(("service", "operation"), [("writer", "PUT /user/me"), ("reader", "GET /user/me")])
def test_docs_shows_the_api_and_tries_it_with_a_token(its: Shore, service: str, operation: str) -> None:
    its.write("jane", "PUT", "/user/me", handle="jane", display_name="Jane")
    page = its.open("#before")
    with page.expect_popup() as opened:
        page.get_by_role("link", name=f"{service.title()}'s API").click()
    docs = opened.value
    docs.on("console", lambda said: its.errors.append(said.text) if said.type == "error" else None)
    docs.get_by_role("button", name="Authorize").first.click()
    docs.get_by_role("textbox").fill(its.system.token("jane"))
    docs.get_by_role("button", name="Apply credentials").click()
    docs.get_by_role("button", name="Close").click()
    method, path = operation.split()
    tried = docs.locator(f".opblock-{method.lower()}").filter(has=docs.get_by_text(path, exact=True)).first
    tried.locator("button").first.click()
    tried.get_by_role("button", name="Try it out").click()
    tried.get_by_role("button", name="Execute").click()
    expect(tried.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    assert its.errors == []


@pytest.mark.server
def test_only_the_page_itself_gets_tokens_and_acts(its: Shore) -> None:
    url = its.system.url("shore")
    own = {"origin": url, "x-shore": "1"}

    def status(path: str, method: str = "POST", **headers: str) -> int:
        return httpx2.request(method, url + path, headers=headers, trust_env=False).status_code

    assert status("/session", **own) == 200
    assert status("/session", **{**own, "origin": "http://attacker.example"}) == 403
    assert status("/session", origin=url) == 403
    assert status("/session", **{**own, "host": "attacker.example"}) == 403
    assert status("/session", "GET", **own) == 405
    assert status("/act/stop-redis", **own) == 401
    assert status("/figures", "GET", **own, authorization="Bearer guessed") == 401
    assert its.system.stack.redis.is_running()


@pytest.mark.server
def test_no_token_stands_in_a_log_or_in_an_address(its: Shore) -> None:
    page = its.browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.goto(its.system.url("shore"))
    join(screen(page, "jane"))
    logs = [path.read_text(errors="replace") for path in its.system.stack.directory.rglob("*.log")]
    assert len(asked) > 10
    assert not any("eyJ" in text for text in [*asked, *logs])


def test_each_module_can_be_read_at_once() -> None:
    for path in [*PAGE.glob("*.js"), *Path(PAGE.parent).glob("*.py")]:
        lines = path.read_text().splitlines()
        assert len(lines) <= 250 and max(map(len, lines)) <= 120, path
