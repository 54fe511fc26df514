"""Servers of this machine: found by their file, by their port, again after a move, and never mixed up."""

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
async def saying(text: str, status: int = 200) -> AsyncIterator[int]:
    """Something else that answers on a port."""

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
async def test_the_announced_port_goes_before_the_known_ones(tmp_path: Path, file: Path) -> None:
    async with ReferenceServer.start(CLOUDS) as announced, ReferenceServer.start(CLOUDS) as known:
        locator = Locator(home=tmp_path, server_id_file=None, ports=[port_of(known.url)])
        assert await locator.find() == known.url
        announce(tmp_path, port_of(announced.url), file)
        assert await locator.find() == announced.url


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "70000", "1 2", "\N{ARABIC-INDIC DIGIT ONE}"])
async def test_an_announcement_that_is_none_is_passed_over(tmp_path: Path, text: str) -> None:
    announce(tmp_path, text)
    async with ReferenceServer.start(CLOUDS) as server:
        assert (
            await Locator(home=tmp_path, server_id_file=None, ports=[port_of(server.url)]).find()
            == server.url
        )


@pytest.mark.parametrize(
    ("said", "status"), [("hello", 200), ("ok:", 200), ("ok:uuid", 500), ("ok:\x1b[31m", 200)]
)
async def test_what_answers_otherwise_is_no_server(tmp_path: Path, said: str, status: int) -> None:
    with refused_port() as dead:
        async with saying(said, status) as port, ReferenceServer.start(CLOUDS) as server:
            ports = [dead, port, port_of(server.url)]
            assert await Locator(home=tmp_path, server_id_file=None, ports=ports).find() == server.url
            with pytest.raises(
                NoServerError, match=re.escape(f"nothing on port {dead} or {port} of this machine")
            ):
                await Locator(home=tmp_path, server_id_file=None, ports=ports[:2]).find()


async def test_another_server_than_before_is_never_used_by_itself(tmp_path: Path) -> None:
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


async def test_a_server_that_cannot_be_remembered_is_not_used(tmp_path: Path) -> None:
    async with ReferenceServer.start(CLOUDS) as server:
        locator = Locator(
            home=tmp_path, server_id_file=tmp_path / "gone" / "server", ports=[port_of(server.url)]
        )
        with pytest.raises(NoServerError, match="cannot be written: No such file"):
            await locator.find()


async def test_a_client_that_is_nowhere_sends_nothing() -> None:
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


async def test_a_file_that_a_full_disk_left_empty_does_not_let_any_server_in(tmp_path: Path) -> None:
    server_id_file = tmp_path / "server"
    server_id_file.write_text("")
    async with ReferenceServer.start(CLOUDS) as first, ReferenceServer.start(CLOUDS) as other:
        locator = Locator(home=tmp_path, server_id_file=server_id_file, ports=[port_of(first.url)])
        assert await locator.find() == first.url
        assert server_id_file.read_text() == first.store.server_id + "\n"
        with pytest.raises(NoServerError, match=f"had {first.store.server_id}: nothing is sent"):
            await Locator(home=tmp_path, server_id_file=server_id_file, ports=[port_of(other.url)]).find()


async def test_a_server_that_is_slow_to_say_who_it_is_stays_and_one_that_has_gone_does_not(
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
    async with saying("ok:uuid") as other:
        announce(tmp_path, other)
        await until(lambda: len(moves) > 1)
        assert moves[1:] == [f"http://127.0.0.1:{other}"], "it was hung, and another took its place"
        (tmp_path / PORT_FILES[0]).unlink()
    await runner.cleanup()
    await until(lambda: len(moves) > 2)
    assert moves[2:] == [None]
    following.cancel()
    await asyncio.wait({following})
