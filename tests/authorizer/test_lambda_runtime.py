"""The unzipped deployment package in AWS's own runtime: every answer, and errors, delays and crashes."""

from __future__ import annotations

import concurrent.futures
import os
import platform
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from authorizer_lambda.policy import required_scope
from ops.aws_lambda.emulator import Emulator, FunctionFailed, Pool
from ops.aws_lambda.package import MACHINES
from tests.authorizer import keys
from tests.authorizer.api_gateway import (
    EXPLICIT,
    HTTP_1,
    HTTP_2_IAM,
    HTTP_2_SIMPLE,
    IMPLICIT,
    REST_REQUEST,
    REST_TOKEN,
    ApiGateway,
    Kind,
    Reply,
)
from tests.authorizer.forging import CLAIMS, ENVIRONMENT, good_token
from tests.authorizer.gateway import METHODS, token_event
from tests.authorizer.jwks_server import jwk, serving
from tests.support.harness import wait_until

pytestmark = pytest.mark.server

ARCHITECTURE = next(name for name, machine in MACHINES.items() if machine == platform.machine())
PATHS = ("/feed", "/post/7/like", "/user/a:b", "/hashtag/*", "/")
NOW = int(time.time())
IAM = ENVIRONMENT | {"TIDEMARK_AUTH_SIMPLE_RESPONSES": "false"}

Start = Callable[..., Emulator]


def _bearer(**changes: Any) -> str:
    return f"Bearer {good_token(**{'iat': NOW, 'exp': NOW + 3600} | changes)}"


@pytest.fixture(scope="module")
def package(zips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Lambda has as /var/task."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(zips / f"authorizer-{ARCHITECTURE}.zip") as archive:
        archive.extractall(folder)
    return folder


@contextmanager
def _emulators(directory: Path) -> Iterator[Start]:
    """A function that starts an emulator; all are stopped at the end."""
    with ExitStack() as started:

        def start(package: Path, environment: Mapping[str, str], timeout_seconds: int = 5) -> Emulator:
            count = len(list(directory.iterdir()))
            emulator = Emulator(directory / str(count), package, environment, timeout_seconds=timeout_seconds)
            started.callback(emulator.stop)
            emulator.start()
            return emulator

        yield start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with _emulators(tmp_path) as starter:
        yield starter


@pytest.fixture(scope="module")
def runtime(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[bool, Pool]]:
    """Two pools of HS256 functions. Key: are simple responses on? The pool of True has two environments."""
    with _emulators(tmp_path_factory.mktemp("emulators")) as starter:
        simple = Pool([starter(package, ENVIRONMENT), starter(package, ENVIRONMENT)])
        yield {True: simple, False: Pool([starter(package, IAM)])}


def _gateway(kind: Kind, runtime: Mapping[bool, Pool], ttl_seconds: int = 0) -> ApiGateway:
    return ApiGateway(kind, runtime[kind is not HTTP_2_IAM].invoke, ttl_seconds)


POLICY_KINDS = [pytest.param(kind, id=kind.name) for kind in (REST_TOKEN, REST_REQUEST, HTTP_1, HTTP_2_IAM)]
ALL_KINDS = [*POLICY_KINDS, pytest.param(HTTP_2_SIMPLE, id=HTTP_2_SIMPLE.name)]


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("scope", ["read", "write", "read write", "", "admin"])
def test_one_cached_answer_is_right_for_every_method_and_path(
    kind: Kind, scope: str, runtime: Mapping[bool, Pool]
) -> None:
    gateway, token = _gateway(kind, runtime, ttl_seconds=60), _bearer(scope=scope)
    for method in METHODS:
        for path in PATHS:
            expected = 200 if required_scope(method) in scope.split() else 403
            assert gateway.request(method, path, token).status == expected, (method, path)
    assert gateway.invocations == (len(METHODS) if kind.is_simple else 1)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_backend_is_told_who_it_is_and_what_for(kind: Kind, runtime: Mapping[bool, Pool]) -> None:
    reply = _gateway(kind, runtime).request("GET", "/feed", _bearer(sub="auth0|jane", scope="write read"))
    expected = {"sub": "auth0|jane", "scope": "read write", "exp": NOW + 3600}
    if not kind.is_simple:
        expected = {"principalId": "auth0|jane"} | expected | {"exp": str(NOW + 3600)}
    assert reply == Reply(200, None, expected)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_wrong_token_is_401_and_never_cached(kind: Kind, runtime: Mapping[bool, Pool]) -> None:
    gateway = _gateway(kind, runtime, ttl_seconds=60)
    for token in (
        _bearer()[:-1],
        _bearer(exp=NOW - 60, iat=NOW - 120),
        "Basic YTpi",
        f"{_bearer()},{_bearer()}",
    ):
        if kind.is_simple:
            assert gateway.request("GET", "/feed", token) == Reply(403, "Forbidden")
            continue
        before = gateway.invocations
        assert [gateway.request("GET", "/feed", token) for _ in range(2)] == [Reply(401, "Unauthorized")] * 2
        assert gateway.invocations == before + 2
    assert gateway.request("GET", "/feed", _bearer()).status == 200


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_without_a_token_the_function_is_not_asked(kind: Kind, runtime: Mapping[bool, Pool]) -> None:
    gateway = _gateway(kind, runtime)
    assert {gateway.request("GET", "/feed", nothing).status for nothing in (None, "")} == {401}
    assert gateway.invocations == 0


@pytest.mark.parametrize("kind", POLICY_KINDS)
def test_a_token_without_the_right_is_denied_and_the_denial_cached(
    kind: Kind, runtime: Mapping[bool, Pool]
) -> None:
    gateway = _gateway(kind, runtime, ttl_seconds=60)
    nothing, reads = _bearer(scope=""), _bearer(scope="read")
    assert [gateway.request("GET", "/feed", nothing) for _ in range(2)] == [Reply(403, EXPLICIT)] * 2
    assert [gateway.request("PUT", "/post/7/like", reads) for _ in range(2)] == [Reply(403, IMPLICIT)] * 2
    assert gateway.invocations == 2


def test_a_cached_policy_outlives_the_token_until_its_ttl_is_over(runtime: Mapping[bool, Pool]) -> None:
    """API Gateway does not know `exp`. Hence the TTL is short, and services check `exp` themselves."""
    gateway, token = (
        _gateway(REST_TOKEN, runtime, ttl_seconds=60),
        _bearer(iat=NOW - 60, exp=int(time.time()) - 3),
    )
    assert gateway.request("GET", "/feed", token).status == 200, "within the leeway"
    gateway.now = 59
    without_cache = _gateway(REST_TOKEN, runtime)
    wait_until(lambda: without_cache.request("GET", "/feed", token).status == 401, "the token's end")
    assert gateway.request("GET", "/feed", token).status == 200
    gateway.now = 60
    assert gateway.request("GET", "/feed", token).status == 401


@pytest.mark.parametrize(
    "event", [{}, [], "event", 5, {"type": "TOKEN"}, {"version": "2.0"}, {"a" * 100_000: None}]
)
def test_an_event_that_is_none_is_refused(event: object, runtime: Mapping[bool, Pool]) -> None:
    try:
        assert runtime[True].invoke(event) == {"isAuthorized": False, "context": {}}
    except FunctionFailed as failure:
        assert (failure.kind, failure.message) == ("Exception", "Unauthorized")


def test_many_at_once_wait_for_a_free_environment(runtime: Mapping[bool, Pool]) -> None:
    """Two simultaneous invocations would crash an emulator."""
    gateway = _gateway(REST_TOKEN, runtime)
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(gateway.request, "GET", "/feed", _bearer(sub=f"jane-{n}")) for n in range(80)]
        replies = [each.result() for each in asked]
    assert [reply.context["sub"] for reply in replies if reply.context] == [f"jane-{n}" for n in range(80)]


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_the_package_holds_all_that_each_algorithm_needs(algorithm: str, package: Path, start: Start) -> None:
    before = sorted(package.rglob("*"))
    gateway = ApiGateway(REST_TOKEN, start(package, keys.environment(algorithm)).invoke)
    good = keys.token(algorithm, iat=NOW, exp=NOW + 3600)
    other = keys.token(algorithm, keys.generate(algorithm), iat=NOW)
    assert gateway.request("GET", "/feed", f"Bearer {good}").status == 200
    assert gateway.request("GET", "/feed", f"Bearer {other}").status == 401
    assert sorted(package.rglob("*")) == before, "Lambda's folder is read-only, and all bytecode is there"


def test_keys_come_from_their_url_once(package: Path, start: Start) -> None:
    with serving(jwk("RS256", "first")) as server:
        environment = keys.environment("RS256") | {
            "TIDEMARK_AUTH_PUBLIC_KEY": "",
            "TIDEMARK_AUTH_JWKS_URL": server.url,
        }
        gateway = ApiGateway(REST_TOKEN, start(package, environment).invoke)
        for kid, status in (("first", 200), ("other", 401), ("first", 200)):
            claims, key = CLAIMS | {"iat": NOW, "exp": NOW + 3600}, keys.private_key("RS256")
            token = jwt.encode(claims, key, "RS256", headers={"kid": kid})
            assert gateway.request("GET", "/feed", f"Bearer {token}").status == status
        assert server.fetches == 1


def test_a_timed_out_function_is_500_and_the_next_invocation_served(package: Path, start: Start) -> None:
    with serving(jwk("ES256", "first")) as server:
        server.hold.clear()
        environment = keys.environment("ES256") | {
            "TIDEMARK_AUTH_PUBLIC_KEY": "",
            "TIDEMARK_AUTH_JWKS_URL": server.url,
        }
        emulator = start(package, environment, timeout_seconds=1)
        gateway = ApiGateway(REST_TOKEN, emulator.invoke, ttl_seconds=60)
        claims = CLAIMS | {"iat": NOW, "exp": NOW + 3600}
        token = f"Bearer {jwt.encode(claims, keys.private_key('ES256'), 'ES256', headers={'kid': 'first'})}"
        with pytest.raises(FunctionFailed, match=r"Timeout: Task timed out after 1\.00 seconds"):
            emulator.invoke(token_event(token))
        assert gateway.request("GET", "/feed", token) == Reply(500)
        server.hold.set()
        assert gateway.request("GET", "/feed", token).status == 200


def test_a_killed_function_is_500_and_the_next_invocation_served(package: Path, start: Start) -> None:
    emulator = start(package, ENVIRONMENT)
    gateway = ApiGateway(REST_TOKEN, Pool([emulator]).invoke, ttl_seconds=60)
    assert gateway.request("GET", "/feed", _bearer()).status == 200
    (python,) = _children(emulator)
    os.kill(python, signal.SIGKILL)
    wait_until(lambda: python not in _children(emulator), "the end of the function's process")
    assert gateway.request("GET", "/feed", _bearer(sub="john")) == Reply(500)
    assert gateway.request("GET", "/feed", _bearer(sub="john")).status == 200
    emulator.kill()
    assert gateway.request("GET", "/feed", _bearer(sub="joan")).status == 200, "a new environment"


def _children(emulator: Emulator) -> list[int]:
    """The emulator's own child processes: proc_pid_stat(5), field 4."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if emulator.identity and int(fields[1]) == emulator.identity.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_a_function_without_settings_or_modules_is_500_and_logs_why(
    package: Path, start: Start, tmp_path: Path
) -> None:
    torn = tmp_path.with_name(f"{tmp_path.name}-torn")
    shutil.copytree(package, torn, ignore=shutil.ignore_patterns("_cffi_backend*", "jwt"))
    for folder, environment, said in (
        (package, {}, "TIDEMARK_AUTH_ALGORITHM is not set"),
        (torn, ENVIRONMENT, "No module named 'jwt'"),
    ):
        emulator = start(folder, environment)
        gateway = ApiGateway(REST_TOKEN, emulator.invoke, ttl_seconds=60)
        assert [gateway.request("GET", "/feed", _bearer()) for _ in range(2)] == [Reply(500)] * 2
        assert said in emulator.log_path.read_text()


def test_the_log_says_why_and_neither_token_nor_secret(package: Path, start: Start) -> None:
    emulator = start(package, ENVIRONMENT)
    gateway = ApiGateway(REST_TOKEN, emulator.invoke)
    tokens = [_bearer(), _bearer()[:-8] + "AAAAAAAA", _bearer(iat=NOW - 120, exp=NOW - 60), _bearer(scope="")]
    assert [gateway.request("GET", "/feed", token).status for token in tokens] == [200, 401, 401, 403]
    log = emulator.log_path.read_text()
    assert "refused: it has expired" in log and "refused: InvalidSignatureError" in log
    parts = {part for token in tokens for part in token.split(" ")[1].split(".")}
    assert not any(part in log for part in (*parts, ENVIRONMENT["TIDEMARK_AUTH_SECRET"], "jane"))
