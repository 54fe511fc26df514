"""Only what was reviewed is applied, by plan id or by plan file, checked against the server's log."""

import json
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, declare

CLOUDS = sample_clouds(4, 22)
IDS = [str(cloud["id"]) for cloud in CLOUDS]


def posts(server: ReferenceServer) -> list[str]:
    return [record["id"] for record in server.records if record["op"] == "update"]


async def test_a_plan_file_can_be_applied_once(tmp_path: Path) -> None:
    desired, plan = tmp_path / "desired.yaml", tmp_path / "plan.json"
    declare(desired, CLOUDS, region="mars")
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        where = ("--api-url", server.url, "--desired", str(desired))
        status, text, _ = await command("plan", *where, "--out", str(plan))
        assert status == 0
        digest = json.loads(plan.read_text())["plan_id"]
        assert f"allocsync apply --plan-id {digest[:12]}" in text
        status, text, _ = await command("apply", *where, "--plan", str(plan))
        assert (status, sorted(posts(server))) == (0, sorted(IDS))
        assert "4 in sync (4 updated)" in text
        status, text, stderr = await command("apply", *where, "--plan", str(plan))
        assert (status, text) == (1, "")
        assert f"no longer: {IDS[0]} region" in stderr
        assert len(posts(server)) == len(IDS)


@pytest.mark.parametrize("review", ["plan id", "plan"])
async def test_if_anything_has_changed_since_the_review_nothing_is_sent(tmp_path: Path, review: str) -> None:
    desired, plan = tmp_path / "desired.yaml", tmp_path / "plan.json"
    declare(desired, CLOUDS, region="mars")
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        where = ("--api-url", server.url, "--desired", str(desired))
        await command("plan", *where, "--out", str(plan))
        plan_id = json.loads(plan.read_text())["plan_id"]
        reviewed = ("--plan", str(plan)) if review == "plan" else ("--plan-id", plan_id[:12])
        server.set_field(IDS[2], "region", "venus")
        status, _, stderr = await command("apply", *where, *reviewed)
        assert status == 1
        assert "is not what was reviewed" in stderr
        assert "Nothing was sent" in stderr
        assert (f"{IDS[2]} region" in stderr) == (review == "plan")
        assert posts(server) == []
        assert len(server.records) > 1, "live state was read"
        server.set_field(IDS[2], "region", str(CLOUDS[2]["region"]))
        assert (await command("apply", *where, *reviewed))[0] == 0
        assert sorted(posts(server)) == sorted(IDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan-id", "12"], "12 to 64 hexadecimal digits"),
        (["--plan-id", "0" * 12, "--plan", "x"], "give one of them"),
        (["--plan", "/nowhere/plan.json"], "no such file"),
        (["--plan", "DESIRED"], "not a plan"),
    ],
)
async def test_an_invalid_review_is_bad_usage_and_sends_no_request(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    desired = tmp_path / "desired.yaml"
    declare(desired, CLOUDS, region="mars")
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        words = [str(desired) if word == "DESIRED" else word for word in arguments]
        status, _, stderr = await command("apply", "--api-url", server.url, "--desired", str(desired), *words)
        assert (status, server.records) == (64, [])
        assert message in stderr
