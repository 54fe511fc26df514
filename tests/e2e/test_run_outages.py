"""The daemon as a process while its server is killed during updates, or answers only 504."""

import json
import signal
import socket
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support import server_log_oracle
from tests.support.nginx_cache import CACHE_SECONDS, needs_nginx, nginx_cache
from tests.support.processes import command, daemon, declare, eventually, seed, start

CLOUDS = sample_clouds(8, 24)
SETTLE_SECONDS = 5.0


async def test_after_a_server_is_killed_during_an_update_a_read_comes_before_the_next_update(
    tmp_path: Path,
) -> None:
    file, log = tmp_path / "desired.yaml", tmp_path / "server.jsonl"
    declare(file, CLOUDS, region="a")
    state = ("--seed", str(seed(tmp_path / "seed.json", CLOUDS)), "--state", str(tmp_path / "state.json"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--listen", listen, *state, "--log", str(log), "--log-all")
    server = await start("serve", *options, "--faults", '{"update": {"latency_seconds": 30}}')
    try:
        await eventually(log.exists)
        more = ("--resync-seconds", "1", "--settle-seconds", str(SETTLE_SECONDS), "--log-level", "debug")
        async with daemon(f"http://{listen}", file, tmp_path / "log", *more) as running:
            await eventually(lambda: len(running.events("update_intended")) == len(CLOUDS))
            server.kill()
            await server.wait()
            await eventually(lambda: len(running.events("update_outcome_unknown")) == len(CLOUDS))
            unknown = running.events("update_outcome_unknown")
            assert {row["allocation"] for row in unknown} == {str(cloud["id"]) for cloud in CLOUDS}
            assert (await running.get("/livez"))[0] == 200
            before = len(server_log_oracle.read_log(log))
            server = await start("serve", *options)
            await running.in_sync(len(CLOUDS), 20)
            records = server_log_oracle.read_log(log)[before:]
            for cloud in CLOUDS:
                own = [row["op"] for row in records if row.get("id") == cloud["id"]]
                assert own.count("update") == 1  # the update of the killed process was not applied
                assert "snapshot" in own[: own.index("update")]
            assert len(running.events("update_not_applied")) == len(CLOUDS)
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def test_no_update_is_sent_to_a_server_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    faults = {"update": {"timeout_before": 1}, "snapshot": {"timeout": 1}, "list": {"timeout": 1}}
    async with (
        ReferenceServer.start(CLOUDS, faults=faults, log_all=True) as server,
        daemon(server.url, file, tmp_path / "log", "--resync-seconds", "1") as running,
    ):
        await eventually(lambda: server.fired.get("snapshot.timeout", 0) >= 2 * len(CLOUDS))
        assert server.fired["list.timeout"] >= 1
        assert (await running.get("/livez"))[0] == 200
        assert await running.metric('allocsync_allocations{condition="InSync"}') == 0
        assert "update" not in {row["op"] for row in server.records}
        server.set_faults({})
        await running.in_sync(len(CLOUDS), 20)
        assert sum(row["op"] == "update" for row in server.records) == len(CLOUDS)


async def test_updates_that_were_applied_before_their_504_are_read_back_and_never_repeated(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    faults = {"update": {"timeout_after": 1, "timeout_seconds": 0.5}}
    settle = ("--settle-seconds", str(SETTLE_SECONDS))
    async with (
        ReferenceServer.start(CLOUDS, faults=faults, log_all=True) as server,
        daemon(server.url, file, tmp_path / "log", *settle) as running,
    ):
        await running.in_sync(len(CLOUDS))
        assert server.fired == {"update.timeout_after": len(CLOUDS)}
        posts = [row for row in server.records if row["op"] == "update"]
        assert len({row["id"] for row in posts}) == len(posts) == len(CLOUDS)
        for row in posts:
            reads = [each for each in server.records if each["op"] == "snapshot" and each["id"] == row["id"]]
            assert any(read["received_at"] > row["answered_at"] for read in reads)
        avoided = await running.metric("allocsync_duplicate_writes_avoided_total")
        assert avoided == len(CLOUDS)


async def test_after_a_restart_during_an_update_a_read_comes_before_the_next_update(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    faults = {"update": {"timeout_after": 1, "timeout_seconds": 30}}
    async with ReferenceServer.start(CLOUDS, faults=faults, log_all=True) as server:
        async with daemon(server.url, file, tmp_path / "log", "--log-level", "debug") as running:
            await eventually(lambda: server.fired.get("update.timeout_after", 0) == len(CLOUDS))
            running.process.send_signal(signal.SIGKILL)
            await running.process.wait()
        server.set_faults({})
        async with daemon(server.url, file, tmp_path / "log2") as running:
            await running.in_sync(len(CLOUDS))
            assert not running.events("update_accepted")
        assert {cloud["region"] for cloud in server.clouds.values()} == {"a"}


async def test_behind_a_cache_each_applied_504_is_one_update_and_nobody_is_overwritten(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    first = str(CLOUDS[0]["id"])
    faults = {
        "update": {"timeout_after": 1},
        "snapshot": {"cache_seconds": 12},
        "list": {"cache_seconds": 12},
    }
    more = ("--resync-seconds", "6", "--settle-seconds", str(SETTLE_SECONDS))
    async with (
        ReferenceServer.start(CLOUDS, faults=faults, log_all=True) as server,
        daemon(server.url, file, tmp_path / "log", *more) as running,
    ):
        await eventually(lambda: server.fired.get("update.timeout_after", 0) == len(CLOUDS))
        server.set_field(first, "version", "9.9.9")
        await running.in_sync(len(CLOUDS), 60)
        assert server.fired["snapshot.cache_seconds"] >= len(CLOUDS), "the cache answered read-backs"
        assert sum(row["op"] == "update" for row in server.records) == len(CLOUDS)
        assert server.fired["update.timeout_after"] == len(CLOUDS)
        declare(file, CLOUDS, region="b")
        await eventually(lambda: {cloud["region"] for cloud in server.clouds.values()} == {"b"}, 60)
        assert server.clouds[first]["version"] == "9.9.9"
        assert len(running.events("reads_cached")) == 1
        found = json.loads((await running.get(f"/api/v1/allocations/{first}"))[1])
        assert "answer_age_seconds" in found


@pytest.mark.real
@pytest.mark.slow
@needs_nginx
async def test_behind_nginx_an_applied_504_is_one_update_and_a_change_of_others_survives_an_edit(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    file, run = tmp_path / "desired.yaml", tmp_path / "nginx"
    run.mkdir()
    declare(file, CLOUDS, region="a")
    others, unedited = [str(cloud["id"]) for cloud in CLOUDS[:4]], [str(cloud["id"]) for cloud in CLOUDS[4:]]
    environ = {"ALLOCSYNC_STATE_DIR": str(tmp_path / "state")}
    async with (
        ReferenceServer.start(CLOUDS, faults={"update": {"timeout_after": 1}}, log_all=True) as server,
        nginx_cache(server.url, run, unused_tcp_port) as nginx,
        daemon(nginx.url, file, tmp_path / "log", environ=environ) as running,
    ):

        def posts(key: str) -> int:
            return sum(row["op"] == "update" and row["id"] == key for row in server.records)

        def values(name: str, keys: list[str]) -> set[object]:
            return {server.clouds[key][name] for key in keys}

        await eventually(lambda: server.fired.get("update.timeout_after", 0) == len(CLOUDS))
        server.set_faults({})
        for key in others:
            server.set_field(key, "version", "9.9.9")
        declare(file, CLOUDS[:4], region="b")
        with file.open("a") as rest:  # the other half stays as it is
            rest.writelines(f"  {key}:\n    region: a\n" for key in unedited)
        await eventually(lambda: running.events("reads_cached"), 30)
        environ["ALLOCSYNC_LISTEN"] = running.url.removeprefix("http://")
        await eventually(
            lambda: any(row[2] == "HIT" and unedited[0] in row[1] for row in nginx.requests()), 30
        )
        _, text, _ = await command("explain", unedited[0], environ=environ)
        assert "a cache between allocsync and the API gave it" in text
        assert server.fired["update.timeout_after"] == len(CLOUDS), "nothing is sent on what a cache shows"
        await eventually(lambda: values("region", others) == {"b"}, 2 * CACHE_SECONDS)
        assert values("version", others) == {"9.9.9"}, "an update was built on what a cache showed"
        await eventually(lambda: len(running.events("update_applied")) >= len(CLOUDS), 2 * CACHE_SECONDS)
        assert values("region", unedited) == {"a"}
        assert [posts(key) for key in unedited] == [1] * 4
        assert [posts(key) for key in others] == [2] * 4
        assert len(running.events("reads_cached")) == 1
