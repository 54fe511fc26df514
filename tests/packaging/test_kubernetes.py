"""The manifests of the sidecar, built by kubectl and validated against the schemas of Kubernetes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import allocsync
from allocsync.settings.model import Settings
from allocsync.settings.validators import parse_listen
from tests.packaging.conftest import RunProgram

pytestmark = pytest.mark.real

FOLDER = Path("deploy/kubernetes")
# The first version with native sidecars by default, and the one that the manifests were written for.
VERSIONS = ("1.29", "1.34")

Manifest = dict[str, Any]  # parsed YAML


@pytest.fixture(name="built")
def _built(run_program: RunProgram) -> list[Manifest]:
    result = run_program("kubectl", "kustomize", FOLDER)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


@pytest.fixture(name="pod")
def _pod(built: list[Manifest]) -> Manifest:
    return next(each["spec"]["template"]["spec"] for each in built if each["kind"] == "Deployment")


@pytest.fixture(name="sidecar")
def _sidecar(pod: Manifest) -> Manifest:
    return next(each for each in pod["initContainers"] if each["name"] == "allocsync")


def _containers(pod: Manifest) -> Iterator[Manifest]:
    yield from pod["initContainers"]
    yield from pod["containers"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_for_kubernetes(built: list[Manifest], version: str) -> None:
    assert {each["kind"] for each in built} == {"ConfigMap", "Deployment"}
    for each in built:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_reject_a_misspelt_key(built: list[Manifest]) -> None:
    deployment = next(each for each in built if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["initContainers"][0]["restartPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.34", strict=True)


def test_allocsync_is_a_native_sidecar(sidecar: Manifest) -> None:
    assert sidecar["restartPolicy"] == "Always"


def test_only_a_stall_restarts_the_sidecar_and_no_probe_makes_the_pod_unready(sidecar: Manifest) -> None:
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/livez"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert "readinessProbe" not in sidecar


def test_the_desired_state_is_mounted_as_a_directory(pod: Manifest, sidecar: Manifest) -> None:
    assert not [
        mount for each in _containers(pod) for mount in each.get("volumeMounts", ()) if "subPath" in mount
    ]
    mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
    environment = {each["name"]: each["value"] for each in sidecar["env"]}
    assert mounts["allocations"] == environment["ALLOCSYNC_DESIRED"]


def test_an_edit_of_the_desired_state_does_not_start_new_pods(built: list[Manifest], pod: Manifest) -> None:
    names = [each["metadata"]["name"] for each in built if each["kind"] == "ConfigMap"]
    assert names == ["allocsync-allocations"]
    assert {"name": names[0]} in [volume.get("configMap") for volume in pod["volumes"]]


def test_every_container_meets_the_restricted_pod_security_standard(pod: Manifest) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for each in _containers(pod):
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True


def test_the_image_has_the_version_of_this_tree(sidecar: Manifest) -> None:
    assert sidecar["image"] == f"allocsync:{allocsync.__version__}"


def test_the_environment_of_the_sidecar_is_valid_settings(sidecar: Manifest) -> None:
    given = {each["name"]: each["value"] for each in sidecar["env"]}
    settings = {name.removeprefix("ALLOCSYNC_").lower(): value for name, value in given.items()}
    assert set(settings) <= set(Settings.model_fields)
    host, port = parse_listen(Settings.model_validate(settings).listen)
    assert host == "0.0.0.0"  # probes use the pod's address, not its loopback
    assert [each["containerPort"] for each in sidecar["ports"]] == [port]
