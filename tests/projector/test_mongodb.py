"""MongoDB's errors as ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from binlog_projector.errors import StoreUnavailable
from binlog_projector.stores.mongodb import connect, store_errors
from ops.stack import MongoDbServer


@pytest.mark.server
def test_a_node_that_has_no_role_yet_is_an_outage(tmp_path: Path) -> None:
    """Regression, torture with seed 7: an audit ended because a restarted node was not a primary yet."""
    node = MongoDbServer(tmp_path / "mongodb")  # never initiated
    try:
        node.start()
        with (
            connect(f"mongodb://127.0.0.1:{node.port}/?directConnection=true") as client,
            client.start_session() as session,
            pytest.raises(StoreUnavailable, match="Sessions are not supported"),
            store_errors("a document"),
        ):
            client["tidemark"]["control"].find_one({}, session=session)
    finally:
        node.kill()
