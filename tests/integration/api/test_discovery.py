"""Discovery of the server of this machine: by its port file, by known ports, after a move, and by its id."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from allocsync.api import discovery
from allocsync.api.client import AllocationClient
from allocsync.api.discovery import PORT_FILES, Locator, NoServerError
from allocsync.model.api_answers import NotSent
from allocsync.model.ids import AllocationId
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.integration.api.conftest import refused_port

CLOUDS = sample_clouds(1, 5)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def announce(home: Path, port: object, file: Path = PORT_FILES[0]) -> None:
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    (home / file).write_text(f"{port}\n")


@asynccontextmanager
async def server_responding(text: str, status: int = 200) -> AsyncIterator[int]:
    """Run an HTTP server that answers every path with this text, and yield its port."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


@pytest.mark.parametrize("file", PORT_FILES)
async def test_the_announced_port_is_tried_before_the_known_ports(tmp_path: Path, file: Path) -> None:
    async with ReferenceServer.start(CLOUDS) as announced, ReferenceServer.start(CLOUDS) as known:
        locator = Locator(home=tmp_path, server_id_file=None, ports=[port_of(known.url)])
        assert await locator.find() == known.url
        announce(tmp_path, port_of(announced.url), file)
        assert await locator.find() == announced.url


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "70000", "1 2", "\N{ARABIC-INDIC DIGIT ONE}"])
async def test_an_invalid_port_file_is_ignored(tmp_path: Path, text: str) -> None:
    announce(tmp_path, text)
    async with ReferenceServer.start(CLOUDS) as server:
        assert (
            await Locator(home=tmp_path, server_id_file=None, ports=[port_of(server.url)]).find()
            == server.url
        )


@pytest.mark.parametrize(
    ("health_text", "status"), [("hello", 200), ("ok:", 200), ("ok:uuid", 500), ("ok:\x1b[31m", 200)]
)
async def test_a_port_with_another_health_response_is_not_a_server(
    tmp_path: Path, health_text: str, status: int
) -> None:
    with refused_port() as dead:
        async with server_responding(health_text, status) as port, ReferenceServer.start(CLOUDS) as server:
            ports = [dead, port, port_of(server.url)]
            assert await Locator(home=tmp_path, server_id_file=None, ports=ports).find() == server.url
            with pytest.raises(
                NoServerError, match=re.escape(f"nothing on port {dead} or {port} of this machine")
            ):
                await Locator(home=tmp_path, server_id_file=None, ports=ports[:2]).find()


async def test_a_server_with_another_id_is_not_used_until_the_stored_id_is_removed(tmp_path: Path) -> None:
    server_id_file, state = tmp_path / "server", tmp_path / "state.json"
    async with ReferenceServer.start(CLOUDS, state=state) as first:
        ours = first.store.server_id
        assert (
            await Locator(home=tmp_path, server_id_file=server_id_file, ports=[port_of(first.url)]).find()
            == first.url
        )
    assert server_id_file.read_text() == ours + "\n"
    async with ReferenceServer.start(CLOUDS) as other:
        ports = [port_of(other.url)]
        with pytest.raises(NoServerError, match=f"had {ours}: nothing is sent"):
            await Locator(home=tmp_path, server_id_file=server_id_file, ports=ports).find()
        async with ReferenceServer.start([], state=state) as again:
            ports.append(port_of(again.url))
            assert (
                await Locator(home=tmp_path, server_id_file=server_id_file, ports=ports).find() == again.url
            )
        server_id_file.unlink()
        assert (
            await Locator(home=tmp_path, server_id_file=server_id_file, ports=ports[:1]).find() == other.url
        )


async def test_a_server_whose_id_cannot_be_stored_is_not_used(tmp_path: Path) -> None:
    async with ReferenceServer.start(CLOUDS) as server:
        locator = Locator(
            home=tmp_path, server_id_file=tmp_path / "gone" / "server", ports=[port_of(server.url)]
        )
        with pytest.raises(NoServerError, match="cannot be written: No such file"):
            await locator.find()


async def test_a_client_without_a_base_url_sends_nothing() -> None:
    key = AllocationId(str(CLOUDS[0]["id"]))
    async with ReferenceServer.start(CLOUDS, log_all=True) as server, AllocationClient.open(None) as client:
        answer = await client.update(key, CLOUDS[0])
        assert isinstance(answer, NotSent)
        assert "has been found yet" in answer.reason
        client.set_base_url(server.url)
        assert not isinstance(await client.update(key, CLOUDS[0]), NotSent)
        client.set_base_url(None)
        assert isinstance(await client.update(key, CLOUDS[0]), NotSent)
        assert len(server.records) == 1


async def test_an_empty_server_id_file_is_filled_with_the_id_of_the_next_server(tmp_path: Path) -> None:
    server_id_file = tmp_path / "server"
    server_id_file.write_text("")
    async with ReferenceServer.start(CLOUDS) as first, ReferenceServer.start(CLOUDS) as other:
        locator = Locator(home=tmp_path, server_id_file=server_id_file, ports=[port_of(first.url)])
        assert await locator.find() == first.url
        assert server_id_file.read_text() == first.store.server_id + "\n"
        with pytest.raises(NoServerError, match=f"had {first.store.server_id}: nothing is sent"):
            await Locator(home=tmp_path, server_id_file=server_id_file, ports=[port_of(other.url)]).find()


async def test_a_slow_server_keeps_its_url_and_a_stopped_one_loses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(discovery, "PROBE_TIMEOUT_SECONDS", 0.2)
    asked, slow = 0, False
    moves: list[str | None] = []

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if slow:
            await asyncio.sleep(30)
        return web.Response(text="ok:uuid")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = int(runner.addresses[0][1])
    locator = Locator(home=tmp_path, server_id_file=tmp_path / "server", ports=[port])
    following = asyncio.create_task(locator.follow(moves.append, lambda *_, **__: None))

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.02)

    await until(lambda: bool(moves))
    (tmp_path / "server").unlink()
    await until((tmp_path / "server").exists)
    slow, before = True, asked
    await until(lambda: asked >= before + 3)
    assert moves == [f"http://127.0.0.1:{port}"]
    async with server_responding("ok:uuid") as other:
        announce(tmp_path, other)
        await until(lambda: len(moves) > 1)
        assert moves[1:] == [f"http://127.0.0.1:{other}"], "the slow server is replaced by one that answers"
        (tmp_path / PORT_FILES[0]).unlink()
    await runner.cleanup()
    await until(lambda: len(moves) > 2)
    assert moves[2:] == [None]
    following.cancel()
    await asyncio.wait({following})
