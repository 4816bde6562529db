"""Tokens of the issuer that the tests' services trust."""

from __future__ import annotations

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from tests.conftest import AUTH

AUTH_SETTINGS = AuthSettings.from_environ(AUTH)


def token(subject: str, *scopes: str) -> str:
    """A token for two hours, longer than any run of the tests; without `scopes` it may read and write."""
    return mint(AUTH_SETTINGS, subject, scopes or ("read", "write"), 7200)


def bearer(subject: str, *scopes: str) -> dict[str, str]:
    """The header with such a token."""
    return {"Authorization": f"Bearer {token(subject, *scopes)}"}


def short_token(subject: str, seconds: int) -> str:
    """A token to read for so long."""
    return mint(AUTH_SETTINGS, subject, ["read"], seconds)
