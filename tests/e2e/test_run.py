"""The daemon as a process: edits, broken files, signals, outages and systemd."""

import asyncio
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import daemon, declare, eventually, seed, start

CLOUDS = sample_clouds(12, 21)


def regions(server: ReferenceServer) -> set[object]:
    return {cloud["region"] for cloud in server.clouds.values()}


async def test_an_edit_is_sent_within_a_second(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log") as running,
    ):
        await running.in_sync(len(CLOUDS))
        sent = len(server.records)
        declare(file, CLOUDS, region="b")
        saved = time.time()
        await eventually(lambda: regions(server) == {"b"})
        first = min(record["received_at"] for record in server.records[sent:])
        assert first - saved < 1.0
        await running.in_sync(len(CLOUDS))


async def test_an_edit_of_a_mounted_config_map_takes_effect(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()

    def swap(version: str) -> None:
        (mount / version).mkdir()
        declare(mount / version / "desired.yaml", CLOUDS, region=version)
        link = mount / "..data_tmp"
        link.symlink_to(version)
        link.replace(mount / "..data")

    swap("..a")
    (mount / "desired.yaml").symlink_to("..data/desired.yaml")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, mount, tmp_path / "log") as running,
    ):
        await running.in_sync(len(CLOUDS))
        sent = len(server.records)
        swap("..b")
        saved = time.time()
        await eventually(lambda: regions(server) == {"..b"})
        assert min(record["received_at"] for record in server.records[sent:]) - saved < 1.0


async def test_a_file_that_does_not_load_changes_nothing_until_it_is_corrected(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log", "--resync-seconds", "1") as running,
    ):
        await running.in_sync(len(CLOUDS))
        sent = len(server.records)
        file.write_text("apiVersion: allocsync/v1\nallocations: {a: {region: x}\n")
        rejected = (await eventually(lambda: running.events("desired_rejected")))[0]
        assert f"{file}:" in rejected["problem"]
        assert await running.metric("allocsync_desired_last_load_successful") == 0
        server.set_field(str(CLOUDS[0]["id"]), "region", "drift")
        await eventually(lambda: regions(server) == {"a"})  # the last valid revision stays active
        assert len(server.records) == sent + 1
        declare(file, CLOUDS, region="c")
        await eventually(lambda: regions(server) == {"c"})
        assert await running.metric("allocsync_desired_last_load_successful") == 1


async def test_sighup_reads_the_files_again(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log") as running,
    ):
        await running.in_sync(len(CLOUDS))
        declare(file, CLOUDS, region="b")
        running.process.send_signal(signal.SIGHUP)
        await eventually(lambda: regions(server) == {"b"})
        assert running.events("reloading")
        assert running.process.returncode is None


async def test_sigterm_during_an_update_ends_the_daemon_in_time_and_logs_open_intents(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    faults = {"update": {"latency_seconds": 3}}
    async with (
        ReferenceServer.start(CLOUDS, faults=faults, log_all=True) as server,
        daemon(server.url, file, tmp_path / "log", "--log-level", "debug") as running,
    ):
        await eventually(lambda: len(running.events("update_intended")) == len(CLOUDS))
        running.process.send_signal(signal.SIGTERM)
        running.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert await asyncio.wait_for(running.process.wait(), 25) == 0
        assert time.monotonic() - begun < 20
        (stopped,) = running.events("stopped")
        assert stopped["open_intents"] == 0  # all were answered before the daemon stopped
        assert regions(server) == {"a"}


async def test_all_allocations_are_in_sync_again_after_the_server_was_killed_and_restarted(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    state = ("--seed", str(seed(tmp_path / "seed.json", CLOUDS)), "--state", str(tmp_path / "state.json"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    server = await start("serve", "--listen", listen, *state)
    try:
        more = ("--resync-seconds", "1")
        async with daemon(f"http://{listen}", file, tmp_path / "log", *more) as running:
            await running.in_sync(len(CLOUDS))
            server.kill()
            await server.wait()
            declare(file, CLOUDS, region="b")
            await eventually(lambda: running.events("bulk_unavailable"))
            assert (await running.get("/livez"))[0] == 200
            server = await start("serve", "--listen", listen, *state)
            await running.in_sync(len(CLOUDS), 40)
            assert running.process.returncode is None
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def test_a_server_that_answers_only_504_is_not_overloaded_and_the_daemon_stays_live(
    tmp_path: Path,
) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    faults = {"update": {"timeout_before": 1}}
    async with (
        ReferenceServer.start(CLOUDS, faults=faults) as server,
        daemon(server.url, file, tmp_path / "log", "--settle-seconds", "5") as running,
    ):
        await eventually(lambda: len(server.records) >= 2 * len(CLOUDS))
        rounds: dict[str, list[float]] = {}
        for record in server.records:
            rounds.setdefault(record["id"], []).append(record["received_at"])
        waits = [after - before for times in rounds.values() for before, after in pairwise(times)]
        assert len(waits) >= len(CLOUDS)
        assert min(waits) >= 5
        assert (await running.get("/livez"))[0] == 200
        assert (await running.get("/readyz"))[0] == 200
        assert await running.metric('allocsync_allocations{condition="InSync"}') == 0
        server.set_faults({})
        await running.in_sync(len(CLOUDS), 40)


async def test_files_that_are_missing_at_the_start_or_vanish_later_are_picked_up_when_they_come(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "allocations"
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.setblocking(False)
        async with (
            ReferenceServer.start(CLOUDS) as server,
            daemon(server.url, directory, tmp_path / "log", environ={"NOTIFY_SOCKET": address}) as running,
        ):
            async with asyncio.timeout(8):  # less than the ten seconds after which a start is over anyway
                while b"READY=1" not in await asyncio.get_running_loop().sock_recv(notify, 4096):
                    pass
            assert (await running.get("/readyz"))[0] == 503
            assert "no such file or directory" in running.events("desired_rejected")[0]["problem"]
            assert server.records == []

            directory.mkdir()
            declare(directory / "a.yaml", CLOUDS, region="a")
            await running.in_sync(len(CLOUDS))
            assert (await running.get("/readyz"))[0] == 200

            directory.rename(tmp_path / "away")
            await eventually(lambda: len(running.events("desired_rejected")) >= 2)
            sent = len(server.records)
            (tmp_path / "away").rename(directory)
            declare(directory / "a.yaml", CLOUDS, region="b")
            await eventually(lambda: len(server.records) == sent + len(CLOUDS))


async def test_systemd_receives_ready_status_watchdog_and_stopping(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    address = str(tmp_path / "notify")
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.setblocking(False)
        asyncio.get_running_loop().add_reader(notify, lambda: said.append(notify.recv(4096).decode()))
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}
        async with (
            ReferenceServer.start(CLOUDS) as server,
            daemon(server.url, file, tmp_path / "log", environ=environ) as running,
        ):
            await eventually(lambda: any(line.startswith("READY=1") for line in said))
            await eventually(lambda: any("STATUS=12 of 12 in sync" in line for line in said))
            await eventually(lambda: said.count("WATCHDOG=1") >= 3)
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: any("RELOADING=1\nMONOTONIC_USEC=" in line for line in said))
            running.process.send_signal(signal.SIGTERM)
            await running.process.wait()
        # Longer than the requests in flight get, whatever TimeoutStopSec= says.
        await eventually(lambda: any(line.startswith("STOPPING=1\nEXTEND_TIMEOUT_USEC=3") for line in said))
        asyncio.get_running_loop().remove_reader(notify)


async def test_each_page_answers_and_other_paths_are_404(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    async with (
        ReferenceServer.start(CLOUDS) as server,
        daemon(server.url, file, tmp_path / "log") as running,
    ):
        await running.in_sync(len(CLOUDS))
        statuses = {path: (await running.get(path))[0] for path in ("/livez", "/readyz", "/metrics", "/x")}
        assert statuses == {"/livez": 200, "/readyz": 200, "/metrics": 200, "/x": 404}
        accepted = 'allocsync_updates_total{cause="first",outcome="accepted"}'
        assert await running.metric(accepted) == len(CLOUDS)
        assert await running.metric("allocsync_open_intents") == 0


async def test_a_port_in_use_ends_the_start_with_exit_code_1_and_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "desired.yaml"
    declare(file, CLOUDS, region="a")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await start(
            *("run", "--desired", str(file), "--listen", listen), stderr=asyncio.subprocess.PIPE
        )
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1  # a supervisor tries again
    assert f"ALLOCSYNC_LISTEN={listen}" in stderr.decode()
    assert "Traceback" not in stderr.decode()
