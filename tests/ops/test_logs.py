"""The logs lead from a write, by MySQL's GTID and the projector's batch, to the read that shows the write."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx2
import pytest

from ops.system import System
from tests.support.harness import wait_until
from tidemark.gtid import GtidSet

pytestmark = pytest.mark.server


def events(system: System, service: str, event: str) -> list[dict[str, Any]]:
    lines = (system.stack.directory / f"{service}.log").read_text().splitlines()
    return [found for line in lines if line.startswith("{") and (found := json.loads(line))["event"] == event]


def test_a_request_id_leads_from_the_write_to_the_read() -> None:
    with System(os.environ) as system:
        headers = {"authorization": f"Bearer {system.token('jane')}"}
        with httpx2.Client(headers=headers, timeout=10, trust_env=False) as client:
            written = client.put(
                f"{system.url('writer')}/user/me",
                json={"handle": "jane", "display_name": "Jane"},
                headers={"x-request-id": "my-write-1"},
            )
            token = written.headers["consistency-token"]
            asked = {"consistency-token": token, "x-request-id": "my-read-1"}
            assert client.get(f"{system.url('reader')}/user/1", headers=asked).status_code == 200
        [command] = [one for one in events(system, "writer", "command") if one["request_id"] == "my-write-1"]
        gtids = GtidSet.parse(command["gtids"])
        [batch] = [
            one for one in events(system, "projector", "batch") if GtidSet.parse(one["gtids"]) >= gtids
        ]
        [read] = wait_until(lambda: events(system, "reader", "read of a write"), "the read's line")
    assert (command["command"], command["result"]) == ("put_profile", "done")
    assert (read["request_id"], read["gtids"]) == ("my-read-1", command["gtids"])
    assert read["seq"] >= batch["seq"]
