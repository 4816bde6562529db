"""Our code in the zip stands alone: HS256 needs only PyJWT beside it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import jwt
import pytest

from ops.aws_lambda.package import copy_source
from tests.authorizer import keys
from tests.authorizer.forging import ENVIRONMENT
from tests.authorizer.processes import run_python

PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from authorizer_lambda import handler, policy
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
settings = AuthSettings.from_environ(__import__("os").environ)
event = {"version": "2.0", "type": "REQUEST", "requestContext": {"http": {"method": "GET"}},
         "headers": {"authorization": "Bearer " + mint(settings, "jane", ["read"], 60)}}
print(handler.handler(event, None)["isAuthorized"])
print(sorted(sys.modules.keys() & {"cryptography", "starlette", "msgspec", "pymongo", "redis", "boto3"}))
"""


@pytest.fixture
def zip_folder(tmp_path: Path) -> Path:
    """The zip's content for HS256: our code and PyJWT."""
    copy_source(tmp_path)
    shutil.copytree(Path(jwt.__file__).parent, tmp_path / "jwt", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _run_alone(program: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run with -I and -S: neither the checkout nor any installed package can be imported."""
    return run_python("-I", "-S", "-c", program, str(folder), environment=environment)


def test_hs256_works_with_pyjwt_and_nothing_else(zip_folder: Path) -> None:
    outcome = _run_alone(PROGRAM, zip_folder, ENVIRONMENT)
    assert (outcome.stdout, outcome.stderr) == ("True\n[]\n", "")


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_the_others_say_which_package_they_lack(zip_folder: Path, algorithm: str) -> None:
    outcome = _run_alone(PROGRAM, zip_folder, keys.environment(algorithm))
    assert f"TIDEMARK_AUTH_ALGORITHM={algorithm!r}: needs the package cryptography" in outcome.stderr


def test_importing_reads_no_setting_and_needs_none(zip_folder: Path) -> None:
    program = PROGRAM.partition("settings =")[0] + "print('imported')"
    assert _run_alone(program, zip_folder, {}).stdout == "imported\n"
