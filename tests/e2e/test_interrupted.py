"""Commands that are interrupted, whose output nobody reads, or that cannot start, end without a traceback."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support.processes import CLEAN, command, declare, eventually, start

CLOUDS = sample_clouds(3, 22)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_apply_reports_what_it_has_and_has_not_done(
    tmp_path: Path, number: signal.Signals
) -> None:
    desired = tmp_path / "desired.yaml"
    declare(desired, CLOUDS, region="mars")
    faults = {"update": {"timeout_after": 1}}
    async with ReferenceServer.start(CLOUDS, faults=faults) as server:
        process = await start(
            *("apply", "--api-url", server.url, "--desired", str(desired)), stdout=PIPE, stderr=PIPE
        )
        await eventually(lambda: server.fired["update.timeout_after"] == 3)
        process.send_signal(number)
        stdout, stderr = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert "interrupted: no more updates are sent" in stderr.decode()
    assert "3 allocations: 0 in sync (0 updated), 3 outcome unknown." in stdout.decode()
    assert "reads it back before it sends anything again" in stdout.decode()


async def test_an_interrupted_plan_says_so_and_ends_by_the_signal(tmp_path: Path) -> None:
    desired = tmp_path / "desired.yaml"
    declare(desired, CLOUDS, region="mars")
    async with ReferenceServer.start(
        CLOUDS, faults={"snapshot": {"latency_seconds": 30}}, log_all=True
    ) as server:
        process = await start(
            *("plan", "--bulk", "off", "--api-url", server.url, "--desired", str(desired)),
            within=("env", "--default-signal=INT"),  # ignored if the tests were started with `&`
            stderr=PIPE,
        )
        await eventually(lambda: server.fired["snapshot.latency_seconds"] == 3)
        process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == -signal.SIGINT  # a shell shows 130, and ends the surrounding script
    assert stderr.decode().split("\n")[-2] == "allocsync: interrupted"


async def start_interruptible(*arguments: str, options: Sequence[str] = ()) -> Process:
    """Start allocsync with these options of Python and the default action of SIGINT."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *options, "-m", "allocsync", *arguments),
        env=CLEAN,
        stdout=DEVNULL,
        stderr=PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("module", ["typing", "click.types", "allocsync.errors", "pydantic", "aiohttp"])
async def test_an_interrupt_while_it_is_being_imported_ends_it_without_a_word(module: str) -> None:
    process = await start_interruptible("run", options=("-X", "importtime"))
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while (line := await process.stderr.readline()).split()[-1:] != [module.encode()]:
            assert line, f"it ended before it imported {module}"
        process.send_signal(signal.SIGINT)
        rest = await process.stderr.read()
        await process.wait()
    assert process.returncode == -signal.SIGINT
    assert [line for line in rest.splitlines() if not line.startswith(b"import time:")] == []


async def test_an_early_interrupt_never_shows_a_traceback_of_allocsync() -> None:
    in_silence = 0
    for number in range(45):
        process = await start_interruptible(("--version", "--help", "validate")[number % 3])
        await asyncio.sleep(0.004 * number)  # interrupts it at a different point each time
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)  # send_signal may reap the process and lose its status
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
        message = stderr.decode()
        assert "allocsync/" not in message
        if "Traceback" in message:
            continue  # Python itself was still starting; no code of allocsync had run
        assert process.returncode in {-signal.SIGINT, 0, 78}  # 0 and 78: it had ended before
        in_silence += process.returncode == -signal.SIGINT and not message
    assert in_silence > 5


async def test_a_command_started_with_interrupts_ignored_keeps_ignoring_them(tmp_path: Path) -> None:
    desired = tmp_path / "desired.yaml"
    declare(desired, CLOUDS, region="mars")
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    async with ReferenceServer.start(
        CLOUDS, faults={"snapshot": {"latency_seconds": 1}}, log_all=True
    ) as server:
        where = ("--bulk", "off", "--api-url", server.url, "--desired", str(desired))
        process = await start("plan", *where, within=ignoring, stdout=DEVNULL)
        await eventually(lambda: server.fired["snapshot.latency_seconds"] == 3)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_output_that_cannot_be_written_gives_no_traceback() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    process = await start("schema", "desired", stdout=full, stderr=PIPE)
    os.close(full)
    _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert stderr.decode() == "allocsync: standard output cannot be written: no space left\n"


async def test_a_demo_whose_reader_disconnects_ends_without_a_traceback(tmp_path: Path) -> None:
    process = await start(
        *("demo", "--directory", str(tmp_path / "demo"), "--seconds", "15"), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - as `head -1` does
    stderr = await asyncio.wait_for(process.stderr.read(), 40)
    await process.wait()
    assert process.returncode == 1
    assert b"Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "foo"], "--listen foo: not HOST:PORT"),
        (["--directory", "/proc/x"], "--directory /proc/x"),
    ],
)
async def test_a_demo_that_cannot_start_prints_one_line(arguments: list[str], message: str) -> None:
    status, text, stderr = await command("demo", *arguments)
    assert (status, text) == (64, "")
    assert stderr.startswith(f"allocsync: {message}")
    assert len(stderr.splitlines()) == 1
