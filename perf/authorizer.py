"""`python -m perf authorizer`: the cost of a decision of the Lambda, in this process and in AWS's runtime."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authorizer_lambda.handler import authorize
from authorizer_lambda.settings import AuthSettings
from ops.aws_lambda.emulator import Emulator
from ops.aws_lambda.package import MACHINES, build
from ops.stack.progress import say

ISSUER, AUDIENCE = "https://id.example", "tidemark"
ARN = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/prod/GET/feed"
TOKENS = 200
WARM_UP = 200
FIRST_DECISION = """
import time
began = time.perf_counter()
import json, sys
from authorizer_lambda.handler import handler
assert handler(json.loads(sys.argv[1]), None)["principalId"] == "jane-0"
print((time.perf_counter() - began) * 1000)
"""


class Signer:
    """A key of one algorithm: tokens made with it, and the settings that accept them."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._key = _new_key(algorithm)

    def environment(self) -> dict[str, str]:
        """TIDEMARK_AUTH_* as the function gets them."""
        common = {"ALGORITHM": self.algorithm, "ISSUER": ISSUER, "AUDIENCE": AUDIENCE}
        own = {"SECRET": self._key} if isinstance(self._key, str) else {"PUBLIC_KEY": _public_pem(self._key)}
        return {f"TIDEMARK_AUTH_{name}": value for name, value in (common | own).items()}

    def event(self, number: int) -> dict[str, Any]:
        """The event that API Gateway sends for the token of user `number`."""
        now = int(time.time())
        times = {"iat": now, "exp": now + 3600}
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"jane-{number}", "scope": "read write", **times}
        token = jwt.encode(claims, self._key, self.algorithm)
        return {"type": "TOKEN", "authorizationToken": f"Bearer {token}", "methodArn": ARN}


def _new_key(algorithm: str) -> str | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else "a secret of the benchmark, 32+ bytes"
    )


def _public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def authorizer(decisions: int, starts: int) -> dict[str, Any]:
    """All figures of one run. Figures of a process start are medians of `starts`. Raises StackError."""
    found: dict[str, Any] = {
        name: _decisions(Signer(name), decisions) for name in ("HS256", "RS256", "ES256")
    }
    with tempfile.TemporaryDirectory() as name:
        folder, signer = Path(name), Signer("RS256")
        sizes = {architecture: _zip(architecture, folder) for architecture in MACHINES}
        task = _unzipped(folder)
        say(f"{starts} cold starts")
        found["first_decision_ms"] = _median(lambda: _first_decision(task, signer), starts)
        found["zip_bytes"] = max(sizes.values())
        cold, warm = _in_lambdas_runtime(folder, task, signer, starts, decisions // 10)
        return {**found, "rie_cold_ms": round(cold, 1), "rie_warm_p50_ms": round(warm, 2)}


def _decisions(signer: Signer, count: int) -> dict[str, float]:
    """Wall time and processor time. They differ by the time that other programs took."""
    say(f"{count} decisions with {signer.algorithm}")
    settings = AuthSettings.from_environ(signer.environment())
    events = [signer.event(number) for number in range(TOKENS)]
    clocks = {"": time.perf_counter, "cpu_": time.thread_time}
    found: dict[str, float] = {}
    for kind, clock in clocks.items():
        times_ms = [
            _milliseconds(authorize, events[n % TOKENS], settings, clock=clock)
            for n in range(WARM_UP + count)
        ]
        percentiles = statistics.quantiles(times_ms[WARM_UP:], n=100)
        found |= {f"{kind}p50_ms": round(percentiles[49], 3), f"{kind}p99_ms": round(percentiles[98], 3)}
    return found


def _milliseconds(
    work: Callable[..., object], *arguments: object, clock: Callable[[], float] = time.perf_counter
) -> float:
    began = clock()
    work(*arguments)
    return (clock() - began) * 1000


def _median(measure: Callable[[], float], times: int) -> float:
    return round(statistics.median(measure() for _ in range(times)), 1)


def _zip(architecture: str, folder: Path) -> int:
    path = folder / f"authorizer-{architecture}.zip"
    build(architecture, path)
    return path.stat().st_size


def _unzipped(folder: Path) -> Path:
    architecture = next(name for name, machine in MACHINES.items() if machine == platform.machine())
    with zipfile.ZipFile(folder / f"authorizer-{architecture}.zip") as archive:
        archive.extractall(folder / "task")
    return folder / "task"


def _first_decision(task: Path, signer: Signer) -> float:
    """Import and first decision in a fresh process that finds the package and nothing else."""
    command = [sys.executable, "-s", "-S", "-c", FIRST_DECISION, json.dumps(signer.event(0))]
    environment: Mapping[str, str] = {**signer.environment(), "PYTHONPATH": str(task)}
    return float(
        subprocess.run(command, cwd=task, env=environment, stdout=subprocess.PIPE, check=True).stdout
    )


def _in_lambdas_runtime(
    folder: Path, task: Path, signer: Signer, starts: int, count: int
) -> tuple[float, float]:
    """Median milliseconds of the first invocation of an environment, and of later ones."""
    cold, warm = [], []
    for number in range(starts):
        emulator = Emulator(folder / f"environment-{number}", task, signer.environment())
        emulator.start()
        try:
            times_ms = [
                _milliseconds(emulator.invoke, signer.event(user)) for user in range(1 + count // starts)
            ]
        finally:
            emulator.stop()
        cold.append(times_ms[0])
        warm += times_ms[1:]
    return statistics.median(cold), statistics.median(warm)
