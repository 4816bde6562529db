"""Dashboards: a real Prometheus over the running system answers every query of every panel."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from ops.stack.fetch.programs import prometheus
from ops.stack.servers.ports import free_port
from ops.system import System
from tests.support.harness import ROOT, wait_until

pytestmark = pytest.mark.server

GRAFANA, PROMETHEUS = ROOT / "ops/grafana", ROOT / "ops/prometheus"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))}


def queries(dashboard: str) -> Iterator[tuple[str, str]]:
    """(panel, query) of a dashboard."""
    for panel in DASHBOARDS[dashboard]["panels"]:
        for target in panel["targets"]:
            yield panel["title"], with_all(target["expr"])


def with_all(query: str) -> str:
    """A query as Grafana sends it while each variable is at All."""
    return query.replace("$job", ".*").replace("$instance", ".*")


class Watched:
    """A running system with traffic, and the Prometheus that scrapes it."""

    def __init__(self, system: System, url: str) -> None:
        self.system = system
        self.http = httpx2.Client(base_url=url, timeout=10, trust_env=False, verify=False)
        headers = {"authorization": f"Bearer {system.token('jane')}"}
        self.client = httpx2.Client(headers=headers, timeout=10, trust_env=False, verify=False)

    def has_numbers(self, query: str) -> bool:
        """Make some traffic, then ask: has the answer a series with a number?"""
        self._write_and_read()
        answer = self.http.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", (query, answer)
        return any(not math.isnan(float(series["value"][1])) for series in answer["data"]["result"])

    def _write_and_read(self) -> None:
        writer, reader = self.system.url("writer"), self.system.url("reader")
        self.client.put(
            f"{writer}/user/me", json={"handle": "jane", "display_name": "Jane"}
        ).raise_for_status()
        made = self.client.post(f"{writer}/post", json={"body": "Hello #tidemark"})
        post, token = f"{reader}/post/{made.json()['id']}", made.headers["consistency-token"]
        self.client.get(post, headers={"consistency-token": token}).raise_for_status()
        for _ in range(2):  # without the token an answer may be older than the post
            assert self.client.get(post).status_code in (200, 404)

    def close(self) -> None:
        self.http.close()
        self.client.close()


@pytest.fixture(scope="module")
def watched(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with scraping(system, folder, port) as url, contextlib.closing(Watched(system, url)) as watched:
        yield watched


@contextlib.contextmanager
def scraping(system: System, folder: Path, port: int) -> Iterator[str]:
    """Prometheus with our configuration except for the targets and the interval."""
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration(system)))
    command = [
        *prometheus().command,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(f"{url}/-/ready"), "Prometheus to be ready")
            yield url
        finally:
            process.terminate()


def configuration(system: System) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    found["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    found["rule_files"] = [str(PROMETHEUS / name) for name in found["rule_files"]]
    for job in found["scrape_configs"]:
        service = job["job_name"].removeprefix("tidemark-")
        job["static_configs"] = [{"targets": [system.admin_url(service).removeprefix("http://")]}]
    return found


def answers(url: str) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(url, trust_env=False, verify=False).status_code == 200
    return False


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_every_query_of_every_panel_returns_numbers(watched: Watched, dashboard: str) -> None:
    for panel, query in queries(dashboard):
        wait_until(partial(watched.has_numbers, query), f"{panel}: {query}", 30)


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_a_dashboard_marks_takeovers_and_rebuilds_and_narrows_to_an_instance(
    watched: Watched, dashboard: str
) -> None:
    found = DASHBOARDS[dashboard]
    takeover, rebuild = (each["expr"] for each in found["annotations"]["list"])
    could_be = takeover.replace("> 0", ">= 0")
    wait_until(lambda: watched.has_numbers(could_be), could_be)
    assert not watched.has_numbers(rebuild)
    job, instance = (each["query"]["query"] for each in found["templating"]["list"])
    assert all(query.startswith("label_values(up{") for query in (job, instance))
    own = [target["expr"] for panel in found["panels"] for target in panel["targets"]]
    narrowed = [query.replace("$instance", "nowhere:1").replace("$job", ".*") for query in own]
    assert not any(
        watched.has_numbers(query) for query in narrowed if "nowhere" in query and "vector" not in query
    )
    # what the recording rules have summed up has no instance any more
    assert all("$instance" in query or "tidemark:" in query for query in own)


def test_no_alert_fires_while_all_is_well(watched: Watched) -> None:
    wait_until(lambda: watched.has_numbers("tidemark:projector_leaders == 1"), "the leader to be seen")
    firing = watched.http.get("/api/v1/alerts").json()["data"]["alerts"]
    assert [alert for alert in firing if alert["state"] == "firing"] == []


def test_dashboards_use_the_provisioned_source_and_have_names_of_their_own() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/tidemark.yaml").read_text())["datasources"]
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for dashboard in DASHBOARDS.values():
        panels = dashboard["panels"]
        assert all(panel["description"] for panel in panels)
        assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
        assert (
            len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        )
