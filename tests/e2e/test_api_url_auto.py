"""`api_url: auto` with real processes: the server starts late, moves, and is replaced by another one."""

from pathlib import Path

from allocsync.api.discovery import PORT_FILES
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import command, daemon, declare, eventually

CLOUDS = sample_clouds(3, 22)


async def test_a_server_is_found_and_found_again_but_never_confused_with_another_one(tmp_path: Path) -> None:
    desired, state = tmp_path / "desired.yaml", tmp_path / "server.json"
    announced = tmp_path / PORT_FILES[0]
    declare(desired, CLOUDS, region="mars")
    environ = {"HOME": str(tmp_path), "ALLOCSYNC_STATE_DIR": str(tmp_path / "state")}

    def announce(url: str) -> None:
        announced.parent.mkdir(parents=True, exist_ok=True)
        announced.write_text(url.rpartition(":")[2])

    async with daemon("auto", desired, tmp_path / "log", "--resync-seconds", "2", environ=environ) as running:
        (nothing,) = await eventually(lambda: running.events("api_not_found"))
        assert "no Allocation API was found" in nothing["problem"]
        async with ReferenceServer.start(CLOUDS, state=state) as server:
            announce(server.url)
            await running.in_sync(len(CLOUDS))
        async with ReferenceServer.start([], state=state) as server:
            announce(server.url)
            server.set_field(str(CLOUDS[0]["id"]), "region", "venus")
            await eventually(lambda: len(running.events("api_found")) == 2)
            await eventually(lambda: server.clouds[str(CLOUDS[0]["id"])]["region"] == "mars", 60)
        async with ReferenceServer.start(CLOUDS, log_all=True) as other:
            announce(other.url)
            (*_, refused) = await eventually(
                lambda: [row for row in running.events("api_not_found") if "before" in row["problem"]]
            )
            assert "nothing is sent" in refused["problem"]
            assert other.records == []
    async with ReferenceServer.start([], state=state) as server:
        announce(server.url)
        where = ("--api-url", "auto", "--desired", str(desired), "--detailed-exitcode")
        assert (await command("plan", *where, environ=environ))[0] == 0
    status, _, stderr = await command("plan", *where, environ=environ)
    assert status == 1
    assert stderr.startswith("allocsync: api_url is auto, and no Allocation API was found")
