"""`allocsync serve` as a process: its first line, its log, its state file after kill -9, its errors."""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from allocsync.api import json_codec
from allocsync.model.cloud import Cloud
from tests.integration.reference_server.conftest import CLOUDS, ID


@asynccontextmanager
async def serve(*arguments: str) -> AsyncIterator[tuple[str, Process]]:
    """Run a server, and yield its URL and its process, which is killed at the end if it still runs."""
    command = (sys.executable, "-m", "allocsync", "serve", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        yield line.split()[2], process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def write_seed(tmp_path: Path) -> str:
    path = tmp_path / "seed.json"
    path.write_bytes(json_codec.dumps({"iterable": CLOUDS}))
    return str(path)


async def move_to_mars(http: aiohttp.ClientSession, url: str) -> int:
    async with http.post(
        f"{url}/allocation/update", data=json_codec.dumps({**CLOUDS[0], "region": "mars"})
    ) as answer:
        return answer.status


async def test_an_acknowledged_update_survives_kill_minus_nine(tmp_path: Path) -> None:
    arguments = ("--seed", write_seed(tmp_path), "--state", str(tmp_path / "state.json"))
    async with aiohttp.ClientSession() as http:
        async with serve(*arguments) as (url, process):
            assert await move_to_mars(http, url) == 200
            async with http.get(f"{url}/.well-known/health") as answer:
                health = await answer.text()
            process.kill()
            await process.wait()
        async with serve(*arguments) as (url, process):
            async with http.get(f"{url}/allocation/{ID}") as answer:
                assert (await answer.json())["region"] == "mars"
            async with http.get(f"{url}/.well-known/health") as answer:
                assert await answer.text() == health


async def test_the_log_has_one_line_per_post_with_the_documented_keys(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    async with (
        aiohttp.ClientSession() as http,
        serve("--seed", write_seed(tmp_path), "--log", str(log)) as (url, process),
    ):
        assert await move_to_mars(http, url) == 200
        async with http.get(f"{url}/allocation/{ID}") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    (line,) = log.read_text().splitlines()
    record = json.loads(line)
    assert list(record) == ["n", "id", "received_at", "applied_at", "changed", "body_sha256", "answer"]
    assert record["received_at"] <= record["applied_at"]
    assert (record["n"], record["id"], record["answer"]) == (1, ID, 200)
    assert record["changed"] == {"region": [CLOUDS[0]["region"], "mars"]}


async def test_a_yaml_seed_keeps_strings_times_and_numbers_as_written(tmp_path: Path) -> None:
    path = tmp_path / "seed.yaml"
    text = """iterable:
- {id: a, version: '1.10', updated: {value: 2026-01-02T03:04:05Z}, quota: 1.10, on: null, off: false}
"""
    path.write_text(text)
    async with (
        aiohttp.ClientSession() as http,
        serve("--seed", str(path)) as (url, _),
        http.get(f"{url}/allocation/a") as answer,
    ):
        text = await answer.text()
    assert '"on":null,"off":false' in text
    assert '"version":"1.10"' in text
    assert '"value":"2026-01-02T03:04:05Z"' in text
    assert '"quota":1.10' in text


async def test_all_acknowledged_updates_of_concurrent_clients_survive_kill_minus_nine(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    arguments = ("--seed", write_seed(tmp_path), "--state", str(tmp_path / "state.json"), "--log", str(log))
    answered: dict[str, int] = {}

    async def keep_writing(http: aiohttp.ClientSession, url: str, cloud: Cloud) -> None:
        with contextlib.suppress(aiohttp.ClientError):
            for number in range(100_000):
                body = json_codec.dumps({**cloud, "region": f"r{number}"})
                async with http.post(f"{url}/allocation/update", data=body) as answer:
                    assert answer.status == 200
                    await answer.read()
                answered[str(cloud["id"])] = number

    async with aiohttp.ClientSession() as http:
        async with serve(*arguments) as (url, process), asyncio.TaskGroup() as group:
            for cloud in CLOUDS:
                group.create_task(keep_writing(http, url, cloud))
            async with asyncio.timeout(20):
                while min(answered.get(str(cloud["id"]), 0) for cloud in CLOUDS) < 30:
                    await asyncio.sleep(0.01)
            process.kill()
            await process.wait()
        async with serve(*arguments) as (url, _):
            for key, number in answered.items():
                async with http.get(f"{url}/allocation/{key}") as answer:
                    region = (await answer.json())["region"]
                # The last update, whose response was cut off, may or may not be applied.
                assert region in (f"r{number}", f"r{number + 1}")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(records) >= sum(answered.values())


async def test_with_a_state_file_the_seed_is_ignored_with_a_message(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state.json"))
    async with serve("--seed", write_seed(tmp_path), *state) as (_, process):
        pass
    (tmp_path / "other").write_text("this is no seed")
    async with serve("--seed", str(tmp_path / "other"), *state) as (_, process):
        process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert stderr.decode().splitlines() == [
        f"the state file exists already: the seed {tmp_path / 'other'} is not used"
    ]


async def test_sigterm_logs_a_pending_late_update_as_never_applied(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    (tmp_path / "faults").write_text('{"update": {"timeout_late": 1, "late_seconds": 60}}')
    arguments = ("--seed", write_seed(tmp_path), "--log", str(log), "--faults", str(tmp_path / "faults"))
    async with aiohttp.ClientSession() as http, serve(*arguments) as (url, process):
        assert await move_to_mars(http, url) == 504
        assert log.read_text() == ""
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    (record,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (record["answer"], record["applied_at"], record["changed"]) == (504, None, {})


async def test_log_all_logs_reads_and_the_body_of_updates(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    arguments = ("--seed", write_seed(tmp_path), "--log", str(log), "--log-all")
    async with aiohttp.ClientSession() as http, serve(*arguments) as (url, _):
        assert await move_to_mars(http, url) == 200
        for path in (f"/allocation/{ID}", "/allocation/nobody", "/allocations"):
            async with http.get(url + path) as answer:
                await answer.read()
        async with asyncio.timeout(10):
            while len(log.read_text().splitlines()) < 4:
                await asyncio.sleep(0.01)
    update, *reads = [json.loads(line) for line in log.read_text().splitlines()]
    assert update["op"] == "update"
    assert update["body"]["region"] == "mars"
    assert update["received_at"] <= update["applied_at"] <= update["answered_at"]
    assert [(row["op"], row.get("id"), row["answer"]) for row in reads] == [
        ("snapshot", ID, 200),
        ("snapshot", "nobody", 410),
        ("list", None, 200),
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--listen", "nonsense"], 64, "--listen nonsense"),
        (["--faults", '{"update": {"timeout_befor": 1}}'], 64, "timeout_befor"),
        (["--faults", "{"], 64, "not JSON"),
        (["--seed", "SEED"], 1, "GET /allocations"),
        (["--listen", "BUSY"], 1, "cannot listen on"),
        (["--faults", "/nowhere/faults.json"], 64, "No such file"),
        (["--state", "/nowhere/state"], 1, "cannot be written"),
        (["--state", "SEED"], 1, "not a state file"),
        (["--log", "/nowhere/log"], 1, "the log cannot be opened"),
    ],
)
async def test_a_wrong_argument_gives_one_line_and_an_exit_code(
    tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    (tmp_path / "seed").write_text("[1]")
    busy = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = busy.sockets[0].getsockname()[1]
    real = {"SEED": str(tmp_path / "seed"), "BUSY": f"127.0.0.1:{port}"}
    command = [sys.executable, "-m", "allocsync", "serve", *(real.get(word, word) for word in arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    _, stderr = await asyncio.wait_for(process.communicate(), 20)
    busy.close()
    await busy.wait_closed()
    assert process.returncode == status
    assert message in stderr.decode()
    assert len(stderr.decode().strip().splitlines()) == 1


async def test_every_flag_is_also_an_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    monkeypatch.setenv("ALLOCSYNC_SERVE_SEED", write_seed(tmp_path))
    monkeypatch.setenv("ALLOCSYNC_SERVE_LOG", str(log))
    monkeypatch.setenv("ALLOCSYNC_SERVE_LOG_ALL", "true")
    monkeypatch.setenv("ALLOCSYNC_SERVE_FAULTS", '{"update": {"503": 1, "applied": 1}}')
    async with aiohttp.ClientSession() as http, serve() as (url, _):
        assert await move_to_mars(http, url) == 503
        async with http.get(f"{url}/-/faults") as answer:
            assert (await answer.json())["fired"] == {"update.503": 1}
    fault, update = [json.loads(line) for line in log.read_text().splitlines()]
    assert (fault["kind"], update["answer"]) == ("update.503", 503)
    assert update["applied_at"] is not None
