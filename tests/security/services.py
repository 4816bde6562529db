"""Tokens for attackers that have an account."""

from __future__ import annotations

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from tests.conftest import AUTH


def bearer(subject: str, *scopes: str) -> dict[str, str]:
    token = mint(AuthSettings.from_environ(AUTH), subject, scopes or ("read", "write"), 600)
    return {"Authorization": f"Bearer {token}"}
