"""The state file: written before a change is shown, for many changes at once, on a failing disk; the log."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from allocsync.api import json_codec
from allocsync.errors import AllocsyncError
from allocsync.model.times import WallTime
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.request_log import RequestLog
from allocsync.reference_server.store import StateFileError, Store
from tests.integration.reference_server.conftest import CLOUDS, ID

BODY = json_codec.dumps({**CLOUDS[0], "region": "mars"})


class SlowDisk:
    """An fsync that waits while `free` is cleared, and counts its calls."""

    def __init__(self, real: Callable[[int], None]) -> None:
        self.free = threading.Event()
        self.free.set()
        self.syncs = 0
        self._real = real

    def fsync(self, file: int) -> None:
        self.syncs += 1
        assert self.free.wait(20)
        self._real(file)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    slow = SlowDisk(os.fsync)
    monkeypatch.setattr(os, "fsync", slow.fsync)
    return slow


async def status(http: aiohttp.ClientSession, method: str, url: str, data: bytes | None = None) -> int:
    async with http.request(method, url, data=data) as answer:
        await answer.read()
        return answer.status


async def test_no_response_shows_a_change_that_is_not_on_disk(
    tmp_path: Path, http: aiohttp.ClientSession, disk: SlowDisk
) -> None:
    state = tmp_path / "state"
    async with ReferenceServer.start(CLOUDS, state=state) as server, asyncio.TaskGroup() as group:
        disk.free.clear()
        update = group.create_task(status(http, "POST", f"{server.url}/allocation/update", BODY))
        async with asyncio.timeout(10):
            while server.clouds[ID]["region"] != "mars":
                await asyncio.sleep(0.01)
        one = group.create_task(status(http, "GET", f"{server.url}/allocation/{ID}"))
        everything = group.create_task(status(http, "GET", f"{server.url}/allocations"))
        other = f"{server.url}/allocation/{CLOUDS[1]['id']}"
        assert await status(http, "GET", other) == 200  # a cloud without changes is shown meanwhile
        assert not server.records
        assert not any(task.done() for task in (update, one, everything))
        assert b"mars" not in state.read_bytes()
        disk.free.set()
        assert [await task for task in (update, one, everything)] == [200, 200, 200]
        assert b"mars" in state.read_bytes()


async def test_waiting_updates_are_written_to_disk_together(
    tmp_path: Path, http: aiohttp.ClientSession, disk: SlowDisk
) -> None:
    async with ReferenceServer.start(CLOUDS, state=tmp_path / "state") as server:
        disk.syncs = 0
        async with asyncio.TaskGroup() as group:
            for index in range(50):
                body = json_codec.dumps({**CLOUDS[0], "region": f"r{index}"})
                group.create_task(status(http, "POST", f"{server.url}/allocation/update", body))
        assert [record["answer"] for record in server.records] == [200] * 50
        assert 2 <= disk.syncs < 50


async def test_a_failed_write_is_answered_with_500_and_retried(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    async with ReferenceServer.start(CLOUDS, state=place / "state") as server:
        shutil.rmtree(place)
        assert await status(http, "POST", f"{server.url}/allocation/update", BODY) == 500
        assert await status(http, "GET", f"{server.url}/allocation/{ID}") == 500
        assert await status(http, "GET", f"{server.url}/allocations") == 500
        place.mkdir()
        assert await status(http, "GET", f"{server.url}/allocation/{ID}") == 200
    assert b"mars" in (place / "state").read_bytes()
    assert (server.records[0]["answer"], server.records[0]["changed"]["region"][1]) == (500, "mars")


async def test_a_restart_uses_the_state_file_and_ignores_the_seed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with ReferenceServer.start(CLOUDS, state=state) as first:
        first.set_field(ID, "region", "mars")
        first.remove(str(CLOUDS[1]["id"]))
        left = dict(first.clouds)
        assert not first.resumed
    async with ReferenceServer.start(CLOUDS, state=state) as second:
        assert second.resumed
        assert dict(second.clouds) == left
        assert second.store.server_id == first.store.server_id


@pytest.mark.parametrize("text", ["", "[]", '{"iterable": []}', '{"server": "a", "iterable": [1]}'])
def test_a_file_that_is_not_a_state_file_is_left_unchanged(tmp_path: Path, text: str) -> None:
    state = tmp_path / "state"
    state.write_text(text)
    with pytest.raises(AllocsyncError, match=str(state)):
        Store(CLOUDS, state=state)
    assert state.read_text() == text


def test_a_state_file_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="cannot be written: No such file"):
        Store(CLOUDS, state=tmp_path / "nowhere" / "state")


def test_a_restarted_log_continues_the_numbers_on_a_new_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for everything in (False, True):
        log = RequestLog(file, log_all=everything, keep_records=False, wall=lambda: WallTime(1.5))
        second, first = log.begin_post(), log.begin_post()
        first["id"] = '{"n":99,\n{"n":98,'
        for record in (first, second):
            log.write_post(record)
        log.close()
    with file.open("a") as cut:
        cut.write('{"n":4')
    log = RequestLog(file, log_all=False, keep_records=False, wall=lambda: WallTime(1.5))
    log.write_post(log.begin_post())
    log.close()
    *lines, _, last = file.read_text().splitlines()
    assert [json.loads(line)["n"] for line in (*lines, last)] == [2, 1, 4, 3, 5]
    assert log.records == []


async def test_a_log_that_cannot_be_opened_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AllocsyncError, match="the log cannot be opened: Is a directory"):
        async with ReferenceServer.start(CLOUDS, log=tmp_path):
            pass
