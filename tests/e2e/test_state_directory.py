"""One writer at a time: a second `run`, an `apply` beside a daemon, and the lock after a crash."""

import shlex
import signal
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare, eventually

CLOUDS = sample_clouds(3, 22)


@pytest.mark.parametrize("second", ["run", "apply"])
async def test_a_second_writer_is_excluded_and_sends_nothing(tmp_path: Path, second: str) -> None:
    desired, state = tmp_path / "desired.yaml", tmp_path / "deep" / "state"
    declare(desired, CLOUDS, region="mars")
    environ = {"ALLOCSYNC_STATE_DIR": str(state)}
    async with ReferenceServer.start(CLOUDS, log_all=True) as server:
        async with daemon(server.url, desired, tmp_path / "log", environ=environ) as running:
            await running.in_sync(len(CLOUDS))
            asked = len(server.records)
            declare(tmp_path / "other.yaml", CLOUDS, region="venus")
            where = ("--api-url", server.url, "--desired", str(tmp_path / "other.yaml"))
            status, text, stderr = await command(second, *where, environ=environ)
            assert (status, text) == (1, "")
            assert f"allocsync run (pid {running.process.pid}) uses {state}" in stderr
            offered = f"allocsync sync --url {running.url} --state-dir {state}"
            assert offered in stderr
            assert len(stderr.splitlines()) == 1
            assert len(server.records) == asked
            assert (await command("plan", *where, environ=environ))[0] == 0, "reading needs no lock"
            server.set_field(str(CLOUDS[0]["id"]), "region", "drift")
            assert await command(*shlex.split(offered)[1:]) == (0, "reading 3 allocations now\n", "")
            await eventually(lambda: server.clouds[str(CLOUDS[0]["id"])]["region"] == "mars")
            running.process.send_signal(signal.SIGKILL)
            await running.process.wait()
        status, _, _ = await command("apply", *where, environ=environ)
        assert status == 0, "the lock went with the process"
        assert {cloud["region"] for cloud in server.clouds.values()} == {"venus"}
    assert state.stat().st_mode & 0o777 == 0o700


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


async def test_a_state_directory_that_cannot_be_used_is_a_settings_error(tmp_path: Path) -> None:
    desired, file = tmp_path / "desired.yaml", tmp_path / "file"
    declare(desired, CLOUDS, region="mars")
    file.write_text("")
    for wrong in (file, file / "below", Path("/proc/nothing")):
        for name in ("run", "apply"):
            environ = {"ALLOCSYNC_STATE_DIR": str(wrong), "ALLOCSYNC_LISTEN": "127.0.0.1:0"}
            status, _, stderr = await command(name, "--desired", str(desired), environ=environ)
            assert status == 78
            assert stderr.startswith(f"allocsync: ALLOCSYNC_STATE_DIR={wrong}: cannot be used: ")
    assert names(tmp_path) == {"desired.yaml", "file"}
