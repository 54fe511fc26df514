"""A real daemon whose secrets and settings change while it runs."""

import signal
from pathlib import Path

from aiohttp import web

from tests.support.processes import daemon, declare, eventually


async def test_a_renewed_secret_is_used_and_a_changed_setting_is_logged(tmp_path: Path) -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}".format(*runner.addresses[0][:2])
    secret, config, desired = (tmp_path / name for name in ("allocsync_api_token", "config.yaml", "a.yaml"))
    secret.write_text("first\n")
    config.write_text("settle_seconds: 6\n")
    declare(desired, [{"id": "a"}], region="mars")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "ALLOCSYNC_CONFIG": str(config)}
    try:
        async with daemon(url, desired, tmp_path / "log", environ=environ) as running:
            await eventually(lambda: "Bearer first" in seen)
            secret.write_text("two words\n")
            running.process.send_signal(signal.SIGHUP)
            (wrong,) = await eventually(lambda: running.events("settings_rejected"))
            assert "ALLOCSYNC_API_TOKEN" in wrong["problem"]
            assert await running.metric("allocsync_settings_last_reload_successful") == 0
            assert "two words" not in (tmp_path / "log").read_text()
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: len(running.events("settings_rejected")) == 2)
            secret.write_text("second\n")
            config.write_text("settle_seconds: 7\n")
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: "Bearer second" in seen)
            assert len(running.events("credentials_renewed")) == 1
            assert await running.metric("allocsync_settings_last_reload_successful") == 1
            assert await running.metric("allocsync_journal_size_bytes") > 4096
            (changed,) = running.events("settings_changed")
            assert changed["settings"] == ["settle_seconds"]
            assert set(seen) == {"Bearer first", "Bearer second"}
    finally:
        await runner.cleanup()
