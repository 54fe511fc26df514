"""The overlays of deploy/kubernetes, built by kubectl and validated against the schemas of Kubernetes."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import kubernetes_validate
import pytest
import yaml

import allocsync
from allocsync.settings.loader import load_settings
from allocsync.settings.model import Settings
from allocsync.settings.validators import parse_listen
from tests.packaging.conftest import ROOT
from tests.support.documents import blocks
from tests.support.kubernetes_programs import find_kubectl, without_sidecars

pytestmark = [pytest.mark.real, pytest.mark.distribution]

FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("deployment", "sidecar")
# The first version with native sidecars by default, and the one that the manifests were written for.
VERSIONS = ("1.29", "1.34")
KINDS = {
    "deployment": ["ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim"],
    "sidecar": ["ConfigMap", "Deployment", "NetworkPolicy"],
}

Manifest: TypeAlias = dict[str, Any]  # parsed YAML


@cache
def _kustomize(folder: Path) -> str:
    result = subprocess.run(
        [find_kubectl(), "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")  # a warning says that something is deprecated
    return result.stdout


def _build(folder: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(_kustomize(folder)))


@pytest.fixture(name="overlay", params=OVERLAYS)
def _overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(name="built")
def _built(overlay: str) -> list[Manifest]:
    return _build(FOLDER / "overlays" / overlay)


def _one(built: list[Manifest], kind: str) -> Manifest:
    (found,) = (each for each in built if each["kind"] == kind)
    return found


def _pod(built: list[Manifest]) -> Manifest:
    pod: Manifest = _one(built, "Deployment")["spec"]["template"]["spec"]
    return pod


def _containers(built: list[Manifest]) -> Iterator[Manifest]:
    yield from _pod(built).get("initContainers", ())
    yield from _pod(built)["containers"]


def _ours(built: list[Manifest]) -> Manifest:
    (found,) = (each for each in _containers(built) if each["name"] == "allocsync")
    return found


def _environment(container: Manifest) -> Mapping[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_for_kubernetes(overlay: str, built: list[Manifest], version: str) -> None:
    assert sorted(each["kind"] for each in built) == KINDS[overlay]
    for each in built:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_reject_a_misspelt_key() -> None:
    deployment = _one(_build(FOLDER / "overlays/sidecar"), "Deployment")
    deployment["spec"]["template"]["spec"]["initContainers"][0]["restartPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.34", strict=True)


def test_the_sidecar_differs_from_the_base_in_its_place_and_in_the_app_beside_it() -> None:
    sidecar = _one(_build(FOLDER / "overlays/sidecar"), "Deployment")
    assert [each["restartPolicy"] for each in _pod([sidecar])["initContainers"]] == ["Always"]
    moved = without_sidecars(sidecar)
    assert _pod([moved])["containers"].pop()["name"] == "app"
    assert moved == _one(_build(FOLDER / "base"), "Deployment")


def test_the_app_and_the_sidecar_meet_at_a_port_that_any_user_may_bind() -> None:
    built = _build(FOLDER / "overlays/sidecar")
    (app,) = _pod(built)["containers"]
    _, port = parse_listen(app["args"][app["args"].index("--listen") + 1])
    assert _environment(_ours(built))["ALLOCSYNC_API_URL"] == f"http://localhost:{port}"
    assert port >= 1024


def test_only_a_stall_restarts_the_container(built: list[Manifest]) -> None:
    assert _ours(built)["startupProbe"]["httpGet"]["path"] == "/livez"
    assert _ours(built)["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_only_without_an_app_beside_it_a_probe_can_make_the_pod_unready(
    overlay: str, built: list[Manifest]
) -> None:
    probes = [
        each["readinessProbe"]["httpGet"]["path"] for each in _containers(built) if "readinessProbe" in each
    ]
    assert probes == (["/readyz"] if overlay == "deployment" else [])


def test_two_pods_never_run_at_a_time(built: list[Manifest]) -> None:
    spec = _one(built, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_pod_has_longer_to_stop_than_the_daemon_takes(built: list[Manifest]) -> None:
    assert _pod(built)["terminationGracePeriodSeconds"] >= 30


def test_the_state_outlives_the_pod_where_the_api_does(overlay: str, built: list[Manifest]) -> None:
    (state,) = (each for each in _pod(built)["volumes"] if each["name"] == "state")
    mounted = {each["name"]: each["mountPath"] for each in _ours(built)["volumeMounts"]}
    assert mounted["state"] == str(Settings.model_fields["state_dir"].default)
    if overlay == "deployment":
        claim = _one(built, "PersistentVolumeClaim")["metadata"]["name"]
        assert state == {"name": "state", "persistentVolumeClaim": {"claimName": claim}}
    else:
        assert state.keys() == {"name", "emptyDir"}


def test_desired_state_and_secrets_are_mounted_as_directories(built: list[Manifest]) -> None:
    assert not [
        mount for each in _containers(built) for mount in each.get("volumeMounts", ()) if "subPath" in mount
    ]
    mounts = {mount["name"]: mount["mountPath"] for mount in _ours(built)["volumeMounts"]}
    environment = _environment(_ours(built))
    assert mounts["allocations"] == environment["ALLOCSYNC_DESIRED"]
    assert mounts["secrets"] == environment["CREDENTIALS_DIRECTORY"]


def test_an_edit_of_the_desired_state_does_not_start_new_pods(built: list[Manifest]) -> None:
    name = _one(built, "ConfigMap")["metadata"]["name"]
    assert name == "allocsync-allocations"
    assert {"name": name} in [volume.get("configMap") for volume in _pod(built)["volumes"]]


def test_every_container_meets_the_restricted_pod_security_standard(built: list[Manifest]) -> None:
    pod = _pod(built)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for each in _containers(built):
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True


def test_every_container_has_requests_and_a_limit_of_memory(built: list[Manifest]) -> None:
    for each in _containers(built):
        assert each["resources"]["requests"].keys() == {"cpu", "memory"}
        assert each["resources"]["limits"].keys() == {"memory"}


def test_the_images_have_the_version_of_this_tree(built: list[Manifest]) -> None:
    assert {each["image"] for each in _containers(built)} == {f"allocsync:{allocsync.__version__}"}


def test_the_environment_is_valid_settings(built: list[Manifest], tmp_path: Path) -> None:
    environment = _environment(_ours(built))
    loaded = load_settings(None, {}, environment, secrets_directory=tmp_path / "none")
    host, port = parse_listen(loaded.listen)
    assert host == "0.0.0.0"  # probes use the pod's address, not its loopback
    assert _ours(built)["ports"] == [{"name": "metrics", "containerPort": port}]


@pytest.fixture(name="mine")
def _mine(tmp_path: Path) -> list[Manifest]:
    """Build the overlay that the document shows, beside the shipped ones, with a desired state of its own."""
    document = Path("deploy/README.md")
    (shown,) = (each for each in blocks(document) if each.notes.get("yaml") == "kubernetes")
    overlay = Path(shutil.copytree(FOLDER, tmp_path / "kubernetes")) / "overlays/mine"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(shown.text, encoding="utf-8")
    (overlay / "allocations.yaml").write_text("mine", encoding="utf-8")
    return _build(overlay)


def test_the_overlay_of_the_document_replaces_image_and_desired_state(mine: list[Manifest]) -> None:
    config = _one(mine, "ConfigMap")
    assert (config["metadata"]["name"], config["data"]) == (
        "allocsync-allocations",
        {"allocations.yaml": "mine"},
    )
    assert _ours(mine)["image"] == f"your-registry/allocsync:{allocsync.__version__}"


def test_the_network_policy_and_the_pod_monitor_select_the_pod_and_its_port(mine: list[Manifest]) -> None:
    labels = _one(mine, "Deployment")["spec"]["template"]["metadata"]["labels"]
    (port,) = _ours(mine)["ports"]
    policy, monitor = _one(mine, "NetworkPolicy")["spec"], _one(mine, "PodMonitor")
    assert policy["podSelector"]["matchLabels"] == labels
    assert [each["port"] for rule in policy["ingress"] for each in rule["ports"]] == [port["containerPort"]]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    assert [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]] == [port["name"]]
