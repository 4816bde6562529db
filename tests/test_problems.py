"""Every problem that the code can answer has a page, and the services serve that page to anybody."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from reader.app import Reader
from reader.settings import ReaderSettings
from tests.conftest import AUTH
from tests.support.harness import ROOT
from tests.support.tokens import AUTH_SETTINGS, bearer
from tests.test_docs import listed, tracked
from tidemark.problems import TYPES
from tidemark.settings import load
from writer.app import create_app
from writer.settings import WriterSettings

NAME = re.compile(r"[a-z]+(?:-[a-z]+)*")
RAISED = re.compile(r'\b([45]\d\d),\s*"([a-z]+(?:-[a-z]+)*)"')
SERVICES = ("authorizer_lambda/*.py", "reader/*.py", "tidemark/*.py", "writer/*.py")
NO_STORES = {
    **AUTH,
    "TIDEMARK_WRITER_MYSQL_URL": "mysql://u:p@127.0.0.1:1/tidemark",
    "TIDEMARK_READER_MONGODB_URL": "mongodb://u:p@127.0.0.1:1/tidemark",
    "TIDEMARK_READER_REDIS_URL": "redis://127.0.0.1:1",
}
WRITER = TestClient(create_app(load(WriterSettings, NO_STORES), AUTH_SETTINGS))
READER = TestClient(Reader(load(ReaderSettings, NO_STORES), AUTH_SETTINGS).app)


def test_every_problem_in_the_code_is_a_type_with_its_status() -> None:
    texts = [path.read_text() for path in tracked(*SERVICES)]
    raised = {pair for text in texts for pair in RAISED.findall(text)}
    assert len(raised) > 30
    for status, name in raised:
        assert status in TYPES[name][0], name
    elsewhere = "".join(texts) + (ROOT / "docker/nginx/nginx.conf").read_text()
    for name in TYPES:
        assert re.search(rf'[/"]{name}"', elsewhere.replace(f'    "{name}": (', "")), name


def test_the_page_of_problems_says_what_the_services_say() -> None:
    text = (ROOT / "docs/problems.md").read_text().replace("\n  ", " ")
    said = {name: (more, rest) for name, more, rest in re.findall(r"^- `(\S+)` \((.+?)\): (.*)$", text, re.M)}
    assert said == TYPES
    assert listed("docs/problems.md", NAME).keys() == TYPES.keys()


@pytest.mark.parametrize("service", [WRITER, READER], ids=["writer", "reader"])
def test_a_type_leads_to_its_meaning_without_a_token(service: TestClient) -> None:
    refused = service.get("/nowhere")
    assert refused.status_code == 401
    answer = service.get(refused.json()["type"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text.startswith("Unauthorized (401)\n") and TYPES["unauthorized"][1] in answer.text
    for name in TYPES:
        assert TYPES[name][1] in service.get(f"/problems/{name}").text
    assert service.get("/problems/nonsense").status_code == 401
    assert service.get("/problems/nonsense", headers=bearer("jane")).status_code == 404


@pytest.mark.parametrize("service", [WRITER, READER], ids=["writer", "reader"])
def test_an_unknown_path_has_a_type_of_its_own(service: TestClient) -> None:
    answer = service.get("/nowhere", headers=bearer("jane"))
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-path")
