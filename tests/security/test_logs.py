"""No log holds secrets or tokens. Every test that starts processes checks their logs; here is its test."""

from __future__ import annotations

import io

import pytest
import structlog

from tests.conftest import AUTH
from tests.support.harness import process
from tests.support.secrecy import leaks
from tests.support.tokens import token
from tidemark import logs

URLS = {"TIDEMARK_WRITER_MYSQL_URL": "mysql://writer:pass%2Fword-1@127.0.0.1:1/tidemark"}


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        (f"refused {token('jane')}", "a bearer token"),
        ("cannot reach redis://reader:hush@127.0.0.1:1/0", "a password in a URL"),
        ("-----BEGIN EC PRIVATE KEY-----", "a private key"),
        (f"settings {AUTH['TIDEMARK_AUTH_SECRET']}", "the secret of TIDEMARK_AUTH_SECRET"),
        ("using password pass/word-1", "the secret of TIDEMARK_WRITER_MYSQL_URL"),
        ("using password pass%2Fword-1", "the secret of TIDEMARK_WRITER_MYSQL_URL"),
    ],
    ids=["token", "url", "key", "secret", "password", "quoted password"],
)
def test_a_secret_in_a_process_log_fails_the_test_behind_it(
    capsys: pytest.CaptureFixture[str], text: str, leak: str
) -> None:
    with (
        pytest.raises(AssertionError, match=leak),
        process({**AUTH, **URLS}, "-c", f"print({text!r})") as started,
    ):
        started.popen.wait(timeout=30)
    shown = capsys.readouterr().err  # taken, so that the check of this test's own output finds no secret
    assert text in shown


def test_a_masked_or_short_secret_is_no_leak() -> None:
    text = "mysql://writer:***@127.0.0.1:1/tidemark, Bearer realm, eyJh.x.y, token ... 127.0.0.1:8001@home"
    assert leaks(text, {**AUTH, **URLS}) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["a terminal", "a file"])
def test_a_traceback_shows_no_values(stream: io.StringIO) -> None:
    configured = structlog.get_config()
    try:
        logs.configure("test", stream)
        fail_with(token("jane"))
    finally:
        structlog.configure(**configured)
    assert "ValueError" in stream.getvalue()
    assert leaks(stream.getvalue(), AUTH) == []


def fail_with(secret: str) -> None:
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger().exception("failed")
