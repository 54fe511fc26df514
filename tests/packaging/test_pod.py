"""The pod of deploy/kubernetes/overlays/sidecar with the built image, run by podman.

The app is the reference server. podman knows no native sidecars, so allocsync is an ordinary container in it.
Left out: the probes, which podman runs only under systemd, and the network: the pod has loopback alone.
"""

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.conftest import ROOT, require
from tests.support.containers import PROGRAMS, Engine, engine
from tests.support.kubernetes_programs import find_kubectl, without_sidecars

pytestmark = [pytest.mark.real, pytest.mark.distribution]

ALLOCATION = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"  # one that the reference server has
TOKEN = "of-the-secret"
SERVER = "http://127.0.0.1:8080"
DEADLINE_SECONDS = 30.0
# Prints when the server shows a version; runs beside the server, because the pod has no network.
WATCH = f"""
import json, sys, time, urllib.request
deadline = time.time() + {DEADLINE_SECONDS}
print(flush=True)
while time.time() < deadline:
    with urllib.request.urlopen("{SERVER}/allocation/{ALLOCATION}") as answer:
        if json.load(answer)["version"] == sys.argv[1]:
            print(time.time())
            break
    time.sleep(0.02)
"""
FAULTS = f"""
import sys, urllib.request
method, body = sys.argv[1:]
request = urllib.request.Request("{SERVER}/-/faults", method=method, data=body.encode() or None)
print(urllib.request.urlopen(request).read().decode())
"""


def _shipped() -> list[dict[str, Any]]:
    folder = ROOT / "deploy/kubernetes/overlays/sidecar"
    built = subprocess.run(
        [find_kubectl(), "kustomize", folder], capture_output=True, text=True, timeout=60, check=True
    )
    return list(yaml.safe_load_all(built.stdout))


def _for_podman(shipped: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what podman runs: allocsync as an ordinary container, and no port published on this machine."""
    rows = [without_sidecars(each) for each in shipped if each["kind"] in {"ConfigMap", "Deployment"}]
    for each in rows:
        for container in _containers(each):
            container.pop("ports", None)
    return rows


def _containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    pod = manifest["spec"]["template"]["spec"] if manifest["kind"] == "Deployment" else {}
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


@dataclass
class Pod:
    """The running pod: `ours` and `app` are its containers, `desired` the folder of its ConfigMap."""

    podman: Engine
    ours: str
    app: str
    desired: Path
    revisions: int = 0

    def swap(self, text: str) -> float:
        """Replace the desired state by a symbolic link, as a kubelet does; returns the time of that."""
        self.revisions += 1
        folder = self.desired / f"..{self.revisions}"
        folder.mkdir()
        (folder / "allocations.yaml").write_text(text, encoding="utf-8")
        if self.revisions == 1:
            (self.desired / "..data").symlink_to(folder.name)
            (self.desired / "new").symlink_to("..data/allocations.yaml")
            (self.desired / "new").replace(self.desired / "allocations.yaml")
            return time.time()
        (self.desired / "..data_tmp").symlink_to(folder.name)
        at = time.time()
        (self.desired / "..data_tmp").replace(self.desired / "..data")
        return at

    def seconds_until_shown(self, version: str, act: Callable[[], float]) -> float:
        """Return how long after `act` the server showed this version."""
        command = ["podman", "exec", self.app, "python3", "-c", WATCH, version]
        with subprocess.Popen(
            command, cwd=self.podman.folder, env=self.podman.environment, stdout=subprocess.PIPE, text=True
        ) as watch:
            assert watch.stdout is not None
            assert watch.stdout.readline() == "\n"  # it watches from now on
            begun = act()
            shown = watch.stdout.readline()
        assert shown, f"version {version} was not shown in {DEADLINE_SECONDS} s"
        return float(shown) - begun

    def faults(self, method: str, body: str = "") -> dict[str, Any]:
        """Read, replace or clear the faults of the server; returns its answer."""
        answer = self.podman.podman("exec", self.app, "python3", "-c", FAULTS, method, body)
        found: dict[str, Any] = json.loads(answer)
        return found

    def count(self, condition: str) -> int:
        """Return how many allocations have this condition, by `allocsync status` as in `kubectl exec`."""
        text = self.podman.podman("exec", self.ours, "allocsync", "status", "--json")
        return int(json.loads(text)["conditions"][condition])

    def answers(self) -> bool:
        """Return whether the daemon answers."""
        return self.podman.run("podman", "exec", self.ours, "allocsync", "status").returncode == 0

    def log(self) -> str:
        """Return the end of its log."""
        return self.podman.run("podman", "logs", "--tail=40", self.ours).stderr

    def runs_again(self, before: int) -> bool:
        """Return whether it runs as another process; starts it unless podman does, as the pod says."""
        state = self.podman.inspect("container", self.ours)["State"]
        if not state["Running"]:
            self.podman.run("podman", "start", self.ours)
        return bool(state["Running"] and state["Pid"] != before)

    def history(self) -> list[dict[str, Any]]:
        """Return the updates in the journal."""
        text = self.podman.podman("exec", self.ours, "allocsync", "history", "--json")
        return [json.loads(line) for line in text.splitlines()]

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Wait until it is true."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not what():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)


def _desired(version: str) -> str:
    return f"apiVersion: allocsync/v1\nallocations:\n  {ALLOCATION}:\n    version: {version}\n"


@pytest.fixture(name="pod")
def _pod(tmp_path: Path) -> Iterator[Pod]:
    for each in (*PROGRAMS, "catatonit"):
        require(each)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "allocsync"},
        "data": {"allocsync_api_token": base64.b64encode(TOKEN.encode()).decode()},
    }
    manifests = tmp_path / "pod.yaml"
    manifests.write_text(yaml.safe_dump_all([secret, *_for_podman(_shipped())]), encoding="utf-8")
    with engine() as podman:
        podman.podman("play", "kube", "--network=none", manifests)
        desired = Path(podman.inspect("volume", "allocsync-allocations")["Mountpoint"])
        yield Pod(podman, "allocsync-pod-0-allocsync", "allocsync-pod-0-app", desired)


def test_what_podman_runs_differs_from_the_manifest_in_the_place_of_the_container_and_its_port() -> None:
    shipped, run = _shipped(), _for_podman(_shipped())
    deployment = next(each for each in shipped if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"] = [*pod.pop("initContainers"), *pod["containers"]]
    assert pod["containers"][0].pop("restartPolicy") == "Always"
    assert pod["containers"][0].pop("ports") == [{"name": "metrics", "containerPort": 9847}]
    assert run == [each for each in shipped if each["kind"] in {"ConfigMap", "Deployment"}]


def test_the_pod_does_its_job_without_privileges_and_loses_nothing(pod: Pod) -> None:
    _check_privileges(pod)
    _check_first_answer(pod)
    _check_edits(pod)
    _check_memory(pod)
    _check_killed_in_an_update(pod)


def _check_privileges(pod: Pod) -> None:
    for container in (pod.ours, pod.app):
        state = pod.podman.inspect("container", container)
        lines = Path(f"/proc/{state['State']['Pid']}/status").read_text(encoding="utf-8").splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        assert status["Uid"] == ["65532"] * 4
        assert {status[name][0] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])  # 2: a filter
        assert state["HostConfig"]["ReadonlyRootfs"] is True
        write = "import pathlib; pathlib.Path('/usr/new').touch()"
        refused = pod.podman.run("podman", "exec", container, "python3", "-c", write)
        assert "Read-only file system" in refused.stderr or "Permission denied" in refused.stderr


def _check_first_answer(pod: Pod) -> None:
    """The example has mode observe: it is reported and not corrected."""
    pod.wait_for(pod.answers)
    pod.wait_for(lambda: pod.count("Drifted") == 1)
    assert pod.history() == []


def _check_edits(pod: Pod) -> None:
    pod.swap(_desired("2.0"))  # from a file to the links of a kubelet
    pod.wait_for(lambda: pod.count("InSync") == 1)
    seconds = [
        pod.seconds_until_shown(version, lambda version=version: pod.swap(_desired(version)))  # type: ignore[misc]
        for version in ("2.1", "2.2", "2.3")
    ]
    assert min(seconds) < 1, seconds  # the best of three: other tests may use this machine


def _check_memory(pod: Pod) -> None:
    """A process that wants more than the manifest allows is killed, and the daemon is not."""
    before = pod.podman.inspect("container", pod.ours)
    assert before["HostConfig"]["Memory"] == 256 * 1024 * 1024
    take = "import sys; b = bytearray(int(sys.argv[1]) << 20); print(len(b))"
    assert pod.podman.podman("exec", pod.ours, "python3", "-c", take, "64") == f"{64 << 20}\n"
    killed = pod.podman.run("podman", "exec", pod.ours, "python3", "-c", take, "400")
    assert (killed.returncode, killed.stdout) == (137, "")
    assert pod.podman.inspect("container", pod.ours)["State"]["Pid"] == before["State"]["Pid"]


def _check_killed_in_an_update(pod: Pod) -> None:
    """SIGTERM, and SIGKILL at once, while the outcome of an update is unknown; either may end it."""
    before = len(pod.history())
    pod.faults("PUT", json.dumps({"update": {"timeout_after": 1.0}}))
    pod.swap(_desired("3.0"))
    pod.wait_for(lambda: pod.faults("GET")["fired"].get("update.timeout_after", 0) == 1)
    assert pod.history()[-1]["outcome"] == "unknown"
    pid = pod.podman.inspect("container", pod.ours)["State"]["Pid"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
    pod.wait_for(lambda: pod.runs_again(pid))
    pod.wait_for(pod.answers)
    assert pod.log().count('"listening"') == 2
    pod.wait_for(lambda: pod.count("InSync") == 1)
    entries = pod.history()
    assert len(entries) == before + 1
    assert [each["outcome"] for each in entries if each["after"] == {"version": "3.0"}] == ["applied"]
    assert pod.faults("GET")["fired"]["update.timeout_after"] == 1  # nothing was sent again
