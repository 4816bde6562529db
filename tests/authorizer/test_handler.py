"""The Lambda entry knows every event format; every refusal is API Gateway's 401 with a reason in the log."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from typing import Any

import pytest

from authorizer_lambda.handler import authorize
from tests.authorizer.attacks import ATTACKS
from tests.authorizer.forging import ENVIRONMENT, NOW, SETTINGS, good_token
from tests.authorizer.gateway import (
    METHODS,
    STAGE,
    allows,
    http_api_1_event,
    http_api_2_event,
    request_event,
    token_event,
)
from tests.authorizer.processes import run_python

GOOD = f"Bearer {good_token()}"
REFUSED = {"isAuthorized": False, "context": {}}
LAMBDA = """
import json, os, sys
from authorizer_lambda.handler import handler
event = json.load(sys.stdin)
answer = handler(event, None)
os.environ.clear()
assert handler(event, None) == answer, "settings are read at the first invocation only"
print(json.dumps(answer))
"""


def _is_refused(event: Any) -> bool:
    """True for exactly the exception that API Gateway turns into 401."""
    with pytest.raises(Exception, match=r"^Unauthorized$") as refusal:
        authorize(event, SETTINGS, NOW)
    return type(refusal.value) is Exception and refusal.value.__suppress_context__


@pytest.mark.parametrize("event", [token_event(GOOD), request_event(GOOD), http_api_1_event(GOOD)])
def test_policy_formats_get_a_policy(event: dict[str, Any]) -> None:
    answer = authorize(event, SETTINGS, NOW)
    assert all(allows(answer, f"{STAGE}/{method}/feed") for method in METHODS)
    assert answer["principalId"] == "jane"


def test_format_2_gets_a_simple_answer_for_its_method() -> None:
    read_only = f"Bearer {good_token(scope='read')}"
    for method in METHODS:
        answer = authorize(http_api_2_event(read_only, method), SETTINGS, NOW)
        assert answer == {
            "isAuthorized": method in ("GET", "HEAD"),
            "context": {"sub": "jane", "scope": "read", "exp": NOW + 600},
        }


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_header_names_are_found_in_any_case(name: str) -> None:
    for headers in ({"multiValueHeaders": {name: [GOOD]}}, {"headers": {name: GOOD}}):
        event = {"type": "REQUEST", "methodArn": f"{STAGE}/GET/feed"} | headers
        assert allows(authorize(event, SETTINGS, NOW), f"{STAGE}/GET/feed")


@pytest.mark.parametrize(
    "event",
    [
        request_event(),
        request_event(GOOD, GOOD),
        request_event(GOOD) | {"multiValueHeaders": {"Authorization": [GOOD], "authorization": [GOOD]}},
        request_event() | {"queryStringParameters": {"access_token": good_token(), "Authorization": GOOD}},
        request_event() | {"headers": None, "multiValueHeaders": None},
        request_event() | {"headers": {"Authorization": GOOD}},
        request_event() | {"headers": {"Cookie": GOOD}, "multiValueHeaders": {"Cookie": [GOOD]}},
        request_event() | {"authorizationToken": GOOD},
        request_event(GOOD) | {"type": "WEBSOCKET", "multiValueHeaders": {"Authorization": GOOD}},
        request_event("Basic YTpi"),
        token_event(""),
        token_event(good_token()),
        token_event(f"{GOOD},{GOOD}"),
        token_event(GOOD, arn="arn:aws:execute-api:*:*:*/*/GET/feed"),
        {"type": "TOKEN", "authorizationToken": GOOD},
        {"authorizationToken": GOOD, "methodArn": f"{STAGE}/GET/feed"},
        http_api_1_event(GOOD) | {"methodArn": None},
        {},
        None,
        [],
        "event",
        5,
    ],
)
def test_a_missing_or_doubled_token_or_a_broken_event_is_unauthorized(event: Any) -> None:
    assert _is_refused(event)


@pytest.mark.parametrize(
    "event", [http_api_2_event(a) for a in (None, "", "Basic YTpi", f"{GOOD},{GOOD}", GOOD[7:])]
)
def test_format_2_is_refused_with_its_own_answer(event: dict[str, Any]) -> None:
    assert authorize(event, SETTINGS, NOW) == REFUSED
    assert authorize({"version": "2.0"}, SETTINGS, NOW) == REFUSED


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_no_attack_gets_through_in_any_format(attack: Any) -> None:
    presented = f"Bearer {attack.token}"
    assert authorize(http_api_2_event(presented), SETTINGS, NOW) == REFUSED
    assert all(_is_refused(event(presented)) for event in (token_event, request_event, http_api_1_event))


def test_the_reason_is_logged_and_the_token_is_not(caplog: pytest.LogCaptureFixture) -> None:
    expired, later = f"Bearer {good_token()}", NOW + 700
    with caplog.at_level(logging.DEBUG):
        for event in (token_event(expired), request_event(expired)):
            with pytest.raises(Exception, match="Unauthorized"):
                authorize(event, SETTINGS, later)
        authorize(http_api_2_event(expired), SETTINGS, later)
        assert _is_refused({"type": "TOKEN", "authorizationToken": [GOOD]})
        assert _is_refused(token_event(GOOD, arn="secret-arn"))
    assert caplog.messages[:3] == ["refused: it has expired"] * 3
    assert caplog.messages[3:] == [
        "refused: TypeError",
        "refused: the ARN is not that of an execute-api stage",
    ]
    assert not any(part in caplog.text for part in (*expired[7:].split("."), "secret-arn", "Traceback"))


def _invoke(event: dict[str, Any], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One invocation as Lambda makes it: fresh process, settings in the environment, JSON in and out."""
    return run_python("-c", LAMBDA, environment=environment, stdin=json.dumps(event))


def test_the_entry_point_reads_its_settings_from_the_environment() -> None:
    now = int(time.time())
    event = token_event(f"Bearer {good_token(iat=now, exp=now + 60)}")
    assert allows(json.loads(_invoke(event, ENVIRONMENT).stdout), f"{STAGE}/GET/feed")
    refused = _invoke(token_event(GOOD), ENVIRONMENT | {"TIDEMARK_AUTH_SECRET": "y" * 32})
    assert refused.returncode == 1
    assert "refused: InvalidSignatureError" in refused.stderr
    assert refused.stderr.rstrip().endswith("\nException: Unauthorized")
    assert GOOD[7:] not in refused.stderr


def test_a_missing_setting_breaks_the_function_and_refuses_nobody() -> None:
    outcome = _invoke(token_event(GOOD), {})
    assert outcome.returncode == 1
    assert "tidemark.settings.SettingError: TIDEMARK_AUTH_ALGORITHM is not set" in outcome.stderr
    assert "Unauthorized" not in outcome.stderr
