"""The manifests, checked without a cluster: their form, and every name and number in them."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.docker.compose import stages
from tests.support.harness import ROOT
from tests.test_docs import VARIABLE, declared_variables

FOLDER = ROOT / "ops/kubernetes"
VERSION = "1.34"
SERVICES = ("projector", "writer", "reader")


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


@pytest.fixture(scope="module")
def kustomization() -> Any:
    return documents("kustomization.yaml")[0]


@pytest.fixture(scope="module")
def manifests(kustomization: Any) -> list[Any]:
    return [one for name in kustomization["resources"] for one in documents(name)]


def pods(manifests: list[Any]) -> dict[str, Any]:
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in manifests
        if one["kind"] in ("Deployment", "Job")
    }


def test_each_manifest_follows_the_published_schema(manifests: list[Any]) -> None:
    """The ServiceMonitor's schema is not among them: the Prometheus operator brings its own."""
    for one in manifests:
        if one["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(one, VERSION, strict=True)
    wrong = {**manifests[0], "imagine": True}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_manifest_is_applied_and_every_secret_is_used(kustomization: Any, manifests: list[Any]) -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {
        *kustomization["resources"],
        "kustomization.yaml",
    }
    made = {secret["name"] for secret in kustomization["secretGenerator"]}
    asked = {
        source["secretRef"]["name"]
        for pod in pods(manifests).values()
        for source in pod["spec"]["containers"][0]["envFrom"]
    }
    assert made == asked
    images = {pod["spec"]["containers"][0]["image"] for pod in pods(manifests).values()}
    assert {image["name"] for image in kustomization["images"]} == images


def test_secrets_name_every_required_setting_of_their_service(kustomization: Any) -> None:
    declared = declared_variables()
    for secret in kustomization["secretGenerator"]:
        named = {
            name
            for file in secret["envs"]
            for name in VARIABLE.findall((FOLDER / f"{file}.example").read_text())
        }
        assert named <= declared.keys()
        prefix = "MIGRATOR" if secret["name"] == "migrate" else secret["name"].upper()
        shared = ("TIDEMARK_AUTH_", "TIDEMARK_CONSISTENCY_") if secret["name"] in ("writer", "reader") else ()
        required = {
            name
            for name, default in declared.items()
            if default is None and name.startswith((f"TIDEMARK_{prefix}_", *shared))
        }
        assert required - named <= {"TIDEMARK_AUTH_PUBLIC_KEY", "TIDEMARK_AUTH_JWKS_URL"}  # HS256 has none


def test_ports_are_those_on_which_the_images_listen(manifests: list[Any]) -> None:
    for name in SERVICES:
        container = pods(manifests)[name]["spec"]["containers"][0]
        binds = {
            "admin" if "_ADMIN_" in variable else "http": int(value.rpartition(":")[2])
            for variable, value in stages()[name].environment.items()
            if variable.endswith("_BIND")
        }
        assert {port["name"]: port["containerPort"] for port in container["ports"]} == binds
        probes = [container[probe] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
        assert all(probe["httpGet"]["port"] == "admin" for probe in probes)


def test_services_budgets_and_scaling_select_pods_that_exist(manifests: list[Any]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    for one in manifests:
        name, spec = one["metadata"]["name"], one.get("spec", {})
        if one["kind"] == "Service":
            assert spec["selector"] == labels[name]
            ports = {port["name"] for port in pods(manifests)[name]["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} == ports
        elif one["kind"] in ("PodDisruptionBudget", "Deployment"):
            assert spec["selector"]["matchLabels"] == labels[name]
        elif one["kind"] == "HorizontalPodAutoscaler":
            assert spec["scaleTargetRef"]["name"] in labels


def test_pods_are_unprivileged_and_write_to_tmp_alone(manifests: list[Any]) -> None:
    for pod in pods(manifests).values():
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
        assert not spec["automountServiceAccountToken"]


def test_monitoring_scrapes_every_service_under_the_name_of_its_job(
    kustomization: Any, manifests: list[Any]
) -> None:
    (monitor,) = (one for one in manifests if one["kind"] == "ServiceMonitor")
    common = {name: value for label in kustomization["labels"] for name, value in label["pairs"].items()}
    assert monitor["spec"]["selector"]["matchLabels"] == common
    (endpoint,) = monitor["spec"]["endpoints"]
    (relabeling,) = endpoint["relabelings"]
    services = [one for one in manifests if one["kind"] == "Service"]
    assert all(endpoint["port"] in {port["name"] for port in one["spec"]["ports"]} for one in services)
    jobs = set(re.findall(r"job_name: (\S+)", (ROOT / "ops/prometheus/prometheus.yml").read_text()))
    named = {relabeling["replacement"].replace("$1", one["metadata"]["name"]) for one in services}
    assert named == jobs


def test_the_version_is_that_of_the_package(kustomization: Any) -> None:
    (version,) = re.findall(r"^version = (\S+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert {image["newTag"] for image in kustomization["images"]} == {version}
