"""The commands that run once, as processes: what they print, what they send, and how they exit."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, declare, start

CLOUDS = sample_clouds(30, 22)
FIRST = str(CLOUDS[0]["id"])


async def test_plan_shows_what_an_apply_would_send_and_sends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        where = ("--api-url", server.url, "--desired", str(file))
        status, text, _ = await command("plan", *where)
        assert status == 0
        assert f"  {FIRST}   {file}:3" in text
        assert f"{CLOUDS[0]['region']} → mars" in text
        assert "30 of 30 allocations not in sync: 30 to update (30 fields)." in text
        assert "one list request" in text
        status, text, _ = await command("plan", *where, "--json", "--detailed-exitcode", FIRST[:8])
        assert status == 2
        plan = json.loads(text)
        assert plan["counts"] == {"in_sync": 0, "update": 1, "missing": 0, "blocked": 0, "failing": 0}
        assert plan["changes"] == [
            {"id": FIRST, "field": "region", "live": CLOUDS[0]["region"], "desired": "mars"}
        ]
        assert len(plan["plan_id"]) == 64
        assert {row["op"] for row in server.records} == {"list", "snapshot"}


async def test_detailed_exitcode_is_2_only_if_there_is_something_to_update(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    async with ReferenceServer.start(CLOUDS) as server:
        where = ("--api-url", server.url, "--desired", str(file), "--detailed-exitcode")
        declare(file, CLOUDS[:1], region=str(CLOUDS[0]["region"]))
        assert (await command("plan", *where))[0] == 0
        declare(file, CLOUDS[:1], region="mars", mode="observe")
        assert (await command("plan", *where))[0] == 0
        declare(file, CLOUDS[:1], region="mars")
        assert (await command("plan", *where))[0] == 2
        server.set_faults({"snapshot": {"timeout": 1}, "list": {"timeout": 1}})
        status, text, _ = await command("plan", *where)
        assert status == 1
        assert "504" in text
        assert server.fired["snapshot.timeout"] == 3


async def test_apply_brings_all_in_sync_despite_504s_and_reports_exactly(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="mars")
    faults = {"seed": 2, "update": {"timeout_before": 0.2, "timeout_after": 0.3}}
    async with ReferenceServer.start(CLOUDS, faults=faults) as server:
        where = ("--api-url", server.url, "--desired", str(file), "--settle-seconds", "5")
        status, text, _ = await command("apply", *where)
        assert status == 0
        assert {cloud["region"] for cloud in server.clouds.values()} == {"mars"}
        assert set(server.fired) == {"update.timeout_before", "update.timeout_after"}
        confirmed = server.fired["update.timeout_after"]
        assert text == (
            "30 allocations: 30 in sync "
            f"(30 updated, {confirmed} confirmed by reading after an unknown outcome).\n"
        )
        assert len(server.records) == 30 + server.fired["update.timeout_before"]
        status, text, _ = await command("apply", *where, "--json")
        report = json.loads(text)
        assert status == 0
        assert (report["conditions"]["InSync"], report["updates_sent"], report["updated"]) == (30, 0, [])


async def test_apply_says_what_it_could_not_do(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS[:3], region="mars")
    faults = {"update": {"timeout_before": 1}}
    async with ReferenceServer.start(CLOUDS, faults=faults) as server:
        server.remove(FIRST)
        where = ("--api-url", server.url, "--desired", str(file), "--deadline", "3")
        status, text, _ = await command("apply", *where)
        assert status == 1
        lines = text.splitlines()
        assert lines[0] == "3 allocations: 0 in sync (0 updated), 2 outcome unknown, 1 missing."
        assert any(line.startswith("  missing") and FIRST in line and "410" in line for line in lines)
        assert sum(line.startswith("  outcome unknown") and "504" in line for line in lines) == 2
        assert "reads it back before it sends anything again" in lines[-1]
        assert len(server.records) == 2


async def test_validate_lists_every_mistake_without_a_server(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    rows = "  a: {regoin: x}\n  b: {status: {cloud: RUNING}}\n  c: {region: y}\n"
    file.write_text(f"apiVersion: allocsync/v1\nallocations:\n{rows}")
    status, text, _ = await command("validate", str(file))
    assert status == 1
    assert f"{file}:3:7: allocations.a.regoin: unknown field; did you mean region?" in text
    assert "RUNING is not a status" in text
    assert text.splitlines()[-1] == "2 errors in 1 of 1 file. Nothing was changed."
    status, text, _ = await command("validate", str(file), "--json")
    result = json.loads(text)
    assert status == 1
    assert [(row["line"], row["column"]) for row in result["problems"]] == [(3, 7), (4, 23)]
    declare(file, CLOUDS, region="x")
    status, text, _ = await command("validate", environ={"ALLOCSYNC_DESIRED": str(file)})
    assert status == 0
    assert "30 allocations in 1 file, no mistakes." in text


@pytest.mark.parametrize(
    ("arguments", "environ", "status", "message"),
    [
        (["run"], {"ALLOCSYNC_RESYNC_SECONDS": "1min"}, 78, "ALLOCSYNC_RESYNC_SECONDS=1min is not a number"),
        (["plan", "--desired", "/nowhere/at/all"], {}, 78, "/nowhere/at/all: no such file or directory"),
        (["plan", "--api-url", "localhost"], {}, 78, "ALLOCSYNC_API_URL=localhost"),
        (["plan", "--bluk"], {}, 64, "No such option"),
        (["paln"], {}, 64, "No such command"),
        (["apply", "nobody"], {}, 64, "nobody: no such allocation is declared"),
    ],
)
async def test_a_mistake_gives_its_exit_code_and_no_traceback(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], status: int, message: str
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="x")
    found, _, stderr = await command(*arguments, environ={"ALLOCSYNC_DESIRED": str(file), **environ})
    assert found == status
    assert message in stderr
    assert "Traceback" not in stderr


async def test_plan_and_apply_fail_if_the_desired_state_does_not_load(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    file.write_text("apiVersion: allocsync/v2\nallocations: {}\n")
    for name in ("plan", "apply"):
        status, _, stderr = await command(name, "--desired", str(file))
        assert status == 1
        assert f"allocsync: {file}:1:13: apiVersion: " in stderr


async def test_the_version_is_printed_without_importing_the_daemon(tmp_path: Path) -> None:
    status, text, _ = await command("--version")
    assert (status, text) == (0, "allocsync, version 0.2.0\n")
    log = tmp_path / "imports"
    _, _, stderr = await command("--version", environ={"PYTHONPROFILEIMPORTTIME": "1"})
    log.write_text(stderr)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in stderr.splitlines()}
    assert "click" in imported
    assert imported.isdisjoint({"aiohttp", "pydantic", "yaml", "rich", "structlog", "asyncio"})


async def test_the_demo_ends_in_sync_and_does_not_change_an_edited_file(tmp_path: Path) -> None:
    fresh, edited = tmp_path / "fresh", tmp_path / "edited"
    edited.mkdir()
    declare(edited / "allocations.yaml", sample_clouds(24, 7)[:3], region="mars")
    mine = (edited / "allocations.yaml").read_text()
    runs = [command("demo", "--directory", str(each), "--seconds", "15") for each in (fresh, edited)]
    (status, text, _), (status_of_mine, text_of_mine, _) = await asyncio.gather(*runs)
    assert status == 0, text
    assert "24 of 24 in sync" in text
    assert "read back: " in text
    assert (await command("validate", str(fresh)))[0] == 0  # the file that the demo leaves is valid
    assert status_of_mine == 0, text_of_mine
    assert "3 of 3 in sync" in text_of_mine
    assert (edited / "allocations.yaml").read_text() == mine


async def test_a_mistake_at_the_start_has_its_priority_in_the_systemd_journal(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        found = os.fstat(journal.fileno())
        environ = {"ALLOCSYNC_LISTEN": "9847", "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        process = await start("run", environ=environ, stderr=journal)
        assert await asyncio.wait_for(process.wait(), 20) == 78
        journal.seek(0)
        assert journal.read().startswith("<3>allocsync: ALLOCSYNC_LISTEN=9847 is not ")
