"""One frozen dataclass of settings per service, read once from TIDEMARK_* variables.

The error of a bad value names the variable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")
U = TypeVar("U")
ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://[a-z0-9.-]+(:[1-9][0-9]*)?")


class SettingError(Exception):
    """A TIDEMARK_* variable is missing or unusable: each line names one and says what it should be."""


@dataclasses.dataclass(frozen=True)
class Address:
    """The address at which a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("should be host:port")
    return Address(host, int(port))


def url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        with contextlib.suppress(ValueError):  # of urlsplit
            if urlsplit(text).scheme in schemes and urlsplit(text).hostname:
                return text
        raise ValueError(
            f"should be a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        )

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"should be one of {', '.join(words)}")
        return text

    return parse


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text.isascii() and text.isdecimal() and len(text) < 20  # int() refuses very long texts
        if not digits or not least <= int(text) <= most:
            raise ValueError(f"should be a whole number from {least} to {most}")
        return int(text)

    return parse


def origins(text: str) -> tuple[str, ...]:
    """Origins as browsers write them (RFC 6454, 6.2), separated by commas; a default port is left out."""
    given = tuple(filter(None, map(str.strip, text.split(","))))
    if not all(ORIGIN.fullmatch(one) for one in given):
        raise ValueError("should be origins in lower case, such as https://app.example.org, between commas")
    return given


def secret_key(text: str) -> str:
    if len(text.encode()) < 32:
        raise ValueError("should have at least 32 bytes")
    return text


def variable(
    name: str, parse: Callable[[str], T], default: str | None = None, *, secret: bool = False
) -> Any:
    """Declare a field that is read from the environment variable `name`; no `default`: it is required."""
    return dataclasses.field(
        metadata={"variable": name, "parse": parse, "default": default, "secret": secret}
    )


def bad_value(name: str, text: str, should: object, *, secret: bool = False) -> SettingError:
    """The error of a variable; `should` says what its value should be, or what to do."""
    return SettingError(f"{name}={_masked(text, secret)!r}: {should}")


def load(settings: type[T], environ: Mapping[str, str]) -> T:
    """Read every declared variable of `settings`. Raises SettingError with a line for each fault."""
    found, faults = {}, []
    for field in _declared(settings):
        try:
            found[field.name] = _read(field, environ)
        except SettingError as error:
            faults.append(str(error))
    if faults:
        raise SettingError("\n".join(faults))
    return settings(**found)


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Two parts of the settings. Raises SettingError with the faults of both."""
    try:
        one = first()
    except SettingError as error:
        try:
            second()
        except SettingError as more:
            raise SettingError(f"{error}\n{more}") from error
        raise
    return one, second()


def variables(settings: type) -> dict[str, str | None]:
    """The variables that a settings class reads, with their defaults (None: required)."""
    return {field.metadata["variable"]: field.metadata["default"] for field in _declared(settings)}


def effective(settings: object) -> dict[str, str]:
    """Variable -> value in force, with secrets masked for the log."""
    return {
        field.metadata["variable"]: _masked(str(getattr(settings, field.name)), field.metadata["secret"])
        for field in _declared(type(settings))
    }


def _declared(settings: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(settings) if "variable" in field.metadata]


def _read(field: dataclasses.Field[Any], environ: Mapping[str, str]) -> Any:
    name = field.metadata["variable"]
    text = environ.get(name) or field.metadata["default"]
    if text is None:
        raise SettingError(f"{name} is not set")
    try:
        return field.metadata["parse"](text)
    except ValueError as error:
        raise bad_value(name, text, error, secret=field.metadata["secret"]) from error


def _masked(text: str, secret: bool) -> str:
    try:
        parts = urlsplit(text) if "://" in text else None
    except ValueError:  # there may be a password in it
        return "***"
    if parts is not None and parts.password is not None:
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))
    return "***" if secret and parts is None else text
