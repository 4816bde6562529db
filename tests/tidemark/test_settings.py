"""A bad setting names its variable, and no secret is ever shown."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tidemark.settings import (
    Address,
    SettingError,
    address,
    effective,
    load,
    origins,
    secret_key,
    url,
    variable,
    whole_number,
)


@dataclass(frozen=True)
class Example:
    store: str = variable("TIDEMARK_STORE", url("mysql"), secret=True)
    bind: Address = variable("TIDEMARK_BIND", address, "127.0.0.1:80")
    size: int = variable("TIDEMARK_SIZE", whole_number(1, 9), "3")
    key: str = variable("TIDEMARK_KEY", secret_key, secret=True)


GOOD = {"TIDEMARK_STORE": "mysql://me:hush@db/x", "TIDEMARK_KEY": "k" * 32}


def test_defaults_and_values() -> None:
    found = load(Example, {**GOOD, "TIDEMARK_SIZE": "9"})
    assert (found.bind, found.size) == (Address("127.0.0.1", 80), 9)


def test_secrets_are_masked() -> None:
    shown = effective(load(Example, GOOD))
    assert shown["TIDEMARK_STORE"] == "mysql://me:***@db/x"
    assert shown["TIDEMARK_KEY"] == "***"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIDEMARK_STORE", ""),
        ("TIDEMARK_STORE", "redis://hush@h"),
        ("TIDEMARK_STORE", "mysql://me:hush-hush@[::1/x"),
        ("TIDEMARK_BIND", "80"),
        ("TIDEMARK_BIND", "h:99999"),
        ("TIDEMARK_SIZE", "0"),
        ("TIDEMARK_SIZE", "ten"),
        ("TIDEMARK_SIZE", "\u0665"),
        ("TIDEMARK_SIZE", "9" * 5000),
        ("TIDEMARK_KEY", "hush-hush"),
    ],
)
def test_a_bad_value_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}(=.*: should | is not set)") as caught:
        load(Example, {**GOOD, name: value})
    assert "hush-hush" not in str(caught.value)


def test_an_origin_is_written_as_browsers_send_it() -> None:
    given = "https://app.example.org, http://localhost:3000,capacitor://localhost,"
    assert origins(given) == ("https://app.example.org", "http://localhost:3000", "capacitor://localhost")
    for never_sent in ("*", "app.example.org", "https://a.org/", "https://A.org", "https://a.org:443"):
        with pytest.raises(ValueError, match="should be origins"):
            origins(never_sent)
