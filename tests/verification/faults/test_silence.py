"""A network falls silent: connections stay open, and no error tells."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx2
import pytest

from ops.stack import Stack
from ops.stack.servers.ports import free_port
from tests.conftest import service_environment
from tests.reader.conftest import plain_client
from tests.support.harness import wait_until
from tests.support.proxy import Proxy
from tests.verification.faults.system import running_system
from tests.verification.faults.witness import Witness

BUSY = "tidemark_projector_stage_busy_seconds"
NOTICED = ("retrying", "lease not renewed")


@pytest.mark.parametrize("store", ["mysql", pytest.param("mongodb", marks=pytest.mark.long)])
def test_a_silent_network_is_noticed_within_fifteen_seconds_and_shown_before(
    stack: Stack, store: str
) -> None:
    """No FIN and no RST arrive. MySQL's heartbeats and MongoDB's answers stay away."""
    environment, server = service_environment(stack), stack.servers[store]
    variable, stage = f"TIDEMARK_PROJECTOR_{store.upper()}_URL", {"mysql": "source"}.get(store, store)
    with Proxy(server.port) as address, plain_client(f"http://127.0.0.1:{free_port()}", {}) as admin:
        url = environment[variable].replace(
            "replicaSet=tidemark", "directConnection=true"
        )  # not past the proxy
        environment[variable] = url.replace(f":{server.port}/", f":{address.port}/")
        environment["TIDEMARK_PROJECTOR_ADMIN_BIND"] = f"127.0.0.1:{admin.base_url.port}"
        with running_system(stack, environment) as system, Witness(stack, system.reading) as witness:
            witness.wait_until_fresh(system.connection)
            wait_until(lambda: admin.get("/readyz").status_code == 200, "readiness")
            with address.silent():
                silent = datetime.now(UTC)
                wait_until(
                    lambda: "no progress for" in admin.get("/readyz").json()[stage], "the stall to show"
                )
                assert admin.get("/readyz").status_code == 503 and busy_seconds(admin, stage) > 5
                noticed = wait_until(
                    lambda: [event for event in system.projecting.events() if event["event"] in NOTICED],
                    "an error",
                )
            assert (datetime.fromisoformat(noticed[0]["timestamp"]) - silent).total_seconds() < 15
            witness.wait_until_fresh(system.connection)
            assert admin.get("/readyz").status_code == 200 and busy_seconds(admin, stage) < 5
            witness.stop()
            system.assert_all_is_well()


def busy_seconds(admin: httpx2.Client, stage: str) -> float:
    samples = dict(line.rsplit(" ", 1) for line in admin.get("/metrics").text.splitlines())
    return float(samples[f'{BUSY}{{stage="{stage}"}}'])
