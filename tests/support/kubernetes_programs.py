"""Programs of Kubernetes: where they are, and a real etcd and kube-apiserver on loopback.

The rule: the environment variable KUBEBUILDER_ASSETS names the folder with etcd, kube-apiserver and kubectl,
as for envtest. A test that needs a missing program is skipped with the command that makes the folder.

Left out: a scheduler and a kubelet. What is applied is stored and validated, and nothing runs.
"""

import copy
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = "KUBEBUILDER_ASSETS"
MAKE_FOLDER = f"export {FOLDER}=$(tests/packaging/kubernetes_assets.sh)"
OLDEST_KUBECTL = 21  # the first with a kustomize that knows components
READY_SECONDS = 60.0
TOKEN = "of-the-administrator"


def find_program(name: str) -> Path:
    """Return the path of etcd or kube-apiserver, or skip the test."""
    program = Path(os.environ.get(FOLDER, "")) / name
    if FOLDER not in os.environ or not program.exists():
        pytest.skip(f"{name} is not in the folder {FOLDER}: {MAKE_FOLDER}")
    return program


def find_kubectl() -> Path:
    """Return the path of a kubectl that is new enough, or skip the test."""
    for each in (Path(os.environ.get(FOLDER, "/nonexistent")) / "kubectl", shutil.which("kubectl")):
        if each is not None and Path(each).exists():
            shown = subprocess.run(
                [each, "version", "--client", "--output=json"], capture_output=True, check=True, timeout=60
            )
            if int(json.loads(shown.stdout)["clientVersion"]["minor"].rstrip("+")) >= OLDEST_KUBECTL:
                return Path(each)
    pytest.skip(f"kubectl 1.{OLDEST_KUBECTL} or newer is not installed: {MAKE_FOLDER}")


@dataclass(frozen=True)
class Cluster:
    """A running kube-apiserver, and the kubectl and the configuration to reach it."""

    kubectl: Path
    configuration: Path

    def run(self, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl against this server, with `text` on its standard input."""
        command = [self.kubectl, f"--kubeconfig={self.configuration}", *arguments]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=60, check=False, env=_environment()
        )


def without_sidecars(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with its native sidecars as ordinary containers, for what knows no sidecars.

    Only their place differs: they are first among the containers, and their `restartPolicy` is gone.
    """
    manifest = copy.deepcopy(manifest)
    if manifest["kind"] == "Deployment":
        pod = manifest["spec"]["template"]["spec"]
        sidecars = pod.pop("initContainers", [])
        for each in sidecars:
            del each["restartPolicy"]
        pod["containers"] = [*sidecars, *pod["containers"]]
    return manifest


def _environment() -> dict[str, str]:
    return {**os.environ, "HOME": "/nonexistent"}  # no cache and no configuration of the user


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [int(each.getsockname()[1]) for each in sockets]


@contextmanager
def _process(*command: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing of it is kept


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Run etcd and kube-apiserver until the context ends, with their files in the folder."""
    kubectl, etcd, api = find_kubectl(), find_program("etcd"), find_program("kube-apiserver")
    client, peer, port = _free_ports(3)
    key = folder / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True, timeout=60)
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{TOKEN},administrator,1,"system:masters"\n', encoding="utf-8")
    database, configuration = f"http://127.0.0.1:{client}", folder / "configuration"
    configuration.write_text(_configuration(port), encoding="utf-8")
    etcd_options = {
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": database,
        "advertise-client-urls": database,
        "listen-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
        "initial-cluster": f"default=http://127.0.0.1:{peer}",
    }
    api_options = {
        "etcd-servers": database,
        "bind-address": "127.0.0.1",
        "secure-port": str(port),
        "insecure-port": "0",
        "cert-dir": str(folder / "certificates"),
        "token-auth-file": str(tokens),
        "authorization-mode": "RBAC",
        "endpoint-reconciler-type": "none",
        "service-cluster-ip-range": "10.96.0.0/24",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": str(key),
        "service-account-signing-key-file": str(key),
        "disable-admission-plugins": "ServiceAccount",
    }
    with (
        _process(etcd, *_flags(etcd_options), "--unsafe-no-fsync", log=folder / "etcd.log"),
        _process(api, *_flags(api_options), log=folder / "api.log") as process,
    ):
        started = Cluster(kubectl, configuration)
        deadline = time.monotonic() + READY_SECONDS
        while started.run("get", "--raw", "/readyz").stdout != "ok":
            assert process.poll() is None, (folder / "api.log").read_text(encoding="utf-8")[-3000:]
            assert time.monotonic() < deadline, "kube-apiserver is not ready"
            time.sleep(0.2)
        yield started


def _flags(options: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _configuration(port: int) -> str:
    named = {"name": "test"}
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{**named, "cluster": server}],
            "users": [{**named, "user": {"token": TOKEN}}],
            "contexts": [{**named, "context": {"cluster": "test", "user": "test"}}],
        }
    )
