"""`python -m authorizer_lambda mint` prints a token that services accept, or names the missing setting."""

from __future__ import annotations

import pytest

from authorizer_lambda.__main__ import main
from authorizer_lambda.tokens import verify
from tests.authorizer import keys
from tests.authorizer.forging import ENVIRONMENT, SECRET, SETTINGS
from tests.authorizer.processes import run_python

MINT = ["mint", "--sub", "jane", "--scope", "read write"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The development settings, and a way to change them."""
    for name in (*ENVIRONMENT, "TIDEMARK_AUTH_PUBLIC_KEY", "TIDEMARK_AUTH_CACHE_SECONDS"):
        monkeypatch.setenv(name, ENVIRONMENT.get(name, ""))
    return monkeypatch


def test_the_command_prints_one_token_and_nothing_else() -> None:
    outcome = run_python("-m", "authorizer_lambda", *MINT, "--lifetime", "120", environment=ENVIRONMENT)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    claims = verify(outcome.stdout.removesuffix("\n"), SETTINGS)
    assert (claims.subject, claims.scopes) == ("jane", frozenset({"read", "write"}))
    assert claims.expires_at - claims.issued_at == 120


@pytest.mark.usefixtures("environment")
def test_by_default_a_token_may_read_for_an_hour(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mint", "--sub", "jane"]) == 0
    claims = verify(capsys.readouterr().out.strip(), SETTINGS)
    assert (claims.scopes, claims.expires_at - claims.issued_at) == (frozenset({"read"}), 3600)


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_a_missing_setting_is_named_with_exit_status_2(
    name: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv(name)
    assert main(MINT) == 2
    assert capsys.readouterr() == ("", f"authorizer_lambda: {name} is not set\n")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "extra", [["--sub", "jane doe"], ["--lifetime", "0"], ["--lifetime", "86401"], ["--scope", "r\u00e9ad"]]
)
def test_a_token_that_would_be_refused_is_not_printed(
    extra: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*MINT, *extra]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("authorizer_lambda: such a token would not be accepted: its ")


def test_without_a_private_key_nothing_is_minted(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (keys.environment("ES256") | {"TIDEMARK_AUTH_SECRET": ""}).items():
        environment.setenv(name, value)
    assert main(MINT) == 2
    assert "only HS256 tokens can be minted" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["mint"], ["mint", "--sub", "jane", "--lifetime", "soon"], ["burn"]]
)
def test_wrong_usage_has_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m authorizer_lambda" in capsys.readouterr().err


def test_the_help_names_every_setting_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["mint", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*ENVIRONMENT, "--sub", "--scope", "--lifetime"))
    assert SECRET.decode() not in text
