"""The head of the hash chain in the log, of a real process whose clock the test advances."""

import signal
from pathlib import Path
from typing import Any

from allocsync.journal import reader
from allocsync.journal.database import rows_of
from allocsync.reference_server.sample import sample_clouds
from tests.support import fast_clock_daemon
from tests.support.processes import Daemon, command, daemon, declare, eventually
from tests.support.reference_process import Serving, serving

CLOUDS = sample_clouds(3, 41)


def hashes(state: Path) -> dict[int, str]:
    """Return the hash of each row of the journal, by sequence."""
    with reader.opened(state) as connection:
        return {row.sequence: row.hash.hex() for row in rows_of(connection)}


async def wait_for_event(running: Daemon, name: str, number: int) -> dict[str, Any]:
    """Wait until the daemon has logged so many of these events, and return the last of them."""
    return (await eventually(lambda: running.events(name)[number - 1 :]))[0]


async def advance_half_an_hour(running: Daemon, server: Serving) -> None:
    """Advance the clock by half an hour, and wait until everything is read again."""
    before = len(server.records("list"))
    running.process.send_signal(signal.SIGUSR1)
    await server.wait_for_lists(1, before)


async def test_the_head_is_logged_at_the_start_and_every_hour(
    tmp_path: Path,
) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="mars")
    environ = {"ALLOCSYNC_STATE_DIR": str(state)}

    def heads() -> list[dict[str, Any]]:
        return running.events("journal_head")

    async with (
        serving(tmp_path, CLOUDS, {}) as server,
        daemon(
            server.url, file, tmp_path / "log", environ=environ, program=fast_clock_daemon.PROGRAM
        ) as running,
    ):
        await running.in_sync(len(CLOUDS))
        assert [row["sequence"] for row in heads()] == [0], "at the start, when there was nothing"
        for hours in range(1, 3):
            declare(file, CLOUDS, region=f"planet {hours}")
            await wait_for_event(running, "revision_activated", hours + 1)
            await running.in_sync(len(CLOUDS))
            rows = hashes(state)
            await advance_half_an_hour(running, server)
            assert len(heads()) == hours, "not yet"
            await advance_half_an_hour(running, server)
            head = await wait_for_event(running, "journal_head", hours + 1)
            assert head["sequence"] >= max(rows) > hours * len(CLOUDS), "all that was written by then"
            assert head["hash"] == hashes(state)[head["sequence"]]
            assert head["level"] == "info"

        assert len({row["hash"] for row in heads()}) == len(heads()) == 3
        rows = hashes(state)
        assert all(row["hash"] == rows[row["sequence"]] for row in heads()[1:])
        code, text, _ = await command("history", "--verify", environ=environ)
        assert code == 0
        assert f"It ends with row {max(rows)}, {heads()[-1]['hash']}." in text
