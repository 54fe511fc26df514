"""Two daemons on one API, each with its own state directory, judged by the log of the server."""

import asyncio
import json
import random
import re
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import time
from typing import Any

import pytest
from aiohttp import web_response

from allocsync.model.times import WallTime
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.support import fast_clock_daemon
from tests.support.processes import PROGRAM, Daemon, command, daemon, declare, eventually

CLOUDS = sample_clouds(40, 61)
WANTED = {"region": "mars", "version": "9", "user": "u", "project": "p"}
EDITED = {**WANTED, "region": "venus"}
RESYNC_SECONDS = 2.0
WINDOW_SECONDS = 60.0  # the propagation window
SCHEDULE_SECONDS = (300.0, 600.0, 1200.0)  # a field in conflict is sent again after these waits
FLIPS = 3  # so many times a field must be changed back until it is in conflict
MOST_BEFORE_CONFLICT = 5  # updates: the first one, one for each flip but the last, and two that did not show
SENT_IN_CONFLICT = 2
STEP_SECONDS = 2.0
LONG_SECONDS = 3600.0


@asynccontextmanager
async def running(
    server: ReferenceServer,
    files: Sequence[Path],
    directory: Path,
    *,
    environ: Mapping[str, str],
    program: Sequence[str] = PROGRAM,
) -> AsyncIterator[list[Daemon]]:
    """Run one daemon for each file, each with a state directory of its own."""
    async with AsyncExitStack() as stack:
        starts = (
            daemon(
                server.url,
                file,
                directory / f"{len(files)}-{number}.log",
                environ={"ALLOCSYNC_STATE_DIR": str(directory / f"{len(files)}-{number}"), **environ},
                program=program,
            )
            for number, file in enumerate(files)
        )
        yield list(await asyncio.gather(*(stack.enter_async_context(start) for start in starts)))


async def statuses(daemons: Sequence[Daemon]) -> list[dict[str, int]]:
    """Return the conditions that each daemon reports, with their counts."""
    pages = [json.loads((await each.get("/api/v1/status"))[1])["conditions"] for each in daemons]
    return [{name: count for name, count in page.items() if count} for page in pages]


def named_conditions(each: Daemon) -> set[str]:
    """Return the conditions that the log of the daemon names."""
    return {str(event["after"]) for event in each.events("condition_changed")}


def updates(server: ReferenceServer, since: int = 0) -> list[dict[str, Any]]:
    """Return the updates of the daemons after a place in the server's log, in the order of their arrival."""
    return sorted((row for row in server.records[since:] if row["op"] == "update"), key=lambda row: row["n"])


def has_taken_an_edit(each: Daemon) -> bool:
    """Whether the daemon has activated a second revision."""
    return len(each.events("revision_activated")) > 1


async def holds(server: ReferenceServer, fields: Mapping[str, str]) -> None:
    """Wait until the server has these values in every allocation."""

    def equal() -> bool:
        return all(cloud[name] == value for cloud in server.clouds.values() for name, value in fields.items())

    await eventually(equal)


async def drift_and_edit(number: int, directory: Path) -> tuple[int, int, int]:
    """Let so many daemons repair drift in four rounds, and take an edit of their file.

    In each round another client changes one field of every allocation, one after the other. Returns the
    number of its changes, of the updates for them, and of the updates for the edit.
    """
    file, rng = directory / f"{number}.yaml", random.Random(7)
    declare(file, CLOUDS, **WANTED)
    environ = {"ALLOCSYNC_RESYNC_SECONDS": str(RESYNC_SECONDS)}
    async with (
        ReferenceServer.start(CLOUDS, log_all=True) as server,
        running(server, [file] * number, directory, environ=environ) as daemons,
    ):
        for each in daemons:
            await each.in_sync(len(CLOUDS))
        place = len(server.records)
        for field in WANTED:
            for cloud in rng.sample(CLOUDS, len(CLOUDS)):
                server.set_field(str(cloud["id"]), field, "theirs")
                await asyncio.sleep(rng.uniform(0, 0.1))
            await holds(server, WANTED)
        drift = len(updates(server, place))
        changed = sum(row["op"] == "writer" for row in server.records[place:])
        place = len(server.records)
        declare(file, CLOUDS, **EDITED)
        await holds(server, EDITED)
        for each in daemons:
            await eventually(partial(has_taken_an_edit, each))
            await each.in_sync(len(CLOUDS))
        for row, each in zip(await statuses(daemons), daemons, strict=True):
            assert row == {"InSync": len(CLOUDS)}
            assert not named_conditions(each) & {"Ignored", "Conflict"}
            assert not each.events("another_writer_suspected")
        return changed, drift, len(updates(server, place))


@pytest.mark.slow
async def test_two_daemons_with_the_same_files_repair_drift_once(tmp_path: Path) -> None:
    changed, alone, edited_alone = await drift_and_edit(1, tmp_path)
    assert changed == alone == len(CLOUDS) * len(WANTED)
    assert edited_alone == len(CLOUDS)
    changed, together, edited_together = await drift_and_edit(2, tmp_path)
    assert changed == alone
    assert together <= 1.1 * alone
    assert edited_together <= 2 * edited_alone


class SharedClock:
    """One clock for the server and several daemons: that of the machine, and what the test adds to it.

    `environ` and `fast_clock_daemon.PROGRAM` give it to a daemon; `wall` is for the server.
    """

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environ = {fast_clock_daemon.FILE_VARIABLE: str(file)}
        self._file = file
        self._added_seconds = 0.0
        # The daemons compare the header Date with their own clock, to recognise answers of a cache.
        monkeypatch.setattr(
            web_response, "rfc822_formatted_time", lambda: formatdate(float(self.wall()), usegmt=True)
        )

    def wall(self) -> WallTime:
        """Return seconds since the epoch, and what was added."""
        return WallTime(time() + self._added_seconds)

    async def advance_until(
        self, done: Callable[[], bool], server: ReferenceServer, daemons: Sequence[Daemon], seconds: float
    ) -> float:
        """Advance in small steps until `done`, and let the daemons finish what is due after each of them.

        Returns how many seconds of this clock it took; TimeoutError if that is more than `seconds`.
        """
        begun = float(self.wall())
        while not done():
            if float(self.wall()) > begun + seconds:
                raise TimeoutError
            self._signal(daemons, signal.SIGSTOP)
            await asyncio.sleep(0.005)  # the server answers what was sent before
            self._added_seconds += STEP_SECONDS
            self._file.write_text(str(self._added_seconds))
            self._signal(daemons, signal.SIGUSR1)
            self._signal(daemons, signal.SIGCONT)
            await _rest(server)
        return float(self.wall()) - begun

    def _signal(self, daemons: Sequence[Daemon], which: signal.Signals) -> None:
        for each in daemons:
            each.process.send_signal(which)


async def _rest(server: ReferenceServer) -> None:
    """Wait until no request has come for a moment."""
    before = -1
    while len(server.records) > before:
        before = len(server.records)
        await asyncio.sleep(0.03)


@pytest.mark.slow
async def test_two_daemons_with_different_fields_of_the_same_allocations_both_get_in_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds, fields = CLOUDS[:8], ("region", "version")
    files = tuple(tmp_path / f"{field}.yaml" for field in fields)
    clock = SharedClock(tmp_path / "clock", monkeypatch)

    def declare_both(value: str) -> None:
        for file, field in zip(files, fields, strict=True):
            declare(file, clouds, **{field: value})

    def has(server: ReferenceServer, value: str) -> bool:
        return all(cloud[field] == value for cloud in server.clouds.values() for field in fields)

    def is_sent_by_both(server: ReferenceServer, since: int) -> bool:
        return len(updates(server, since)) >= 2 * len(clouds)

    declare_both("0")
    async with (
        ReferenceServer.start(clouds, log_all=True, wall=clock.wall) as server,
        running(server, files, tmp_path, environ=clock.environ, program=fast_clock_daemon.PROGRAM) as daemons,
    ):
        await clock.advance_until(partial(has, server, "0"), server, daemons, LONG_SECONDS)
        for value in "12":
            place = len(server.records)
            server.set_faults({"update": {"latency_seconds": 0.2}})  # so that both read before either writes
            declare_both(value)
            await eventually(partial(is_sent_by_both, server, place))
            server.set_faults({})
            took = await clock.advance_until(partial(has, server, value), server, daemons, LONG_SECONDS)
            rows = updates(server, place)
            overwritten = sum(after != value for row in rows for _, after in row["changed"].values())
            assert overwritten, "no update was overwritten by that of the other daemon"
            assert len(rows) == 2 * len(clouds) + overwritten, "each of these was sent once more"
            assert took < 1.5 * WINDOW_SECONDS, "an overwritten update has taught a longer window"
        for each in daemons:
            await each.in_sync(len(clouds))
            assert not named_conditions(each) & {"Ignored", "Conflict"}
        assert has(server, "2")


@pytest.mark.slow
async def test_two_daemons_that_declare_different_values_both_say_conflict_and_slow_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds, values = CLOUDS[:3], ("mars", "venus")
    keys = [str(cloud["id"]) for cloud in clouds]
    files = tuple(tmp_path / f"{value}.yaml" for value in values)
    clock = SharedClock(tmp_path / "clock", monkeypatch)
    for file, value in zip(files, values, strict=True):
        declare(file, clouds, region=value)
    conflict_at: dict[tuple[str, str], float] = {}

    def posts(server: ReferenceServer, value: str, key: str) -> list[float]:
        rows = (row for row in updates(server) if row["id"] == key and row["body"]["region"] == value)
        return [row["received_at"] for row in rows]

    async with (
        ReferenceServer.start(clouds, log_all=True, wall=clock.wall) as server,
        running(server, files, tmp_path, environ=clock.environ, program=fast_clock_daemon.PROGRAM) as daemons,
    ):

        def tried_twice_in_conflict() -> bool:
            for value, each in zip(values, daemons, strict=True):
                for row in each.events("another_writer_suspected"):
                    conflict_at.setdefault((value, row["allocation"]), float(clock.wall()))
            return len(conflict_at) == len(values) * len(keys) and all(
                sum(at > since for at in posts(server, value, key)) >= SENT_IN_CONFLICT
                for (value, key), since in conflict_at.items()
            )

        await clock.advance_until(tried_twice_in_conflict, server, daemons, LONG_SECONDS)
        for value, each in zip(values, daemons, strict=True):
            for key in keys:
                since, sent = conflict_at[value, key], posts(server, value, key)
                before = [at for at in sent if at <= since]
                assert 2 <= len(before) <= MOST_BEFORE_CONFLICT
                waits = [later - earlier for earlier, later in pairwise([since, *sent[len(before) :]])]
                for wait, least in zip(waits, SCHEDULE_SECONDS, strict=False):
                    assert wait >= least - 2 * STEP_SECONDS, (value, key, sent)
            await says_conflict(each, keys)


async def says_conflict(each: Daemon, keys: Sequence[str]) -> None:
    """Check that log, status, `explain` and metric of this daemon suspect another writer of the region."""
    assert await statuses([each]) == [{"Conflict": len(keys)}]
    reasons = {event.get("reason", "") for event in each.events("condition_changed")}
    assert not [reason for reason in reasons if "the API" in reason and "another writer" not in reason]
    page = json.loads((await each.get("/api/v1/status"))[1])
    for row in page["allocations"]:
        assert re.match(
            r"another writer suspected: region changed back at (\d\d:\d\d:\d\dZ(, |;)){3,}", row["reason"]
        )
    told = [event for event in each.events("another_writer_suspected") if event["flips"] == FLIPS]
    assert {event["allocation"] for event in told} == set(keys)
    for event in told:
        assert (event["level"], event["fields"]) == ("warning", ["region"])
        (times,) = event["changed_back_at"]
        assert len(times) == FLIPS
    assert await each.metric("allocsync_another_writer_suspected_total") >= len(keys)
    code, text, stderr = await command("explain", keys[0], "--url", each.url)
    assert code == 0, stderr
    assert "another writer suspected: region changed back at " in text
    assert "tries again region " in text
    assert "find out who else sets the field" in text
