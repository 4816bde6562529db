"""Takes transactions from a stream, one at a time."""

from __future__ import annotations

from collections import deque

from binlog_projector.domain.changes import Transaction
from tests.support.harness import wait_until


class Received:
    """The transactions that a stream has delivered, in order. Raises the error that ended the stream."""

    def __init__(self) -> None:
        self.items: deque[Transaction | Exception] = deque()

    def add(self, transaction: Transaction) -> None:
        self.items.append(transaction)

    def fail(self, error: Exception) -> None:
        self.items.append(error)

    def next(self) -> Transaction:
        wait_until(lambda: self.items, "a transaction")
        item = self.items.popleft()
        if isinstance(item, Exception):
            raise item
        return item
