"""The overlays of deploy/kubernetes, applied to a real kube-apiserver.

It is version 1.20, the newest that can be built from Debian's archive. It knows no native sidecars, so the
sidecar is applied as an ordinary container; a test shows that it refuses the sidecar for that reason alone.
The schemas of newer versions are in `test_kubernetes.py`.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.conftest import ROOT, require
from tests.support.kubernetes_programs import Cluster, cluster, without_sidecars

pytestmark = [pytest.mark.real, pytest.mark.distribution]

OVERLAYS = ("deployment", "sidecar")


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require("openssl")
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(name="namespace")
def _namespace(server: Cluster, request: pytest.FixtureRequest) -> str:
    name = str(abs(hash(request.node.name)))
    assert server.run("create", "namespace", name).returncode == 0
    return name


@pytest.fixture(name="manifests")
def _manifests(tmp_path: Path) -> Path:
    """Return a copy of deploy/kubernetes that a test may edit."""
    return Path(shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "kubernetes"))


def _known_to_the_server(server: Cluster, folder: Path) -> str:
    """Return what `kubectl kustomize` makes of the overlay, without native sidecars."""
    built = server.run("kustomize", folder)
    assert built.returncode == 0, built.stderr
    return yaml.safe_dump_all(map(without_sidecars, yaml.safe_load_all(built.stdout)))


def _contains(stored: Any, wanted: Any) -> bool:  # noqa: ANN401 - JSON of any shape
    """Return whether the server has stored all of this; it adds defaults."""
    if isinstance(wanted, dict):
        return all(name in stored and _contains(stored[name], each) for name, each in wanted.items())
    if isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(_contains, stored, wanted))
    return bool(stored == wanted)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_accepts_and_stores_every_manifest_as_it_is(
    server: Cluster, namespace: str, manifests: Path, overlay: str
) -> None:
    text = _known_to_the_server(server, manifests / "overlays" / overlay)
    apply = ("apply", "--namespace", namespace, "--filename", "-", "--server-side", "--validate=true")
    rehearsed = server.run(*apply, "--dry-run=server", text=text)
    assert rehearsed.returncode == 0, rehearsed.stderr
    assert server.run("get", "deployment", "--namespace", namespace, "--output=name").stdout == ""
    applied = server.run(*apply, text=text)
    assert applied.returncode == 0, applied.stderr
    for each in yaml.safe_load_all(text):
        named = (each["kind"], each["metadata"]["name"])
        stored = server.run("get", *named, "--namespace", namespace, "--output=json")
        assert _contains(json.loads(stored.stdout), each), named


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_misspelt_key_is_refused(server: Cluster, namespace: str, manifests: Path, overlay: str) -> None:
    text = _known_to_the_server(server, manifests / "overlays" / overlay)
    assert "readOnlyRootFilesystem" in text
    apply = ("apply", "--namespace", namespace, "--filename", "-", "--validate=true")
    refused = server.run(*apply, text=text.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))
    assert refused.returncode != 0
    assert "readOnlyRootFileSystem" in refused.stderr


def test_the_server_refuses_the_sidecar_for_being_one_and_for_nothing_else(
    server: Cluster, namespace: str, manifests: Path
) -> None:
    apply = ("apply", "--namespace", namespace, "--kustomize", manifests / "overlays/sidecar")
    refused = server.run(*apply, "--validate=true")
    assert refused.returncode != 0
    assert re.findall(r'unknown field "(\w+)"', refused.stderr) == ["restartPolicy"], refused.stderr
    # Without the check of names, it takes the sidecar for an init container, which may have no probes.
    refused = server.run(*apply, "--validate=false")
    assert refused.returncode != 0
    assert set(re.findall(r"(\w+): Invalid value", refused.stderr)) == {"livenessProbe", "startupProbe"}
    assert refused.stderr.count("must not be set for init containers") == 2


def test_an_edit_of_the_desired_state_changes_the_config_map_only(
    server: Cluster, namespace: str, manifests: Path
) -> None:
    apply = ("apply", "--namespace", namespace, "--kustomize", manifests / "overlays/deployment")
    assert server.run(*apply).stdout.count("created") == 4
    assert server.run(*apply).stdout.count("unchanged") == 4
    file = manifests / "base/allocations.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("1.10", "1.11"), encoding="utf-8")
    lines = server.run(*apply).stdout.splitlines()
    assert [line for line in lines if not line.endswith("unchanged")] == [
        "configmap/allocsync-allocations configured"
    ]
