"""The logs lead from a write, by MySQL's GTID and the projector's batch, to the read that shows the write."""

from __future__ import annotations

import json
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


def test_a_request_id_leads_from_the_write_to_the_read(system: System) -> None:
    headers = {"authorization": f"Bearer {system.token('joe')}"}
    with httpx2.Client(headers=headers, timeout=10, trust_env=False, verify=False) as client:
        written = client.put(
            f"{system.url('writer')}/user/me",
            json={"handle": "joe", "display_name": "Joe"},
            headers={"x-request-id": "my-write-1"},
        )
        token, path = written.headers["consistency-token"], written.headers["location"]
        asked = {"consistency-token": token, "x-request-id": "my-read-1"}
        assert client.get(f"{system.url('reader')}{path}", headers=asked).status_code == 200
    [command] = [one for one in events(system, "writer", "command") if one["request_id"] == "my-write-1"]
    gtids = GtidSet.parse(command["gtids"])
    [batch] = [one for one in events(system, "projector", "batch") if GtidSet.parse(one["gtids"]) >= gtids]

    def reads() -> list[dict[str, Any]]:
        found = events(system, "reader", "read of a write")
        return [one for one in found if one["request_id"] == "my-read-1"]

    [read] = wait_until(reads, "the read's line")
    assert (command["command"], command["result"]) == ("put_profile", "done")
    assert read["gtids"] == command["gtids"]
    assert read["seq"] >= batch["seq"]
