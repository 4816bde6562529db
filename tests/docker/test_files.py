"""The container files, checked without an engine: their form, and the existence of every name in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.stack.accounts.create import ACCOUNTS
from ops.stack.servers.mysql import BINLOG
from tests.docker.compose import (
    CLUSTER,
    COMPOSE,
    DOCKERFILE,
    FOLDER,
    compose,
    new_secrets,
    stages,
    wanted_secrets,
)
from tests.support.harness import ROOT
from tests.test_docs import VARIABLE, declared_variables

BIN = Path(sys.executable).parent
PROMETHEUS = ROOT / "ops/prometheus/prometheus.yml"
NODES = {f"redis-{number}" for number in range(2, 7)}  # of a cluster; the first one is `redis`
STRANGERS = ("nginx", "prometheus", "grafana")  # not ours, and no users of the stores


@pytest.fixture(scope="module", params=[(), (CLUSTER,)], ids=["alone", "cluster"])
def document(request: pytest.FixtureRequest) -> Any:
    return compose(dict.fromkeys(wanted_secrets(), "secret"), *request.param)


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_follows_the_compose_specification(tmp_path: Path, document: Any) -> None:
    plain = tmp_path / "compose.yaml"
    plain.write_text(yaml.safe_dump(document))
    check = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    run(*check, str(plain))
    plain.write_text(yaml.safe_dump({**document, "services": {"mysql": {"imagine": "mysql"}}}))
    assert subprocess.run([*check, str(plain)], capture_output=True, check=False).returncode == 1


def test_hadolint_has_nothing_against_the_dockerfile() -> None:
    run(str(BIN / "hadolint"), "--failure-threshold", "style", str(DOCKERFILE))


def test_every_named_setting_exists_and_every_required_one_is_given(document: Any) -> None:
    declared = declared_variables()
    named = set(VARIABLE.findall(COMPOSE.read_text() + CLUSTER.read_text() + DOCKERFILE.read_text()))
    assert named <= declared.keys()
    of_services = {
        name for service in document["services"].values() for name in service.get("environment", {})
    }
    required = {name for name, default in declared.items() if default is None}
    assert required - of_services <= {
        *("TIDEMARK_AUTH_PUBLIC_KEY", "TIDEMARK_AUTH_JWKS_URL"),  # HS256 has none
        *("TIDEMARK_CACHE_DIR", "TIDEMARK_NO_SERVERS", "TIDEMARK_SHORE_BIND"),  # of the local stack
    }


def test_everything_that_is_copied_or_mounted_exists(document: Any) -> None:
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    for stage in stages().values():
        for source in stage.sources:
            assert (ROOT / source).exists()
            assert source in allowed
    for service in document["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (FOLDER / source).exists() if source.startswith(".") else source in document["volumes"]


def test_all_packages_of_the_services_are_in_the_images() -> None:
    assert {"tidemark", "writer", "binlog_projector", "reader", "authorizer_lambda"} <= set(
        stages()["build"].sources
    )


def test_images_are_pinned_and_ours_are_unprivileged_with_health_checks(document: Any) -> None:
    built = stages()
    for name, service in document["services"].items():
        if "image" in service:
            assert service["image"].partition(":")[2].removeprefix("v")[0].isdigit(), name
            assert service["healthcheck"]["test"], name
        else:
            stage = built[service["build"]["target"]]
            assert stage.user == "10001:10001"
            assert stage.command
            assert stage.healthcheck is not None
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
    assert all(stage.base.count(".") == 2 for stage in built.values() if stage.base not in built)


def test_only_nginx_and_grafana_are_public_and_strangers_reach_no_store(document: Any) -> None:
    networks = {name: set(service["networks"]) for name, service in document["services"].items()}
    published = {
        name: service["ports"] for name, service in document["services"].items() if "ports" in service
    }
    assert published == {"nginx": ["127.0.0.1:8080:8080"], "grafana": ["127.0.0.1:3000:3000"]}
    assert {name for name, its in networks.items() if "public" in its} == {"nginx"}
    assert {name for name, its in networks.items() if "operators" in its} == {"grafana"}
    assert not {name for name, its in networks.items() if "stores" in its} & {*STRANGERS, "authorizer"}
    assert all(document["networks"][name]["internal"] for name in ("stores", "services", "watched"))


def test_the_page_names_every_container_and_every_open_port(document: Any) -> None:
    page = (ROOT / "docs/containers.md").read_text()
    table = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for cell in table for name in re.findall(r"`([\w-]+)`", cell)}
    assert document["services"].keys() == named - (set() if "redis-2" in document["volumes"] else NODES)
    published = [port for service in document["services"].values() for port in service.get("ports", [])]
    assert {port.rpartition(":")[0] for port in published} <= set(re.findall(r"127\.0\.0\.1:\d+", page))


def test_prometheus_scrapes_every_service_by_name_and_has_the_tested_rules(
    document: Any,
) -> None:
    of_machine, of_containers = (
        yaml.safe_load(path.read_text()) for path in (PROMETHEUS, FOLDER / "prometheus.yml")
    )
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in of_containers["scrape_configs"]}
    assert jobs.keys() == {job["job_name"] for job in of_machine["scrape_configs"]}
    assert {target.partition(":")[0] for targets in jobs.values() for target in targets} == {
        name for name, its in document["services"].items() if "watched" in its["networks"]
    } - {"prometheus", "grafana"}
    assert [name.removeprefix("rules/") for name in of_containers["rule_files"]] == of_machine["rule_files"]


def test_each_service_knows_the_passwords_of_its_own_accounts_only(document: Any) -> None:
    for name, service in document["services"].items():
        if name in ("accounts", "mysql", "mongodb", "redis", *NODES, *STRANGERS):
            continue
        for variable in service["environment"]:
            account, _, store = (
                variable.removeprefix("TIDEMARK_").removesuffix("_URL").lower().rpartition("_")
            )
            if store in ACCOUNTS:
                assert service["build"]["target"] in (account, {"migrator": "migrate"}.get(account))


def test_files_suffice_for_all_clients_that_may_watch(document: Any) -> None:
    services, text = document["services"], (FOLDER / "nginx/nginx.conf").read_text()
    [connections] = re.findall(r"worker_connections (\d+);", text)
    assert services["nginx"]["ulimits"]["nofile"] > int(connections)
    most = int(declared_variables()["TIDEMARK_READER_LIVE_CONNECTIONS"] or 0)
    for name in ("reader-1", "reader-2"):
        assert services[name]["ulimits"]["nofile"] > most


def test_mysql_writes_its_binlog_as_the_projector_needs_it(document: Any) -> None:
    assert set(BINLOG) <= set(document["services"]["mysql"]["command"])


def test_secrets_are_fresh_for_every_name_and_are_never_replaced(tmp_path: Path) -> None:
    secrets = new_secrets(tmp_path)
    assert secrets.keys() == wanted_secrets()
    assert len(set(secrets.values())) == len(secrets)
    assert all(len(secret) == 64 for secret in secrets.values())
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    again = subprocess.run(["sh", str(tmp_path / "secrets.sh")], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert secrets == dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
