"""AWS's Lambda runtime on this machine: its Runtime Interface Emulator and Python client run a package.

Two invocations at once crash an emulator of aws-sam-cli 1.170 (its issue 97). So an emulator has a lock, and
a pool gives it one invocation at a time, as Lambda does with its environments.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import platform
import queue
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.stack.errors import ProgramMissing
from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.pinned import unpacked
from ops.stack.fetch.programs import Program
from ops.stack.fetch.wheel import Wheel, unpack_member
from ops.stack.servers.ports import LOOPBACK, free_port
from ops.stack.servers.server import Server

WHEEL = Wheel(
    requirement="aws-sam-cli==1.170.0",
    file_name="aws_sam_cli-1.170.0-py3-none-any.whl",
    sha256="24ebaf5ecba38dc1758089968cb89ab61e124b84e92a344fc7a2771a47f4d0bf",
    size=8,
)
EMULATORS = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
CLIENT = Path(__file__).with_name("awslambdaric.txt")
HANDLER = "authorizer_lambda.handler.handler"
INVOCATION = "/2015-03-31/functions/function/invocations"
MEMORY_MB = 512


class FunctionFailed(Exception):
    """The function raised, ran out of time or ended. `kind` is the runtime's word for that, or `Timeout`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class Emulator(Server):
    """One Lambda environment: the emulator, which runs Python with AWS's client and only the package."""

    name = "lambda"

    def __init__(
        self, directory: Path, package: Path, environment: Mapping[str, str], *, timeout_seconds: int = 5
    ) -> None:
        super().__init__(directory)
        self.package = package
        self.environment = environment
        self.timeout_seconds = timeout_seconds
        self._runtime_port = free_port()
        self._one_at_a_time = threading.Lock()

    @property
    def admin_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}{INVOCATION}"

    def program(self) -> Program:
        machine = platform.machine()
        if machine not in EMULATORS:
            raise ProgramMissing(
                f"AWS's Runtime Interface Emulator is made for {', '.join(EMULATORS)}, not {machine}"
            )

        def fill(folder: Path) -> None:
            unpack_member(WHEEL.download(cache_folder() / "wheels"), EMULATORS[machine], folder)

        path = completed(cache_folder() / f"{EMULATORS[machine]}-1.170.0", fill) / EMULATORS[machine]
        return Program((str(path),), "1.170.0")

    def command(self) -> list[str]:
        """The command with its whole environment: the function sees all variables of the emulator.

        Without the two addresses, the emulator would listen on all addresses of the machine.
        """
        variables = {
            **self.environment,
            "PYTHONPATH": str(unpacked(CLIENT, platform.machine())),
            "AWS_LAMBDA_FUNCTION_NAME": "authorizer",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_seconds),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
            "LAMBDA_TASK_ROOT": str(self.package),
        }
        clean = [
            "/usr/bin/env",
            "-i",
            f"--chdir={self.package}",
            *(f"{key}={each}" for key, each in variables.items()),
        ]
        listening = ["--runtime-interface-emulator-address", f"{LOOPBACK}:{self.port}"]
        runtime = ["--runtime-api-address", f"{LOOPBACK}:{self._runtime_port}"]
        python = [sys.executable, "-s", "-S", "-m", "awslambdaric", HANDLER]
        return [*clean, *self.program().command, "--log-level", "error", *listening, *runtime, *python]

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.port)) == 0

    def invoke(self, event: object) -> Any:
        """Return the function's answer. Raises FunctionFailed."""
        with self._one_at_a_time:
            reply = self._post(json.dumps(event))
        try:
            answer = json.loads(reply)
        except ValueError:  # the emulator answers 200 with a plain text after a timeout
            raise FunctionFailed("Timeout", reply) from None
        if isinstance(answer, dict) and "errorMessage" in answer:
            raise FunctionFailed(answer.get("errorType", ""), answer["errorMessage"])
        return answer

    def _post(self, event: str) -> str:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=self.timeout_seconds + 10)
        with contextlib.closing(connection):
            connection.request("POST", INVOCATION, event)
            return connection.getresponse().read().decode()


class Pool:
    """Lambda's environments: one invocation each at a time, others wait; an ended one is started again."""

    def __init__(self, emulators: Sequence[Emulator]) -> None:
        self._free: queue.SimpleQueue[Emulator] = queue.SimpleQueue()
        for emulator in emulators:
            self._free.put(emulator)

    def invoke(self, event: object) -> Any:
        """Return the answer of the first free emulator. Raises FunctionFailed."""
        emulator = self._free.get()
        try:
            if not emulator.is_running():
                emulator.start()
            return emulator.invoke(event)
        finally:
            self._free.put(emulator)
