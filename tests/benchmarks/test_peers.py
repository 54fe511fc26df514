"""The peers work: they converge through faults, and report what they gave up."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from allocsync.desired.loader import load
from allocsync.model.cloud import Cloud, field_value
from allocsync.model.desired_state import Mode
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.benchmarks.peers.converge import read_desired

FAULTS = {"seed": 4, "update": {"timeout_before": 0.2, "timeout_after": 0.2}, "snapshot": {"503": 0.1}}
TEXT = """
apiVersion: allocsync/v1
defaults: {region: mars-north1, urls: {base: {status: RUNNING}}}
allocations:
  a: {version: 1.10, urls: {vanity: {url: https://x.pieces.cloud, status: RUNNING}}}
  b: {region: us-central1, status: {cloud: RUNNING}}
  c: {mode: observe, version: 1.9}
"""


def clouds_for_json() -> list[Cloud]:
    return [{**cloud, "billing": {"plan": "pro"}} for cloud in sample_clouds(12, 5)]


@pytest.mark.parametrize(
    ("peer", "keeps"),
    [("script", True), ("script --read-again", True), ("sdk_loop", False)],
)
async def test_a_peer_converges_through_faults_and_ends(peer: str, *, keeps: bool, tmp_path: Path) -> None:
    module, *flags = peer.split()
    clouds = clouds_for_json()
    rows = "".join(f"  {cloud['id']}: {{region: mars, version: '1.10'}}\n" for cloud in clouds)
    (tmp_path / "a.yaml").write_text(f"apiVersion: allocsync/v1\nallocations:\n{rows}")
    async with ReferenceServer.start(clouds, faults=FAULTS) as server:
        name = f"tests.benchmarks.peers.{module}"
        command = (sys.executable, "-m", name, server.url, str(tmp_path), *flags)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await asyncio.wait_for(process.communicate(), 90)
        truth = list(server.clouds.values())
        fired = dict(server.fired)
    lines = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert lines[-1]["event"] == "in_sync"
    assert {field_value(cloud, "region") for cloud in truth} == {"mars"}
    assert all(("billing" in cloud) == keeps for cloud in truth)
    assert all(fired[f"update.{kind}"] for kind in ("timeout_before", "timeout_after"))


def test_a_peer_reads_the_files_as_allocsync_does(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TEXT)
    revision = load(tmp_path, default_mode=Mode.ENFORCE).revision
    ours = {key: dict(one.fields) for key, one in revision.allocations.items() if one.mode is Mode.ENFORCE}
    assert read_desired(tmp_path) == ours
    assert len(ours) == 2
