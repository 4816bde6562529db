"""The AWS Lambda entry: an API Gateway authorizer event in, an IAM policy or a simple answer out."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from typing import Any

from authorizer_lambda.jwks import Jwks, KeysUnavailable
from authorizer_lambda.policy import MalformedArn, iam_policy, simple_answer
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import InvalidToken, bearer_token, key_id, verify

LOG = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an authorizer event: a TOKEN or REQUEST event (REST API, HTTP API 1.0) with a policy.

    For an event of format 2.0 the settings choose a policy or a simple answer. A refusal is an Exception
    ("Unauthorized"), which API Gateway answers with 401, unless a simple answer can refuse. Raises also
    SettingError and KeysUnavailable: API Gateway then answers 500, as the caller is not to blame.
    """
    return authorize(event, _settings())


@functools.cache
def _settings() -> AuthSettings:
    return AuthSettings.from_environ(os.environ)


def authorize(event: dict[str, Any], settings: AuthSettings, now: float | None = None) -> dict[str, Any]:
    """`handler` with its settings and clock (Unix seconds) passed in."""
    now = time.time() if now is None else now
    _fetch_keys(event, settings, now)
    return decide(event, settings, now)


def _fetch_keys(event: dict[str, Any], settings: AuthSettings, now: float) -> None:
    """Fetch keys if that is due. A Lambda serves one request at a time, so nobody else waits."""
    if isinstance(jwks := settings.key, Jwks):
        with contextlib.suppress(Exception):  # `decide` reports a bad event
            if jwks.is_due(key_id(bearer_token(_authorization_values(event)), settings), now):
                jwks.fetch(now)


def decide(event: dict[str, Any], settings: AuthSettings, now: float | None = None) -> dict[str, Any]:
    """`authorize` with the present keys; never waits for a network."""
    try:
        return _answer(event, settings, now)
    except KeysUnavailable:
        LOG.error("undecided: there are no keys to verify tokens with")
        raise
    except Exception as error:  # noqa: BLE001 - a crafted event is refused, and never becomes a 500
        LOG.warning("refused: %s", _reason(error))
        if _is_simple(event, settings):
            return {"isAuthorized": False, "context": {}}
        raise Exception("Unauthorized") from None


def _answer(event: dict[str, Any], settings: AuthSettings, now: float | None) -> dict[str, Any]:
    claims = verify(bearer_token(_authorization_values(event)), settings, now)
    if _is_simple(event, settings):
        return simple_answer(claims, event["requestContext"]["http"]["method"])
    return iam_policy(claims, event["routeArn"] if event.get("version") == "2.0" else event["methodArn"])


def _is_simple(event: object, settings: AuthSettings) -> bool:
    return settings.simple_responses and isinstance(event, dict) and event.get("version") == "2.0"


def _authorization_values(event: dict[str, Any]) -> list[str]:
    if event["type"] == "TOKEN":
        return [event["authorizationToken"]]
    single = {name: [value] for name, value in (event.get("headers") or {}).items()}
    headers: dict[str, list[str]] = event.get("multiValueHeaders") or single
    return [value for name, values in headers.items() if name.lower() == "authorization" for value in values]


def _reason(error: Exception) -> str:
    """The text of our own errors, which quote nothing of the event; of others, only the type."""
    return str(error) if isinstance(error, InvalidToken | MalformedArn) else type(error).__name__
