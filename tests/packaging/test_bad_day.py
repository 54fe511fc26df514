"""A bad day of real daemons, watched by a real Prometheus and Alertmanager with the rules 60 times faster.

Each trouble has a daemon and a server of its own, so the alert's instance names what is in trouble. A trouble
is real: a killed server, a stopped process, a full disk, another writer, a late write.

Left out: Ignored and Stalled, which take minutes or cannot be brought about from outside (`test_alerts`).
"""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from allocsync.model.cloud import Cloud
from allocsync.reference_server import ReferenceServer
from allocsync.reference_server.sample import sample_clouds
from tests.packaging.conftest import ROOT, require
from tests.support.processes import Daemon, command, daemon, declare, eventually
from tests.support.prometheus import Prometheus, prometheus
from tests.support.small_disk import SmallDisk, small_disk

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
FACTOR = 60
NUMBER = 20  # allocations of each daemon
FIRES_WITHIN_SECONDS, RESOLVES_WITHIN_SECONDS = 120.0, 150.0
UNITS = {"m": 60, "h": 3600}
DURATION = re.compile(r"(?<=\[)(\d+)([mh])(?=\])|(?<=for: )(\d+)([mh])\b")


def faster(rules: str) -> str:
    """The rules with every duration divided by the factor."""

    def scaled(match: re.Match[str]) -> str:
        number, unit = [group for group in match.groups() if group]
        return f"{int(number) * UNITS[unit] // FACTOR}s"

    rules = DURATION.sub(scaled, rules).replace("interval: 30s", "interval: 500ms")
    return re.sub(r"(?<=[<>] )900\b", str(900 // FACTOR), rules)


@dataclass
class Place:
    """A server, the daemon that keeps it in sync, its files, and what a trouble needs."""

    folder: Path
    clouds: list[Cloud]
    server: ReferenceServer | None = None
    running: Daemon | None = None
    disk: SmallDisk | None = None
    ballast: Path | None = None
    server_stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    background: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "desired.yaml"

    @property
    def daemon(self) -> Daemon:
        assert self.running is not None
        return self.running

    @property
    def api(self) -> ReferenceServer:
        assert self.server is not None
        return self.server

    @property
    def key(self) -> str:
        return str(self.clouds[0]["id"])

    async def start_server(self, port: int = 0) -> None:
        listen = ("127.0.0.1", port)
        clouds = list(self.server.clouds.values()) if self.server is not None else self.clouds
        started = ReferenceServer.start(clouds, listen=listen, log_all=True)
        self.server = await self.server_stack.enter_async_context(started)

    def replace_file(self, text: str) -> None:
        beside = self.folder / ".beside"
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.file)

    def edit(self, region: str) -> None:
        declare(self.file, self.clouds, region=region)

    def in_background(self, work: Callable[["Place"], Awaitable[None]]) -> None:
        async def run() -> None:
            await work(self)

        self.background.append(asyncio.create_task(run()))

    async def allocsync(self, *arguments: str) -> str:
        """Run a command for this daemon; returns what it prints."""
        environ = {"ALLOCSYNC_LISTEN": self.daemon.url.removeprefix("http://")}
        environ["ALLOCSYNC_STATE_DIR"] = str(self.folder / "state")
        code, text, stderr = await command(*arguments, environ=environ)
        assert code == 0, stderr
        return text


Action = Callable[[Place], Awaitable[None]]


async def nothing(_place: Place) -> None:
    """The trouble ends by itself, or not within the test."""


async def kill_server(place: Place) -> None:
    await place.server_stack.aclose()
    place.server_stack = AsyncExitStack()


async def start_server_again(place: Place) -> None:
    await place.start_server(int(place.api.url.rpartition(":")[2]))


async def storm(place: Place) -> None:
    place.api.set_faults({"update": {"timeout_after": 0.6}})

    async def edits(place: Place) -> None:
        # In turn, so that there are updates all the time, while each unknown outcome waits for its read-back.
        regions = {str(cloud["id"]): "mars" for cloud in place.clouds}
        for number in range(10_000):
            key = str(place.clouds[number % NUMBER]["id"])
            regions[key] = f"storm-{number}"
            rows = "".join(f"  {key}:\n    region: {region}\n" for key, region in regions.items())
            place.replace_file(f"apiVersion: allocsync/v1\nallocations:\n{rows}")
            await asyncio.sleep(0.4)

    place.in_background(edits)


async def calm(place: Place) -> None:
    for task in place.background:
        task.cancel()
    assert place.api.fired["update.timeout_after"] > 5
    place.api.set_faults({})


async def remove_one(place: Place) -> None:
    place.api.remove(place.key)


async def declare_the_others(place: Place) -> None:
    declare(place.file, place.clouds[1:], region="mars")


async def break_file(place: Place) -> None:
    place.replace_file("apiVersion: [")


async def mistake_in_one_entry(place: Place) -> None:
    text = place.file.read_text(encoding="utf-8")
    place.replace_file(text.replace("region: mars", "colour: red", 1))


async def correct_file(place: Place) -> None:
    place.edit("mars")


async def edit_everything(place: Place) -> None:
    place.edit("venus")


async def wrong_secret(place: Place) -> None:
    (place.folder / "allocsync_api_token").write_text("two words\n", encoding="utf-8")
    place.daemon.process.send_signal(signal.SIGHUP)


async def right_secret(place: Place) -> None:
    (place.folder / "allocsync_api_token").write_text("secret\n", encoding="utf-8")
    place.daemon.process.send_signal(signal.SIGHUP)


async def pause(place: Place) -> None:
    await place.allocsync("pause", "--all", "--for", "30s", "--reason", "maintenance")


async def stop_process(place: Place) -> None:
    place.daemon.process.send_signal(signal.SIGSTOP)


async def continue_process(place: Place) -> None:
    place.daemon.process.send_signal(signal.SIGCONT)


async def reject_updates(place: Place) -> None:
    place.api.set_faults({"update": {"409": 1}})
    place.edit("venus")


async def accept_updates(place: Place) -> None:
    assert place.api.fired["update.409"] > 2
    place.api.set_faults({})
    await place.allocsync("retry", "--all")


async def fill_disk(place: Place) -> None:
    assert place.disk is not None
    place.ballast = place.disk.fill(place.daemon.process.pid)
    text = place.file.read_text(encoding="utf-8")
    place.replace_file(text.replace("region: mars", "region: venus", 1))  # the others would fill the disk too


async def make_room(place: Place) -> None:
    assert place.ballast is not None
    place.ballast.unlink()


async def another_writer(place: Place) -> None:
    async def change_back(place: Place) -> None:
        for number in range(10_000):
            if place.api.clouds[place.key]["region"] == "mars":
                await asyncio.sleep(4)  # a read has shown the value
                place.api.set_field(place.key, "region", f"theirs-{number}")
            await asyncio.sleep(0.2)

    place.in_background(change_back)


async def late_write(place: Place) -> None:
    place.api.set_faults({"update": {"timeout_late": 1, "late_seconds": 20}})
    declare(place.file, place.clouds[:1], region="late")
    await eventually(lambda: place.api.fired["update.timeout_late"])
    place.api.set_faults({})

    async def change_meanwhile(place: Place) -> None:
        await asyncio.sleep(12)
        place.api.set_field(place.key, "project", "theirs")

    place.in_background(change_meanwhile)


@dataclass(frozen=True)
class Trouble:
    """What happens, what ends it, the alert that it must cause, and the settings of its daemon."""

    alert: str
    begin: Action
    end: Action = nothing
    environ: Mapping[str, str] = field(default_factory=dict)
    resolves: bool = True
    on_small_disk: bool = False


READ_OFTEN = {"ALLOCSYNC_RESYNC_SECONDS": "2"}
TROUBLES = (
    Trouble("AllocsyncApiUnreachable", kill_server, start_server_again),
    Trouble("AllocsyncOutcomesUnknown", storm, calm, {"ALLOCSYNC_SETTLE_SECONDS": "5"}),
    Trouble("AllocsyncMissing", remove_one, declare_the_others, READ_OFTEN),
    Trouble("AllocsyncFilesRejected", break_file, correct_file),
    Trouble("AllocsyncEntriesQuarantined", mistake_in_one_entry, correct_file),
    Trouble(
        "AllocsyncAwaitingApproval", edit_everything, correct_file, {"ALLOCSYNC_MAX_CHANGES_PERCENT": "10"}
    ),
    Trouble("AllocsyncSettingsRejected", wrong_secret, right_secret),
    Trouble("AllocsyncPauseEnds", pause),
    Trouble("AllocsyncDown", stop_process, continue_process),
    Trouble("AllocsyncNotConverging", reject_updates, accept_updates),
    Trouble("AllocsyncJournalUnwritable", fill_disk, make_room, on_small_disk=True),
    Trouble("AllocsyncConflict", another_writer, environ=READ_OFTEN, resolves=False),
    Trouble("AllocsyncStaleOverwrite", late_write, environ=READ_OFTEN | {"ALLOCSYNC_SETTLE_SECONDS": "5"}),
)


@asynccontextmanager
async def _place(folder: Path, trouble: Trouble) -> AsyncIterator[Place]:
    """A daemon in sync with a server of its own."""
    place = Place(folder, sample_clouds(NUMBER, 7))
    await place.start_server()
    place.edit("mars")
    (folder / "allocsync_api_token").write_text("secret\n", encoding="utf-8")
    environ = {
        "ALLOCSYNC_STATE_DIR": str(folder / "state"),
        "CREDENTIALS_DIRECTORY": str(folder),
        **trouble.environ,
    }
    if trouble.on_small_disk:
        place.disk = await small_disk(folder / "state")
    within = () if place.disk is None else place.disk.within
    try:
        log = folder / "log"
        async with daemon(place.api.url, place.file, log, environ=environ, within=within) as running:
            place.running = running
            await running.in_sync(NUMBER)
            yield place
    finally:
        for task in place.background:
            task.cancel()
        await place.server_stack.aclose()


async def _live_through(trouble: Trouble, place: Place, target: str, watched: Prometheus) -> None:
    """Begin the trouble, wait for its alert, end the trouble, and wait until the alert resolves."""
    pair = (trouble.alert, target)
    await trouble.begin(place)
    async with asyncio.timeout(FIRES_WITHIN_SECONDS):
        while pair not in await watched.firing():
            await asyncio.sleep(0.3)
        while trouble.alert not in await watched.told():
            await asyncio.sleep(0.3)
    await trouble.end(place)
    if trouble.resolves:
        async with asyncio.timeout(RESOLVES_WITHIN_SECONDS):
            while pair in await watched.firing():
                await asyncio.sleep(0.3)


def test_the_faster_rules_differ_in_their_durations_only() -> None:
    rules = RULES.read_text(encoding="utf-8")
    changed = faster(rules)
    assert len(DURATION.findall(rules)) > 20
    assert not DURATION.search(changed)
    number = re.compile(r"\d+(ms|[smh])\b|(?<=[<>] )\d+\b")
    assert number.sub("N", changed) == number.sub("N", rules)


@pytest.mark.slow
@pytest.mark.real
async def test_each_trouble_of_a_bad_day_fires_its_alert_names_its_daemon_and_resolves(
    tmp_path: Path,
) -> None:
    for program in ("prometheus", "prometheus-alertmanager"):
        require(program)
    rules = tmp_path / "rules.yml"
    rules.write_text(faster(RULES.read_text(encoding="utf-8")), encoding="utf-8")
    for trouble in TROUBLES:
        (tmp_path / trouble.alert).mkdir()
    async with AsyncExitStack() as stack:
        places = [
            await stack.enter_async_context(_place(tmp_path / trouble.alert, trouble)) for trouble in TROUBLES
        ]
        targets = [place.daemon.url.removeprefix("http://") for place in places]
        watched = await stack.enter_async_context(
            prometheus(tmp_path, targets, rules, with_alertmanager=True)
        )
        await asyncio.sleep(20)
        assert await watched.firing() == set(), "a calm start is silent"
        await asyncio.gather(
            *(
                _live_through(trouble, place, target, watched)
                for trouble, place, target in zip(TROUBLES, places, targets, strict=True)
            )
        )
        lasting = {"AllocsyncConflict", "AllocsyncTwoWriters"}
        assert {alert for alert, _ in await watched.firing()} <= lasting
