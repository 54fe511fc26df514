"""`retry`, `sync` and `reload` with a real daemon, checked against the log of the server."""

import json
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import Daemon, command, daemon, declare, eventually

CLOUDS = sample_clouds(4, 21)
FIRST, SECOND, THIRD = (str(cloud["id"]) for cloud in CLOUDS[:3])
SOON_SECONDS = 5.0


def updates(server: ReferenceServer, since: int) -> list[str]:
    """Return the sorted ids of the allocations that were sent an update after a place in the server's log."""
    return sorted(str(row["id"]) for row in server.records[since:] if row["op"] == "update")


async def condition(running: Daemon, key: str) -> str:
    return str(json.loads((await running.get(f"/api/v1/allocations/{key}"))[1])["condition"])


async def read_after(server: ReferenceServer, place: int, *, times: int) -> None:
    """Wait until each allocation was read this often after a place in the server's log."""

    def is_read() -> bool:
        rows = [row.get("id") for row in server.records[place:] if row["op"] == "snapshot"]
        return all(rows.count(str(cloud["id"])) >= times for cloud in CLOUDS)

    await eventually(is_read)


async def test_what_the_api_rejected_is_repaired_after_a_retry_and_not_before(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="mars")
    environ = {"ALLOCSYNC_STATE_DIR": str(state), "ALLOCSYNC_BULK": "off", "ALLOCSYNC_RESYNC_SECONDS": "0.5"}
    async with (
        ReferenceServer.start(CLOUDS, faults={"update": {"400": 1}}, log_all=True) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        where = ("--url", running.url)
        await eventually(lambda: len(updates(server, 0)) == len(CLOUDS))
        assert server.fired["update.400"] == len(CLOUDS)
        server.set_faults({})
        mended = len(server.records)
        assert await command("sync", *where, environ=environ) == (0, "reading 4 allocations now\n", "")
        reloaded = await command("reload", *where, environ=environ)
        assert reloaded == (0, "files and secrets are read again\n", "")
        assert len(running.events("reloading")) == 1
        await read_after(server, len(server.records), times=3)
        for cloud in CLOUDS:
            assert await condition(running, str(cloud["id"])) == "Failing"
        assert updates(server, mended) == [], "what was rejected is read and not sent again"
        assert len(updates(server, 0)) == len(CLOUDS)
        text = (await command("explain", FIRST, *where))[1]
        assert f"`allocsync retry {FIRST}` sends it again now" in text
        assert "`allocsync retry ID` sends it again now" in (await command("status", *where))[1]

        code, text, stderr = await command(
            "retry", FIRST[:8], SECOND, FIRST, *where, "--owner", "mark", environ=environ
        )
        assert (code, stderr) == (0, "")
        assert text == f"retrying {FIRST} now\nretrying {SECOND} now\n"
        await eventually(
            lambda: {server.clouds[key]["region"] for key in (FIRST, SECOND)} == {"mars"}, SOON_SECONDS
        )
        assert updates(server, mended) == sorted([FIRST, SECOND]), (
            "one update each, and none of another allocation"
        )
        assert await condition(running, THIRD) == "Failing"
        assert [
            (row["allocation"], row["scope"], row["by"]) for row in running.events("retry_requested")
        ] == [
            (FIRST, "one", "mark"),
            (SECOND, "one", "mark"),
        ]

        code, text, stderr = await command("retry", "--all", "--json", *where, environ=environ)
        assert (code, json.loads(text), stderr) == (0, {"schema": 1, "allocations": 4, "stored": True}, "")
        await running.in_sync(len(CLOUDS), SOON_SECONDS)
        assert updates(server, mended) == sorted(str(cloud["id"]) for cloud in CLOUDS)
        told = running.events("retry_requested")[-1]
        assert told["scope"] == "all"
        assert "allocation" not in told


async def test_a_retry_says_until_when_retry_after_holds_it_back(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS[:1], region="mars")
    environ = {"ALLOCSYNC_STATE_DIR": str(state)}
    async with (
        ReferenceServer.start(CLOUDS, faults={"update": {"423": 1, "retry_after": 240}}) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await eventually(lambda: running.events("update_rejected"))
        assert server.fired["update.423"] == 1
        server.set_faults({})
        code, text, stderr = await command("retry", FIRST, "--url", running.url, environ=environ)
        assert (code, stderr) == (0, "")
        assert text.startswith(f"retrying {FIRST}; no update before ")
        assert text.endswith("Z (in 4 min)\n")
        code, text, _ = await command("retry", "--all", "--url", running.url, environ=environ)
        assert text == "retrying 1 allocation now, or when a Retry-After or a pause ends\n"
        assert server.clouds[FIRST]["region"] != "mars"


async def test_a_wrong_retry_is_answered_with_the_reason_and_changes_nothing(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    environ = {"ALLOCSYNC_STATE_DIR": str(state)}
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await running.in_sync(len(CLOUDS))
        where = ("--url", running.url)
        wrong = (
            ((FIRST, "nobody-at-all"), 1, "nobody-at-all: no such allocation is declared"),
            ((FIRST[:5],), 1, f"allocsync:   {FIRST}"),
            ((), 64, "give the ID of an allocation, or --all"),
            ((FIRST, "--all"), 64, "give the ID of an allocation, or --all"),
            ((FIRST, "--owner", "x" * 201), 1, "owner must be a text"),
        )
        for words, exit_code, message in wrong:
            code, text, stderr = await command("retry", *words, *where, environ=environ)
            assert (code, text) == (exit_code, ""), words
            assert message in stderr
            assert "Traceback" not in stderr
        for more in (("retry", "--all"), ("sync",), ("reload",)):
            code, text, stderr = await command(*more, *where)
            assert (code, text) == (1, "")
            assert "this command needs the daemon's token" in stderr
        assert not running.events("retry_requested")
        assert not running.events("reloading")
    for more in (("retry", FIRST), ("sync",), ("reload",)):
        code, text, stderr = await command(*more, *where, environ=environ)
        assert (code, text) == (1, "")
        assert stderr.startswith("allocsync: no daemon answers at ") or "token" in stderr
