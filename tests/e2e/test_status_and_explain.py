"""`status` and `explain` as processes, beside a real daemon."""

import asyncio
import json
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from allocsync.model.condition import Condition
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare, eventually

CLOUDS = sample_clouds(3, 22)
FIRST = str(CLOUDS[0]["id"])
LIMITED = sample_clouds(12, 22)  # as many as the change limit needs


async def test_status_shows_the_daemons_status_and_waits_until_all_are_in_sync(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log") as running,
    ):
        code, text, stderr = await command("status", "--url", running.url, "--wait", "--timeout", "20")
        assert (code, stderr) == (0, "")
        assert text.startswith("3 InSync   of 3, confirmed since ")
        declare(file, CLOUDS, region="mars", mode="suspend")
        while json.loads((await running.get("/api/v1/status"))[1])["conditions"]["InSync"]:
            await asyncio.sleep(0.05)
        environ = {"ALLOCSYNC_LISTEN": running.url.removeprefix("http://")}
        code, text, _ = await command("status", "--json", environ=environ)
        found = json.loads(text)
        assert code == 0
        assert list(found) == [
            *("schema", "revision", "api", "all_confirmed_since", "files_read_at", "resync_seconds"),
            *("conditions", "allocations", "awaiting_approval", "rejected"),
        ]
        assert found["awaiting_approval"] is found["rejected"] is None
        assert found["conditions"] == {each.value: 3 * (each == "Suspended") for each in Condition}
        assert [list(row) for row in found["allocations"]] == [
            [
                *("id", "condition", "reason", "since", "confirmed_at", "next_read_at", "waits_for"),
                *("declaration", "advice", "needs_person", "paused"),
            ]
        ] * 3
        code, text, stderr = await command("status", "--wait", "--timeout", "0.2", environ=environ)
        assert code == 1
        assert "allocsync: 3 of 3 not in sync" in stderr
        assert f"allocsync: {FIRST}: Suspended. mode suspend" in stderr
        assert f"  {FIRST}   Suspended" in text


async def test_status_lists_the_problems_of_rejected_files_as_validate_does_until_they_are_corrected(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log") as running,
    ):
        await running.in_sync(len(CLOUDS))
        before = json.loads((await running.get("/api/v1/status"))[1])
        file.write_text(file.read_text() + f"  {FIRST}: {{region: x}}\n")
        await eventually(lambda: running.events("desired_rejected"))
        _, text, _ = await command("validate", str(file))
        wrong = text.splitlines()[0]
        assert "declared twice; first at" in wrong
        code, text, _ = await command("status", "--url", running.url)
        lines = text.splitlines()
        assert code == 0
        stays = f"; revision {before['revision']['active'][:8]} stays active"
        assert lines[1].startswith("  the files have been rejected since ")
        assert lines[1].endswith(stays)
        assert lines[2:] == [f"    {wrong}"]
        code, _, stderr = await command("status", "--url", running.url, "--wait", "--timeout", "0.2")
        assert code == 1
        assert wrong in stderr
        found = json.loads((await running.get("/api/v1/status"))[1])
        assert found["revision"] == before["revision"]
        since = found["rejected"]["since"]
        file.write_text(file.read_text() + "\t")
        await eventually(lambda: len(running.events("desired_rejected")) > 1)
        _, text, _ = await command("status", "--url", running.url, "--json")
        assert json.loads(text)["rejected"]["since"] == since, (
            "the files have been rejected since the first edit"
        )
        declare(file, CLOUDS, region="mars")
        async with asyncio.timeout(20):
            while json.loads((await running.get("/api/v1/status"))[1])["rejected"]:
                await asyncio.sleep(0.05)
        code, text, _ = await command("status", "--url", running.url)
        assert (code, len(text.splitlines())) == (0, 1)


async def test_a_daemon_that_does_not_answer_is_an_error_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for more in ([], ["--wait", "--timeout", "0.1"]):
        code, text, stderr = await command("status", "--url", url, *more)
        assert (code, text) == (1, "")
        assert f"allocsync: no daemon answers at {url}. Is `allocsync run` running?" in stderr
        assert "Traceback" not in stderr
    code, _, stderr = await command("status", "--url", url, "--timeout", "1")
    assert code == 64
    assert "--timeout needs --wait" in stderr


async def test_explain_shows_desired_and_live_values_the_last_error_and_the_open_update(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars", version=str(CLOUDS[0]["version"]))
    faults = {"update": {"timeout_before": 1}}
    async with (
        ReferenceServer.start(CLOUDS, faults=faults) as server,
        daemon(server.url, file, tmp_path / "log", "--settle-seconds", "60") as running,
    ):
        await eventually(lambda: server.fired["update.timeout_before"] == 3)
        while json.loads((await running.get("/api/v1/status"))[1])["conditions"]["OutcomeUnknown"] < 3:
            await asyncio.sleep(0.05)
        code, text, stderr = await command("explain", FIRST[:8], "--url", running.url)
        assert (code, stderr) == (0, "")
        lines = text.splitlines()
        assert lines[0].startswith(f"{FIRST}   OutcomeUnknown since ")
        rest = "\n".join(lines[1:])
        assert f"declared    {file}:3   mode enforce" in rest
        assert f"live {CLOUDS[0]['region']} → declared mars" in rest
        assert f"equal       version   {CLOUDS[0]['version']}" in rest
        assert "region → mars   outcome unknown since " in rest
        assert "last error  504" in rest
        assert "0 reads, 1 updates in a row" in rest
        code, text, _ = await command("explain", FIRST, "--url", running.url, "--json")
        assert code == 0
        found = json.loads(text)
        assert found["differences"] == [{"field": "region", "live": CLOUDS[0]["region"], "desired": "mars"}]
        assert found["open_update"]["changes"] == found["differences"]
        code, text, stderr = await command("explain", FIRST[:7], "--url", running.url)
        assert (code, text) == (1, "")
        assert f"allocsync: {FIRST[:7]} is too short" in stderr
        assert f"allocsync:   {FIRST}" in stderr


@pytest.mark.parametrize(
    ("environ", "condition", "reason", "advice"),
    [
        (
            {"ALLOCSYNC_MAX_CHANGES_PERCENT": "0"},
            "AwaitingApproval",
            r"revision (\w{8}) awaits approval: .*",
            r"`allocsync plan` shows the change, `allocsync approve \w{8}` lets it through, and reverting .*",
        ),
        (
            {"ALLOCSYNC_MAX_WRITES_PER_HOUR": "12"},
            "Blocked",
            r"write quota used up: .* allows 12 updates in an hour; the next at ..:..:..Z",
            r"wait until ..:..:..Z, when the quota allows the next update, or raise .*",
        ),
        (
            {"ALLOCSYNC_WRITE_WINDOWS": "DAY 00:00-24:00"},
            "Blocked",
            r"outside the write windows: .* allows updates in DAY 00:00-24:00 UTC; the next opens DAY 00:00",
            r"wait until DAY 00:00 UTC, when the next write window opens, or change .*",
        ),
        (
            {"PAUSE": "--all"},
            "Pending",
            r"differs in region; paused until .*Z by mark: a migration",
            r"wait until .*Z, or ask mark; `allocsync resume --all` ends the pause",
        ),
    ],
    ids=["approval", "quota", "window", "pause"],
)
async def test_the_advice_of_explain_and_status_fits_what_holds_an_update_back(
    tmp_path: Path, environ: dict[str, str], condition: str, reason: str, advice: str
) -> None:
    day = (datetime.now(UTC) + timedelta(days=3)).strftime("%a")
    reason, advice = reason.replace("DAY", day), advice.replace("DAY", day)
    environ = {
        "ALLOCSYNC_STATE_DIR": str(tmp_path / "state"),
        **{name: value.replace("DAY", day) for name, value in environ.items()},
    }
    file, is_open = tmp_path / "desired.yaml", "ALLOCSYNC_WRITE_WINDOWS" not in environ
    declare(file, LIMITED, region="mars")
    async with (
        ReferenceServer.start(LIMITED) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        url = ("--url", running.url)
        if is_open:
            await running.in_sync(len(LIMITED))
        if "PAUSE" in environ:
            pause = ("--for", "1h", "--reason", "a migration", "--owner", "mark")
            assert (await command("pause", environ["PAUSE"], *pause, *url, environ=environ))[0] == 0
        declare(file, LIMITED, region="venus")
        async with asyncio.timeout(20):
            while json.loads((await running.get("/api/v1/status"))[1])["conditions"][condition] != len(
                LIMITED
            ):
                await asyncio.sleep(0.05)
        key = str(LIMITED[0]["id"])
        code, text, stderr = await command("explain", key[:8], *url)
        assert (code, stderr) == (0, "")
        assert re.search(rf"^  why         {reason}$", text, re.MULTILINE), text
        assert re.search(rf"^  do          {advice}$", text, re.MULTILINE), text
        assert "validate" not in text, "the files are valid"
        assert server.clouds[key]["region"] == ("mars" if is_open else LIMITED[0]["region"])
        code, text, stderr = await command("status", *url)
        assert (code, stderr) == (0, "")
        assert len(re.findall(rf"^  {condition}: {advice}$", text, re.MULTILINE)) == 1, text
        assert "validate" not in text
