"""Measures how soon each output tells a fault of the API, and how soon work goes on.

    python -m tests.benchmarks.outages [CASE...]

Each case has a daemon process with default settings, an API over a socket, and 200 allocations in sync. All
cases run at once, because they wait most of the time. The outputs are the text of `allocsync status`, the
JSON of `/api/v1/status`, `allocsync explain`, the log and the metric `allocsync_api_reachable`. The kinds:

- outage: each output tells it. Then a second outage begins, and `status --wait` asks at once.
- one: requests of one kind, or for one allocation, fail. Each output tells the allocations that this delays,
  and none tells an outage.
- calm: the API works, or only its list is broken. No output ever tells an outage. Edits, and drift that
  somebody asks to be read, are repaired meanwhile, and `status --wait` succeeds.
- start: the same at the start of a daemon: fifty allocations differ and none has been read.
- gone: another server answers, which knows none of the allocations.

Each row counts how often the fault struck, by the server. The rows go to `outage_results.json` with
commit and date; `tests/benchmarks/README.md` shows that file. The exit code is 1 if a target is missed. A run
of some cases only is printed and not stored.

Left out: how the requests are paced in an outage (`virtual_storms`).
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from allocsync.model.cloud import field_value
from allocsync.reconcile.parameters import Parameters
from allocsync.reference_server.sample import sample_clouds
from allocsync.runtime import listen_token
from tests.benchmarks.machine import stamp
from tests.benchmarks.storm import declare, drifted, rewrite
from tests.support.faulty_api import HANG_SECONDS, FaultyApi, faulty_api
from tests.support.processes import Daemon, command, daemon

RESULTS = Path(__file__).with_name("outage_results.json")
NUMBER = 200
DRIFTED = 50
TOLD_SECONDS = 30.0  # the target of every output
STILL_SECONDS = 15.0  # the target of work while only the list is broken
FAULT_SECONDS = 60.0  # how long a fault lasts at least
ASKED_SECONDS = 20  # the timeout of a `status --wait` that must not succeed
WAIT_SECONDS = 90  # the timeout of one that must
GIVE_UP_SECONDS = 150.0
POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = Parameters().heartbeat_seconds
OUTAGE = "API unreachable since "
OUTPUTS = ("text", "json", "explain", "log", "metric")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One fault: its name and kind, and the fault configuration, or what happens to the API instead.

    `instead` is kill, other (another server takes its place), hang or fail (GETs of one allocation).
    `counts` are the names under which the server counts the fault.
    """

    name: str
    kind: str
    faults: Mapping[str, Any] = field(default_factory=dict)
    instead: str = ""
    counts: Sequence[str] = ()


def _hangs(*operations: str, seconds: float = HANG_SECONDS) -> Mapping[str, Any]:
    return {name: {"latency_seconds": seconds} for name in operations}


EVERYTHING = ("update", "snapshot", "list")
LIST_500: Mapping[str, Any] = {"list": {"500": 1}}
SWAPPED: Mapping[str, Any] = {"snapshot": {"wrong_id": 1}, "update": {"wrong_id": 1}, "list": {"html": 1}}
CASES = {
    case.name: case
    for case in (
        Case("killed", "outage", instead="kill"),
        Case(
            "everything hangs",
            "outage",
            _hangs(*EVERYTHING),
            counts=[f"{name}.latency_seconds" for name in EVERYTHING],
        ),
        Case(
            "401 to everything", "outage", {"all": {"401": 1}}, counts=[f"{name}.401" for name in EVERYTHING]
        ),
        Case(
            "the id of another, and HTML for the list",
            "outage",
            SWAPPED,
            counts=["snapshot.wrong_id", "update.wrong_id", "list.html"],
        ),
        Case("another server: 410 for all", "gone", instead="other"),
        Case("GETs of one allocation hang", "one", instead="hang"),
        Case("GETs of one allocation fail", "one", instead="fail"),
        Case("POSTs hang", "one", _hangs("update"), counts=["update.latency_seconds"]),
        Case(
            "every answer takes 2 s",
            "calm",
            _hangs(*EVERYTHING, seconds=2),
            counts=[f"{name}.latency_seconds" for name in EVERYTHING],
        ),
        Case("the list hangs", "calm", _hangs("list"), counts=["list.latency_seconds"]),
        Case("the list fails", "calm", LIST_500, counts=["list.500"]),
        Case("the list takes 40 s", "calm", _hangs("list", seconds=40), counts=["list.latency_seconds"]),
        Case("start: the list hangs", "start", _hangs("list"), counts=["list.latency_seconds"]),
        Case("start: the list fails", "start", LIST_500, counts=["list.500"]),
        Case(
            "start: the list takes 40 s", "start", _hangs("list", seconds=40), counts=["list.latency_seconds"]
        ),
    )
}


class Turns:
    """Keeps the cases from disturbing each other: few processes start at once, and faults begin in turn.

    A command counts from its start, so that a busy machine does not lengthen what is measured.
    """

    def __init__(self, cases: int) -> None:
        self.start = asyncio.Semaphore(3)
        self.command = asyncio.Semaphore(6)
        self._all_started = asyncio.Barrier(cases)

    async def all_started(self) -> None:
        """Wait until the daemons of all cases are there, and two seconds for each case before this one."""
        number = await self._all_started.wait()
        await asyncio.sleep(2.0 * number)

    async def give_up(self) -> None:
        """A case breaks off: the others do not wait for it."""
        await self._all_started.abort()


@dataclass
class Stage:
    """A running case: its API, its daemon, what is declared, and when the fault began (Unix seconds)."""

    case: Case
    api: FaultyApi
    running: Daemon
    desired: Path
    declared: dict[str, dict[str, str]]
    environ: Mapping[str, str]
    turns: Turns
    begun: float = 0.0
    struck: int = 0
    claims: list[str] = field(default_factory=list)  # when an output told an outage, as far as it was polled

    @property
    def keys(self) -> list[str]:
        """All ids, sorted."""
        return sorted(self.declared)

    def since(self) -> float:
        """Seconds since the fault began."""
        return time.time() - self.begun

    async def begin(self) -> None:
        """Begin the fault right after a request has succeeded, because then it takes longest to be told."""
        await self.until_page(self._has_just_succeeded, 2 * HEARTBEAT_SECONDS)
        match self.case.instead:
            case "kill":
                await self.api.kill()
            case "other":
                await self.api.kill()
                await self.api.serve(sample_clouds(NUMBER, 77))
            case "hang" | "fail":
                self.api.poison.id = self.keys[0]
                self.api.poison.status = 500 if self.case.instead == "fail" else None
            case _:
                self.api.live.set_faults(self.case.faults)
        self.begun = time.time()

    async def end(self) -> float:
        """End the fault, and add to `struck` how often it struck. Return when it ended (Unix seconds)."""
        match self.case.instead:
            case "kill":
                self.struck += await self.api.refuses()
                await self.api.serve()
            case "other":
                answers = [row["answer"] for row in self.api.live.records if row["op"] == "snapshot"]
                self.struck += answers.count(410)
                await self.api.kill()
                await self.api.serve()
            case "hang" | "fail":
                self.struck, self.api.poison.id = self.api.poison.strikes, ""
            case _:
                self.struck = sum(self.api.live.fired.get(name, 0) for name in self.case.counts)
                self.api.live.set_faults({})
        return time.time()

    def edit(self, region: str, keys: Sequence[str]) -> float:
        """Declare another region for these allocations. Return when (Unix seconds)."""
        for key in keys:
            self.declared[key]["region"] = region
        rewrite(self.desired, self.declared, keys)
        return time.time()

    async def applied(self, region: str, keys: Sequence[str]) -> float | None:
        """Wait until the API has this region for each of these allocations.

        Return when the last one was applied (Unix seconds), None if that takes too long.
        """
        await self.until(lambda: None not in [self.api.applied_at(key, {"region": region}) for key in keys])
        times = [self.api.applied_at(key, {"region": region}) for key in keys]
        return None if None in times else max(at for at in times if at is not None)

    async def until(self, probe: Callable[[], object], seconds: float = GIVE_UP_SECONDS) -> float | None:
        """Wait until `probe` is true. Return the seconds since the fault began, None if it never was."""
        end = time.time() + seconds
        while not probe():
            if time.time() > end:
                return None
            await asyncio.sleep(POLL_SECONDS)
        return self.since()

    async def until_page(
        self, probe: Callable[[], Awaitable[object]], seconds: float = GIVE_UP_SECONDS
    ) -> float | None:
        """As `until`, with a probe that asks the daemon."""
        end = time.time() + seconds
        while not await probe():
            if time.time() > end:
                return None
            await asyncio.sleep(POLL_SECONDS)
        return self.since()

    async def until_output(self, tells: Callable[[str], bool], *arguments: str) -> float | None:
        """Run a command until its output is right.

        Return when that command began (seconds since the fault), None if it was never right.
        """
        end = time.time() + FAULT_SECONDS
        while time.time() < end:
            async with self.turns.command:
                begun = self.since()
                if tells((await command(*arguments, environ=self.environ))[1]):
                    return begun
        return None

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command of allocsync against the daemon."""
        async with self.turns.command:
            return await command(*arguments, environ=self.environ)

    async def status(self) -> Row:
        """The JSON of the status."""
        found: Row = json.loads((await self.running.get("/api/v1/status"))[1])
        return found

    async def _has_just_succeeded(self) -> bool:
        confirmed_at = (await self.status())["api"]["last_confirmed_at"]
        return time.time() - datetime.fromisoformat(confirmed_at).timestamp() < 2 * POLL_SECONDS

    async def row(self, key: str) -> Row:
        """The row of one allocation in the status."""
        rows: list[Row] = (await self.status())["allocations"]
        return next(row for row in rows if row["id"] == key)

    async def reachable(self) -> float:
        """The value of the metric."""
        return await self.running.metric("allocsync_api_reachable")

    async def wait_command(self, seconds: int) -> Row:
        """Run `status --wait`; it does not wait for its turn, because it is mostly idle."""
        begun = time.time()
        code, _, _ = await command(
            *("status", "--wait", "--timeout", str(seconds), "--json"), environ=self.environ
        )
        return {"code": code, "seconds": round(time.time() - begun, 1)}

    async def watch(self) -> None:
        """Note each time that JSON or metric tells an outage, until cancelled."""
        while True:
            metric, reachable = await self.reachable(), (await self.status())["api"]["reachable"]
            if reachable is False:
                self.claims.append(f"JSON after {self.since():.1f} s")
            elif reachable is True and metric == 0 and await self.reachable() == 0:
                self.claims.append(f"metric after {self.since():.1f} s")
            await asyncio.sleep(1)

    async def claims_of_commands(self) -> None:
        """Note if a command or the log tells an outage."""
        for arguments in (("status",), ("explain", self.keys[0])):
            if OUTAGE in (await self.run(*arguments))[1]:
                self.claims.append(f"{arguments[0]} after {self.since():.1f} s")
        if self.running.events("api_unreachable"):
            self.claims.append("log")

    def logged(self, name: str, begun: float, **fields: object) -> float | None:
        """Seconds from `begun` to the first such line of the log with these fields; None if there is none."""
        for row in self.running.events(name):
            at = datetime.fromisoformat(row["ts"]).timestamp()
            if at >= begun - 0.1 and all(row.get(key) == value for key, value in fields.items()):
                return at - begun
        return None


@asynccontextmanager
async def stage(case: Case, turns: Turns) -> AsyncIterator[Stage]:
    """Run the API and the daemon of a case; in sync, but for a case of the kind start."""
    clouds, declared = drifted(NUMBER)
    for number, cloud in enumerate(clouds):
        if case.kind != "start" or number >= DRIFTED:
            declared[str(cloud["id"])]["region"] = str(field_value(cloud, "region"))
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        declare(home / "desired", declared)
        state = {"ALLOCSYNC_STATE_DIR": str(home / "state"), "ALLOCSYNC_MAX_CHANGES_PERCENT": ""}
        faults = case.faults if case.kind == "start" else None
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(faulty_api(clouds, faults=faults))
            async with turns.start:
                running = await stack.enter_async_context(
                    daemon(api.url, home / "desired", home / "daemon.jsonl", environ=state)
                )
            environ = {**state, "ALLOCSYNC_LISTEN": running.url.removeprefix("http://")}
            found = Stage(case, api, running, home / "desired", declared, environ, turns)
            if case.kind != "start":
                await running.in_sync(NUMBER, 60)
            await turns.all_started()
            yield found


async def outage(on: Stage) -> Row:
    """Measure how soon an outage is told, and how soon its end."""
    await on.begin()
    told: dict[str, float | None] = {}

    async def unreachable() -> bool:
        return (await on.status())["api"]["reachable"] is False

    told["json"] = await on.until_page(unreachable)
    told["metric"] = await on.until_page(lambda: _equals(on.reachable(), 0))
    told["log"] = on.logged("api_unreachable", on.begun)
    told["text"], told["explain"] = await asyncio.gather(
        on.until_output(lambda text: text.startswith(OUTAGE), "status"),
        on.until_output(lambda text: text.startswith(OUTAGE), "explain", on.keys[0]),
    )
    api = (await on.status())["api"]
    since = datetime.fromisoformat(api["since"]).timestamp() - on.begun
    attempt = datetime.fromisoformat(api["next_attempt_at"]).timestamp() - time.time()
    on.edit("edited", on.keys[:1])
    await asyncio.sleep(max(0.0, FAULT_SECONDS - on.since()))
    lapses = [] if await unreachable() else ["told as over while it lasts"]
    if len(on.running.events("api_unreachable")) > 1 or on.running.events("api_reachable"):
        lapses.append("the log tells its end while it lasts")
    if not -0.1 <= since <= TOLD_SECONDS:
        lapses.append(f"since is {since:.1f} s after its begin")
    if attempt < -1:
        lapses.append("the next attempt lies in the past")
    ended = await on.end()
    resumed = await on.applied("edited", on.keys[:1])
    again = await on.until_page(lambda: _equals(on.reachable(), 1))
    reachable_again = None if again is None else on.begun + again - ended
    text = (await on.run("status"))[1]
    if OUTAGE in text or await unreachable() or not on.running.events("api_reachable"):
        lapses.append("some output does not tell its end")
    await on.running.in_sync(NUMBER, 60)
    await on.begin()
    wait = await on.wait_command(ASKED_SECONDS)
    await on.end()
    if wait["code"] == 0:
        lapses.append("status --wait succeeds")
    return {
        "told": told,
        "wait": wait,
        "resumed_seconds": None if resumed is None else resumed - ended,
        "reachable_again_seconds": reachable_again,
        "lapses": lapses,
    }


async def one(on: Stage) -> Row:
    """Measure how soon allocations are told that a fault of their own requests delays."""
    sick, healthy = on.keys[0], on.keys[-1]
    await on.begin()
    edited = on.edit("edited", [sick, healthy])
    told: dict[str, float | None] = {}

    async def delayed() -> bool:
        row = await on.row(sick)
        return row["condition"] != "InSync" and bool(row["reason"])

    told["json"] = await on.until_page(delayed)
    told["metric"] = await on.until_page(lambda: _equals(on.reachable(), 1))
    told["text"], told["explain"] = await asyncio.gather(
        on.until_output(lambda text: f"  {sick}   " in text and OUTAGE not in text, "status"),
        on.until_output(lambda text: "  why  " in text and OUTAGE not in text, "explain", sick),
    )
    watching = asyncio.create_task(on.watch())
    lapses = []
    if on.case.instead:  # others go on
        at = await on.applied("edited", [healthy])
        edit_seconds = None if at is None else at - edited
    else:
        edit_seconds = None
    wait = await on.wait_command(ASKED_SECONDS)
    if wait["code"] == 0:
        lapses.append("status --wait succeeds")
    await on.until(lambda: _failure_logged(on, sick) is not None, FAULT_SECONDS)
    told["log"] = _failure_logged(on, sick)
    await asyncio.sleep(max(0.0, FAULT_SECONDS - on.since()))
    await on.claims_of_commands()
    watching.cancel()
    ended = await on.end()
    resumed = await on.applied("edited", [sick])
    return {
        "told": told,
        "wait": wait,
        "edit_seconds": edit_seconds,
        "resumed_seconds": None if resumed is None else resumed - ended,
        "lapses": [*lapses, *(f"an outage is told: {claim}" for claim in on.claims[:3])],
    }


def _failure_logged(on: Stage, key: str) -> float | None:
    found = [
        on.logged("condition_changed", on.begun, allocation=key, after="Failing"),
        on.logged("update_outcome_unknown", on.begun, allocation=key),
    ]
    return min((each for each in found if each is not None), default=None)


async def gone(on: Stage) -> Row:
    """Measure how soon it is told that another server answers, which knows none of the allocations."""
    await on.begin()
    told: dict[str, float | None] = {}

    async def missing() -> int:
        return int((await on.status())["conditions"].get("Missing", 0))

    async def first_missing() -> str:
        rows: list[Row] = (await on.status())["allocations"]
        return next(str(row["id"]) for row in rows if row["condition"] == "Missing")

    told["json"] = await on.until_page(missing)
    key = await first_missing()
    told["text"], told["explain"] = await asyncio.gather(
        on.until_output(lambda text: f"  {key}   Missing" in text, "status"),
        on.until_output(lambda text: "410" in text, "explain", key),
    )
    told["log"] = on.logged("condition_changed", on.begun, after="Missing")
    told["all"] = await on.until_page(lambda: _equals(missing(), NUMBER))
    lapses = []
    wait = await on.wait_command(ASKED_SECONDS)
    if wait["code"] == 0:
        lapses.append("status --wait succeeds")
    posts = [row for row in on.api.live.records if row["op"] == "update"]
    if posts:
        lapses.append(f"{len(posts)} updates went to the other server")
    await asyncio.sleep(max(0.0, FAULT_SECONDS - on.since()))
    ended = await on.end()
    await on.running.in_sync(NUMBER, GIVE_UP_SECONDS)
    return {"told": told, "wait": wait, "resumed_seconds": time.time() - ended, "lapses": lapses}


async def calm(on: Stage) -> Row:
    """Measure how soon edits and drift are repaired while nothing but the list is broken, or all is slow."""
    drift, edited = on.keys[1 : 1 + DRIFTED], on.keys[-1]
    await on.begin()
    regions = {key: on.declared[key]["region"] for key in drift}
    for key in drift:
        on.api.live.set_field(key, "region", "drifted")
    watching = asyncio.create_task(on.watch())
    token = listen_token.find(Path(on.environ["ALLOCSYNC_STATE_DIR"]), None)
    code, _ = await on.running.post("/-/sync", token)
    asked = time.time()
    edit_at = on.edit("edited", [edited])
    applied = await on.applied("edited", [edited])
    await on.until(lambda: all(on.api.applied_at(key, {"region": region}) for key, region in regions.items()))
    times = [on.api.applied_at(key, {"region": region}) for key, region in regions.items()]
    wait = await on.wait_command(WAIT_SECONDS)
    await asyncio.sleep(max(0.0, FAULT_SECONDS - on.since()))
    await on.claims_of_commands()
    watching.cancel()
    lapses = [f"an outage is told: {claim}" for claim in on.claims[:3]]
    if wait["code"] != 0:
        lapses.append("status --wait does not succeed")
    if code != HTTPStatus.ACCEPTED:
        lapses.append(f"sync is answered with {code}")
    conditions = (await on.status())["conditions"]
    if conditions["InSync"] != NUMBER:
        lapses.append(f"not all are told InSync: {conditions}")
    await on.end()
    first = [at for at in times if at is not None]
    return {
        "told": {"log": on.logged("bulk_unavailable", on.begun)},
        "wait": wait,
        "edit_seconds": None if applied is None else applied - edit_at,
        "still_seconds": min(first) - asked if first else None,
        "drift_seconds": max(first) - asked if len(first) == len(times) else None,
        "lapses": lapses,
    }


async def cold(on: Stage) -> Row:
    """Measure how soon a daemon that starts begins to work, and how soon all is in sync."""
    (started,) = on.running.events("listening")
    on.begun = datetime.fromisoformat(started["ts"]).timestamp()
    watching = asyncio.create_task(on.watch())
    await on.running.in_sync(NUMBER, GIVE_UP_SECONDS)
    settled = on.logged("all_in_sync", on.begun)
    await asyncio.sleep(max(0.0, FAULT_SECONDS - on.since()))
    await on.claims_of_commands()
    watching.cancel()
    reads = [row["received_at"] for row in on.api.live.records if row["op"] == "snapshot"]
    await on.end()
    return {
        "told": {"log": on.logged("bulk_unavailable", on.begun)},
        "still_seconds": min(reads) - on.begun,
        "drift_seconds": settled,
        "lapses": [f"an outage is told: {claim}" for claim in on.claims[:3]],
    }


KINDS: Mapping[str, Callable[[Stage], Awaitable[Row]]] = {
    "outage": outage,
    "gone": gone,
    "one": one,
    "calm": calm,
    "start": cold,
}


async def _equals(found: Awaitable[float], value: float) -> bool:
    return await found == value


def missed(row: Row) -> list[str]:
    """The targets that a row misses."""
    found = list(row["lapses"])
    if row["struck"] < 1:
        found.append("the fault never struck")
    if row["kind"] in ("outage", "one", "gone"):
        found += [
            f"{name} tells it after {_text(seconds)}"
            for name, seconds in row["told"].items()
            if name in _targets(row["kind"]) and (seconds is None or seconds > TOLD_SECONDS)
        ]
    for name in ("resumed_seconds", "reachable_again_seconds", "edit_seconds", "drift_seconds"):
        if name in row and row[name] is None and not (name == "edit_seconds" and row["kind"] == "one"):
            found.append(f"{name}: never")
    if "still_seconds" in row and (row["still_seconds"] is None or row["still_seconds"] > STILL_SECONDS):
        found.append(f"work stands still for {_text(row['still_seconds'])}")
    return found


def _targets(kind: str) -> Sequence[str]:
    """The outputs with a target. The log has no line of a request that may still succeed."""
    return [name for name in OUTPUTS if name != "log" or kind != "one"]


def _text(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


async def measure(case: Case, turns: Turns) -> Row:
    """Run one case. A case that breaks off is a row with what went wrong."""
    try:
        async with stage(case, turns) as on:
            found = await KINDS[case.kind](on)
            struck = on.struck
    except Exception as error:  # noqa: BLE001 - the other cases go on
        await turns.give_up()
        found, struck = {"told": {}, "lapses": [f"the case broke off: {error!r}"]}, 0
    row = {"case": case.name, "kind": case.kind, "struck": struck, **_rounded(found)}
    row["missed"] = missed(row)
    sys.stderr.write(f"{case.name}: {json.dumps(row)}\n")
    return row


def _rounded(found: Mapping[str, Any]) -> Row:
    return {
        name: _rounded(value)
        if isinstance(value, Mapping)
        else round(value, 1)
        if isinstance(value, float)
        else value
        for name, value in found.items()
    }


async def measure_all(names: Sequence[str]) -> list[Row]:
    """Run these cases at once."""
    turns = Turns(len(names))
    return list(await asyncio.gather(*(measure(CASES[name], turns) for name in names)))


def store(rows: Sequence[Row], file: Path) -> None:
    """Write the rows with commit and date, one a line."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    head = json.dumps({**stamp(), "allocations": NUMBER})[1:-1]
    file.write_text(f'{{{head}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the named cases. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all")
    names = parser.parse_args(arguments).cases or [*CASES]
    rows = asyncio.run(measure_all(names))
    if len(names) == len(CASES):
        store(rows, RESULTS)
    for row in rows:
        for text in row["missed"]:
            sys.stdout.write(f"missed: {row['case']}: {text}\n")
    return 1 if any(row["missed"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
