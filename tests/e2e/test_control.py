"""Commands to a real daemon: the token, `approve` and /-/reload, checked against the log of the server."""

import json
import signal
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare, eventually

CLOUDS = sample_clouds(12, 21)
CHANGE_LIMIT = {"ALLOCSYNC_MAX_CHANGES_PERCENT": ""}  # the default: 30
CONFIGURED_TOKEN = "a-configured-token"


async def test_approve_activates_the_revision_that_awaits_approval_and_no_other(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    environ = {**CHANGE_LIMIT, "ALLOCSYNC_STATE_DIR": str(state)}
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await running.in_sync(len(CLOUDS))
        where = ("--url", running.url)
        code, _, stderr = await command("approve", "12345678", *where, environ=environ)
        assert (code, stderr) == (1, "allocsync: no revision awaits approval: there is nothing to approve\n")
        sent = len(server.records)
        declare(file, CLOUDS, region="b")
        (first,) = await eventually(lambda: running.events("revision_awaiting_approval"))
        declare(file, CLOUDS, region="c")
        await eventually(lambda: len(running.events("revision_awaiting_approval")) == 2)
        second = running.events("revision_awaiting_approval")[1]["revision"]
        code, _, stderr = await command("approve", first["revision"], *where, environ=environ)
        assert code == 1
        assert f"the revision that awaits approval is {second}, not {first['revision']}" in stderr
        code, _, stderr = await command("approve", second, *where)
        assert code == 1
        assert "this command needs the daemon's token" in stderr
        other = {"ALLOCSYNC_LISTEN_TOKEN": "somebody-elses-token"}
        code, _, stderr = await command("approve", second, *where, environ=other)
        assert code == 1
        assert "does not accept this token. Nothing was changed" in stderr
        assert "Traceback" not in stderr
        assert len(server.records) == sent
        code, text, stderr = await command("approve", second, *where, "--owner", "mark", environ=environ)
        assert (code, stderr) == (0, "")
        assert text == f"revision {second} is approved: 12 allocations may change now\n"
        await running.in_sync(len(CLOUDS))
        assert {cloud["region"] for cloud in server.clouds.values()} == {"c"}
        assert len(server.records) == sent + len(CLOUDS)
        (approved,) = running.events("revision_approved")
        assert (approved["by"], approved["changes"]) == ("mark", 12)


async def test_the_generated_token_survives_a_restart_and_is_removed_when_one_is_configured(
    tmp_path: Path,
) -> None:
    file, state, secrets = tmp_path / "desired.yaml", tmp_path / "state", tmp_path / "secrets"
    declare(file, CLOUDS[:1], region="a")
    secrets.mkdir()
    environ = {"ALLOCSYNC_STATE_DIR": str(state), "CREDENTIALS_DIRECTORY": str(secrets)}
    token_file = state / "listen_token"
    async with ReferenceServer.start(CLOUDS) as server:
        async with daemon(server.url, file, tmp_path / "first", environ=environ) as running:
            token = token_file.read_text().strip()
            assert token_file.stat().st_mode & 0o777 == 0o600
            assert (await running.post("/-/sync"))[0] == 401
            assert (await running.post("/-/sync", token=token))[0] == 202
            assert (await running.post("/-/reload", token=token))[0] == 202
            await eventually(lambda: running.events("reloading"))
            assert token not in (tmp_path / "first").read_text()
        async with daemon(server.url, file, tmp_path / "second", environ=environ) as running:
            assert (await running.post("/-/sync", token=token))[0] == 202
            (secrets / "allocsync_listen_token").write_text(CONFIGURED_TOKEN + "\n")
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: running.events("listen_token_renewed"))
            assert (await running.post("/-/sync", token=token))[0] == 401
            assert (await running.post("/-/sync", token=CONFIGURED_TOKEN))[0] == 202
            assert not token_file.exists()


async def test_reload_reads_the_files_again_as_sighup_does(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    environ = {"ALLOCSYNC_STATE_DIR": str(state), "ALLOCSYNC_LISTEN_TOKEN": CONFIGURED_TOKEN}
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log", environ=environ) as running,
    ):
        await running.in_sync(len(CLOUDS))
        declare(file, CLOUDS, region="b")
        code, text = await running.post("/-/reload", token=CONFIGURED_TOKEN)
        answer = json.loads(text)
        assert (code, list(answer), answer["reloading"]) == (202, ["schema", "reloading", "at"], True)
        await eventually(lambda: {cloud["region"] for cloud in server.clouds.values()} == {"b"})
        assert len(running.events("reloading")) == 1


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "127.0.0.1:0"])
async def test_every_listener_rejects_commands_without_a_token(tmp_path: Path, listen: str) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    environ = {**CHANGE_LIMIT, "ALLOCSYNC_STATE_DIR": str(state)}
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log", "--listen", listen, environ=environ) as running,
    ):
        running.url = running.url.replace("0.0.0.0", "127.0.0.1")
        await running.in_sync(len(CLOUDS))
        for path in ("/-/sync", "/-/reload", "/-/approve"):
            code, text = await running.post(path)
            assert code == 401
            assert "listen_token" in json.loads(text)["error"]
        assert not running.events("reloading")


async def test_a_token_that_is_too_short_or_cannot_be_stored_ends_the_start(tmp_path: Path) -> None:
    file, state = tmp_path / "desired.yaml", tmp_path / "state"
    declare(file, CLOUDS, region="a")
    where = ("--desired", str(file), "--listen", "127.0.0.1:0", "--state-dir", str(state))
    code, _, stderr = await command("run", *where, environ={"ALLOCSYNC_LISTEN_TOKEN": "short"})
    assert code == 78
    assert "ALLOCSYNC_LISTEN_TOKEN is not one word of 16 or more visible ASCII characters" in stderr
    assert "short" not in stderr
    (state / "listen_token").mkdir(parents=True)
    code, _, stderr = await command("run", *where)
    assert code == 78
    assert f"{state}/listen_token: the token for commands over HTTP cannot be stored" in stderr
    assert "Traceback" not in stderr
