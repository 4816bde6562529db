"""Both services answer every request that schemathesis derives from their OpenAPI documents as documented.

Its checks find undocumented statuses, media types, headers and bodies, and any 5xx:
https://schemathesis.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

import reader.openapi
import writer.openapi
from ops.stack import Stack
from tests.conftest import empty_stores
from tests.support.services import Services, running_services
from tests.support.tokens import bearer

WRITER = schemathesis.openapi.from_dict(writer.openapi.document())
READER = schemathesis.openapi.from_dict(reader.openapi.document())
FEW = settings(max_examples=12, derandomize=True, suppress_health_check=[*HealthCheck])
OPAQUE: list[Any] = [positive_data_acceptance]  # a schema cannot say which cursors, tokens and keys exist


@pytest.fixture(scope="module")
def services(shared_stack: Stack) -> Iterator[Services]:
    empty_stores(shared_stack)
    with running_services(shared_stack) as services:
        services.write("bob", "PUT", "/user/me", {"handle": "bob", "display_name": "Bob"})
        services.write("jane", "PUT", "/user/me", {"handle": "jane", "display_name": "Jane"})
        services.write("jane", "POST", "/post", {"body": "Hello #sea"})
        services.write("jane", "POST", "/post/1/comment", {"body": "x"})
        yield services


@WRITER.parametrize()
@FEW
def test_the_writer(case: schemathesis.Case[Any], services: Services) -> None:
    subject = "joe" if case.operation.label == "DELETE /user/me" else "jane"  # jane stays
    case.call_and_validate(services.writer_url, headers=bearer(subject), excluded_checks=OPAQUE, timeout=20)


@READER.parametrize()
@FEW
def test_the_reader(case: schemathesis.Case[Any], services: Services) -> None:
    case.call_and_validate(services.reader_url, headers=bearer("jane"), excluded_checks=OPAQUE, timeout=20)
