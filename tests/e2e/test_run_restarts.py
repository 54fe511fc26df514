"""The daemon is killed and started again: open updates are read back before they are sent again."""

import asyncio
import json
import signal
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare, eventually

CLOUDS = sample_clouds(8, 41)
TIMEOUT = 504
SETTLE_SECONDS = 5


async def test_open_updates_of_a_killed_daemon_are_read_back_and_sent_once(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="mars")
    environ = {"ALLOCSYNC_STATE_DIR": str(state), "ALLOCSYNC_SETTLE_SECONDS": str(SETTLE_SECONDS)}
    lost = {"update": {"timeout_after": 1.0}}
    async with ReferenceServer.start(CLOUDS, faults=lost) as server:
        async with daemon(server.url, file, tmp_path / "first", environ=environ) as killed:
            await eventually(lambda: len(killed.events("update_outcome_unknown")) == len(CLOUDS))
            killed.process.send_signal(signal.SIGKILL)
            await killed.process.wait()
        assert [record["answer"] for record in server.records] == [TIMEOUT] * len(CLOUDS)
        code, text, stderr = await command("history", "--json", "--outcome", "unknown", environ=environ)
        assert code == 0, stderr
        rows = [json.loads(line) for line in text.splitlines()]
        assert {row["id"] for row in rows} == {cloud["id"] for cloud in CLOUDS}
        assert {row["after"]["region"] for row in rows} == {"mars"}
        server.set_faults({})
        async with daemon(server.url, file, tmp_path / "second", environ=environ) as running:
            assert await running.metric("allocsync_open_intents") == len(CLOUDS)
            await running.in_sync(len(CLOUDS))
            settled = running.events("update_applied")
            assert len(settled) == len(CLOUDS)
            assert all(row["waited_seconds"] >= 0 for row in settled)
            assert running.events("journal_head")
            code, text, _ = await command("history", str(CLOUDS[0]["id"])[:12], environ=environ)
            assert code == 0
            assert "applied: read back" in text
            assert "region: " in text
        assert len(server.records) == len(CLOUDS), "an update that had been applied was sent again"
    code, text, _ = await command("history", "--verify", environ=environ)
    assert code == 0
    assert "the hash chain is intact" in text
    assert "Rows removed at the end do not show here" in text


async def test_a_damaged_journal_is_set_aside_and_no_update_is_sent_at_first(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="mars")
    state.mkdir()
    (state / "journal.db").write_bytes(b"not a database" * 100)
    environ = {"ALLOCSYNC_STATE_DIR": str(state), "ALLOCSYNC_SETTLE_SECONDS": str(SETTLE_SECONDS)}
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log", "--log-level", "debug", environ=environ) as running,
    ):
        (gap,) = running.events("journal_gap")
        assert gap["level"] == "error"
        assert await running.metric("allocsync_journal_writable") == 1
        await running.in_sync(len(CLOUDS))
        first = min(datetime.fromisoformat(row["ts"]) for row in running.events("update_intended"))
        begun = datetime.fromisoformat(running.events("listening")[0]["ts"])
        assert (first - begun).total_seconds() >= SETTLE_SECONDS - 0.5
        assert len(server.records) == len(CLOUDS)
    assert list(state.glob("journal.db.damaged-*"))
    code, text, _ = await command("history", "--verify", environ=environ)
    assert code == 0
    assert "a gap: the journal was damaged" in text


async def test_history_without_a_journal_says_so(tmp_path: Path) -> None:
    code, text, stderr = await command("history", environ={"ALLOCSYNC_STATE_DIR": str(tmp_path)})
    assert (code, text) == (1, "")
    assert "there is no journal yet" in stderr
    code, _, stderr = await command("history", "--since", "yesterday")
    assert code == 64
    assert "is not a time" in stderr


async def test_damage_that_shows_at_run_time_ends_the_daemon_and_a_restart_recovers(
    tmp_path: Path,
) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="mars")
    environ = {"ALLOCSYNC_STATE_DIR": str(state), "ALLOCSYNC_SETTLE_SECONDS": str(SETTLE_SECONDS)}
    async with ReferenceServer.start(CLOUDS) as server:
        async with daemon(server.url, file, tmp_path / "first", environ=environ) as running:
            await running.in_sync(len(CLOUDS))
            with closing(sqlite3.connect(state / "journal.db")) as other, other:
                other.execute("PRAGMA writable_schema = ON")
                other.execute("UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'entries'")
                other.execute("PRAGMA schema_version = 99")
            declare(file, CLOUDS, region="venus")
            assert await asyncio.wait_for(running.process.wait(), 20) == 1
            said = running.log.read_text()
        assert "the journal is damaged" in said
        assert "After a restart allocsync creates a new one" in said
        assert "Traceback" not in said
        assert len(server.records) == len(CLOUDS), "nothing left without a record"
        async with daemon(server.url, file, tmp_path / "second", environ=environ) as running:
            assert running.events("journal_gap")
            await running.in_sync(len(CLOUDS))
        assert {str(cloud["region"]) for cloud in server.clouds.values()} == {"venus"}
    assert list(state.glob("journal.db.damaged-*"))
