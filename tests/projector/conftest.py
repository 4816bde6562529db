"""A MySQL with our tables and some rows; a module with other needs has its own `connection`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.support.traffic import seeded


@pytest.fixture
def connection(stack: Stack) -> Iterator[Connection]:
    with seeded(stack) as connection:
        yield connection
