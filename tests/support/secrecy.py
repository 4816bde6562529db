"""Secrets that no log may hold: those of a process's environment, bearer tokens, passwords in URLs, keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

SHAPES = {
    "a bearer token": re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"),
    "a password in a URL": re.compile(r"\b[a-z+]+://[^\s/:@'\"]*:(?!\*\*\*@|\.\.\.@)[^\s/@'\"]+@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
SECRET = re.compile(r"TIDEMARK_\w+_(SECRET|TOKEN)")
URL = re.compile(r"TIDEMARK_\w+_URL")


def leaks(text: str, environment: Mapping[str, str]) -> list[str]:
    """The kinds of secrets in `text`, without their values."""
    shapes = [what for what, shape in SHAPES.items() if shape.search(text)]
    return shapes + [f"the secret of {name}" for name, secret in _secrets(environment) if secret in text]


def _secrets(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if SECRET.fullmatch(name):
            yield from ((name, secret) for secret in value.split(",") if secret)
        elif URL.fullmatch(name) and (password := urlsplit(value).password):
            yield from ((name, secret) for secret in {password, unquote(password)} if len(secret) >= 8)
