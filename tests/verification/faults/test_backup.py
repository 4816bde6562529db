"""MongoDB restored from a backup under a running projector: it is behind Redis and reuses batch numbers."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from reader.document_store import TIMEOUT_MS
from tests.support.harness import wait_until
from tests.support.traffic import write_traffic
from tests.verification.faults.system import System, paused, stopped
from tests.verification.faults.witness import Witness


@pytest.mark.parametrize("reason", ["ahead", "history"])
def test_a_restored_mongodb_starts_a_new_cache_epoch(
    system: System, witness: Witness, tmp_path: Path, reason: str
) -> None:
    """Trace 8. `ahead`: MongoDB is behind the watermark. `history`: other batches have taken it past."""
    chance, backup, server = random.Random(8), tmp_path / "backup", system.stack.mongodb
    system.catch_up_and_fill()
    with stopped(server):
        shutil.copytree(server.data, backup)
    write_traffic(system.connection, chance, 60)
    witness.wait_until_fresh(system.connection)
    lost = system.catch_up_and_fill()
    with paused(system.stack.redis) if reason == "history" else contextlib.nullcontext():
        newest = newest_seq(system)
        with stopped(server):
            shutil.rmtree(server.data)
            time.sleep(TIMEOUT_MS / 1000)  # a restore outlasts a read: no read sees both histories
            shutil.copytree(backup, server.data)
        if reason == "history":
            wait_until(lambda: newest_seq(system) > newest, "other batches under the same numbers")
    wait_until(lambda: system.watermark().epoch != lost.epoch, "a new cache epoch")
    write_traffic(system.connection, chance, 20)
    witness.wait_until_fresh(system.connection)
    witness.stop()
    system.assert_all_is_well()
    assert reasons(system)[-1] == reason


def newest_seq(system: System) -> int:
    """The newest batch number in MongoDB, which Redis never passes."""
    with MongoClient[dict[str, Any]](system.stack.mongodb.admin_url) as client:
        serving = client["tidemark"]["control"].find_one({"_id": "serving"})
        assert serving is not None
        checkpoint = client["tidemark"]["control"].find_one({"_id": f"checkpoint:{serving['build']}"})
    assert checkpoint is not None
    return int(checkpoint["seq"])


def reasons(system: System) -> list[str]:
    """The reasons that the projector logged for each empty start of the cache."""
    return [event["reason"] for event in system.projecting.events() if event["event"] == "cache starts empty"]
