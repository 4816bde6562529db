"""A migrated MySQL and a running writer; the tests of a module share them and make their own people."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.stack import Stack
from tests.conftest import empty_stores
from tests.writer.mysql import MySql
from tests.writer.people import Writer, serving
from writer.migrate import migrate


@pytest.fixture(scope="module")
def mysql(shared_stack: Stack) -> MySql:
    empty_stores(shared_stack)
    migrate(shared_stack.environment()["TIDEMARK_MIGRATOR_MYSQL_URL"])
    return MySql(shared_stack)


@pytest.fixture(scope="module")
def writer(mysql: MySql) -> Iterator[Writer]:
    with serving(mysql.url) as writer:
        yield writer
