"""One projector and one reader for all tests of a module, and a witness for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.stack import Stack
from tests.conftest import empty_stores, service_environment
from tests.support.proxy import Proxy
from tests.verification.faults.system import System, running_system
from tests.verification.faults.witness import Witness

REDIS_URLS = ("TIDEMARK_PROJECTOR_REDIS_URL", "TIDEMARK_READER_REDIS_URL")


@pytest.fixture(scope="module")
def redis_address(shared_stack: Stack) -> Iterator[Proxy]:
    """The address at which the system finds Redis."""
    with Proxy(shared_stack.redis.port) as address:
        yield address


@pytest.fixture(scope="module")
def system(shared_stack: Stack, redis_address: Proxy) -> Iterator[System]:
    empty_stores(shared_stack)
    environment = service_environment(shared_stack)
    for name in REDIS_URLS:
        environment[name] = environment[name].replace(
            f":{shared_stack.redis.port}/", f":{redis_address.port}/"
        )
    with running_system(shared_stack, environment) as system:
        yield system


@pytest.fixture
def witness(system: System) -> Iterator[Witness]:
    with Witness(system.stack, system.reading) as witness:
        yield witness
