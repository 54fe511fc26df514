"""What happens while each golden journal is recorded: one function a journal, named like its file.

The rule: a scenario says what the files declare, what the API answers and what others change; every stored
value follows from that through the product's own code.

Left out: the values that must be restored (the JSON file beside each journal).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from allocsync.journal.database import NAME
from allocsync.model.api_answers import Accepted, Failed, OutcomeUnknown, Rejected
from allocsync.model.cloud import Json, NumberLiteral
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from tests.integration.golden_journals.process import WALL_BEGINS, World, process

DAY_SECONDS = 86_400.0
TIMEOUT = OutcomeUnknown("504 Gateway Timeout", 504)
LATER = Accepted(202, None)  # accepted, and not carried out yet
ODD: Json = {
    "b": [NumberLiteral("1.10"), NumberLiteral("-0"), None, True, "1.10"],
    "a": {"ü": NumberLiteral("1")},
}


def _timeout(retry_after_seconds: float) -> OutcomeUnknown:
    return OutcomeUnknown(TIMEOUT.reason, TIMEOUT.status, retry_after_seconds)


def _id(name: str) -> AllocationId:
    return AllocationId(name)


def _wanted(name: str, mode: Mode = Mode.ENFORCE, **fields: str) -> Desired:
    return Desired(_id(name), tuple(fields.items()), mode)


def _declares(digest: str, *wanted: Desired) -> Revision:
    return Revision(digest, {each.id: each for each in wanted})


async def open_updates(world: World) -> None:
    """One update is cut off by the end of the process, of another nobody knows how it ended."""
    for name in ("cut-off", "timed-out"):
        world.has(_id(name), region="old", version="1")
    world.update_seconds["cut-off"] = 1000.0
    world.answers["timed-out"] = deque([TIMEOUT])
    wanted = [_wanted(name, region="new", version="2") for name in ("cut-off", "timed-out")]
    async with process(world) as (controller, _):
        controller.activate(_declares("generation-of-open-updates", *wanted))
        await asyncio.sleep(3)


async def open_update_after_a_late_application(world: World) -> None:
    """While an update is open the one before it lands, and somebody else changes an undeclared field."""
    key = _id("landed")
    world.has(key, region="old")
    world.answers[key] = deque([TIMEOUT, TIMEOUT])
    async with process(world) as (controller, _):
        controller.activate(_declares("first", _wanted(key, region="first")))
        await asyncio.sleep(9)
        controller.activate(_declares("second", _wanted(key, region="second")))
        await asyncio.sleep(9)
        world.changes(key, region="first", user="somebody else")
        await asyncio.sleep(6)


async def late_writes(world: World) -> None:
    """Given up, given up and told as landed, given up beside a foreign change; and one that was accepted."""
    names = ("given-up", "told", "foreign", "accepted")
    for name in names:
        world.has(_id(name), region="old", version="1")
    world.answers = {
        "given-up": deque([_timeout(240.0)]),
        "told": deque([_timeout(8.0), _timeout(14.0)]),
        "foreign": deque([_timeout(22.0), Rejected(503, "503", terminal=False, retry_after_seconds=240.0)]),
        "accepted": deque([LATER]),
    }
    async with process(world) as (controller, _):
        controller.activate(_declares("late", *(_wanted(name, region="new", version="1") for name in names)))
        await asyncio.sleep(22)
        world.changes(_id("foreign"), user="somebody else")
        await asyncio.sleep(2)
        world.changes(_id("told"), region="new")
        await asyncio.sleep(6)


async def accepted_field(world: World) -> None:
    """An update is accepted, and no read shows it yet."""
    world.has(_id("awaited"), region="old", version="1")
    world.answers["awaited"] = deque([LATER])
    async with process(world) as (controller, _):
        controller.activate(_declares("accepted", _wanted("awaited", region="new", version="2")))
        await asyncio.sleep(20)


async def ignored_fields(world: World) -> None:
    """Accepted and not honoured; the live value of one of them moves twice afterwards."""
    for name in ("still", "moving"):
        world.has(_id(name), region="old")
        world.answers[name] = deque([LATER])
    async with process(world) as (controller, _):
        controller.activate(
            _declares("refused", *(_wanted(name, region="new") for name in ("still", "moving")))
        )
        await asyncio.sleep(70)
        for region in ("elsewhere", "yet elsewhere"):
            world.changes(_id("moving"), region=region)
            controller.sync()
            await asyncio.sleep(5)


async def conflicts(world: World) -> None:
    """Somebody changes a field back again and again: one differs now, one was slowed twice and is right."""
    fought, calm = _id("fought"), _id("calm")
    for key in (fought, calm):
        world.has(key, region="wanted")
    async with process(world) as (controller, _):
        controller.activate(
            _declares("contested", *(_wanted(key, region="wanted") for key in (fought, calm)))
        )
        await asyncio.sleep(5)
        for _ in range(3):
            world.changes(calm, region="theirs")
            controller.sync()
            await asyncio.sleep(5)
        await asyncio.sleep(300)
        for _ in range(3):
            world.changes(fought, region="theirs")
            controller.sync()
            await asyncio.sleep(5)
        world.changes(calm, region="theirs")
        controller.sync()
        await asyncio.sleep(5)
        world.changes(calm, region="wanted")
        controller.sync()
        await asyncio.sleep(5)


async def backoff_and_retry_after(world: World) -> None:
    """Updates fail, with and without a wish of the server; so does a read."""
    for name in ("unavailable", "too-many", "unreadable"):
        world.has(_id(name), region="old")
    world.answers = {
        "unavailable": deque([Rejected(503, "503: nicht verfügbar 🚧", terminal=False)] * 2),
        "too-many": deque([Rejected(429, "429", terminal=False, retry_after_seconds=120.0)]),
    }
    failed = Failed("503 Service Unavailable", 503, retry_after_seconds=90.0)
    world.api.on_snapshot = lambda key: failed if key == "unreadable" else None
    async with process(world) as (controller, _):
        controller.activate(_declares("one", _wanted("unavailable", region="new")))
        await asyncio.sleep(11)
        names = ("unavailable", "too-many", "unreadable")
        controller.activate(_declares("all", *(_wanted(name, region="new") for name in names)))
        await asyncio.sleep(4)


async def rejected_changes(world: World) -> None:
    """The API refuses a body for good."""
    world.has(_id("rejected"), region="old", version=NumberLiteral("2.0"))
    world.answers["rejected"] = deque([Rejected(422, "422 region is unknown", terminal=True)])
    async with process(world) as (controller, _):
        controller.activate(_declares("rejected", _wanted("rejected", region="nowhere", version="2.0")))
        await asyncio.sleep(10)


async def settle_time(world: World) -> None:
    """A late landing teaches the lag; two updates took long until nobody knew how they ended."""
    for name, seconds in (("late", 42.0), ("slow", 240.0)):
        world.has(_id(name), region="old")
        world.answers[name] = deque([_timeout(seconds)])
    world.update_seconds = {"late": 30.0, "slow": 12.0}
    async with process(world) as (controller, _):
        controller.activate(_declares("late", _wanted("late", region="new")))
        await asyncio.sleep(70)
        world.changes(_id("late"), region="new")
        await asyncio.sleep(5)
        controller.activate(_declares("both", _wanted("late", region="new"), _wanted("slow", region="new")))
        await asyncio.sleep(20)


async def write_quota(world: World) -> None:
    """Updates in two different minutes count for the hour."""
    names = ("quota-a", "quota-b", "quota-c")
    for name in names:
        world.has(_id(name), region="old")
    async with process(world) as (controller, _):
        for number, seconds in ((2, 100), (3, 20)):
            wanted = [_wanted(name, region="new") for name in names[:number]]
            controller.activate(_declares(f"first {number}", *wanted), approved=True)
            await asyncio.sleep(seconds)


async def baseline(world: World) -> None:
    """What new files are compared with: each mode, several fields, and an allocation that declares none."""
    wanted = (
        _wanted("enforced", region="Zürich", version="北京 🚀"),
        _wanted("observed", Mode.OBSERVE, user="Łukasz", project="p"),
        _wanted("suspended", Mode.SUSPEND, region="eu"),
        _wanted("bare"),
    )
    for each in wanted:
        world.has(each.id, **dict(each.fields))
    async with process(world) as (controller, _):
        controller.activate(_declares("baseline", *wanted))
        await asyncio.sleep(5)


async def in_force_beside_the_baseline(world: World) -> None:
    """An edit is in force and not the baseline yet: changed, of another mode, new, and not declared."""
    before = [_wanted(name, region="before") for name in ("edited", "mode", "removed", "same")]
    for each in (*before, _wanted("new")):
        world.has(each.id, region="before")
    after = (
        _wanted("edited", region="after"),
        _wanted("mode", Mode.OBSERVE, region="before"),
        _wanted("same", region="before"),
        _wanted("new", region="before", version="1"),
    )
    async with process(world) as (controller, _):
        controller.activate(_declares("before", *before))
        await asyncio.sleep(5)
        controller.activate(_declares("after", *after))
        await asyncio.sleep(5)


async def pauses(world: World) -> None:
    """Somebody pauses everything, and one allocation for longer."""
    world.has(_id("paused"), region="old")
    async with process(world) as (controller, _):
        controller.activate(_declares("paused", _wanted("paused", region="old")))
        await asyncio.sleep(5)
        controller.pauses.begin(None, seconds=3600.0, reason="Wartung, 维护", owner="ops")
        controller.pauses.begin("paused", seconds=7200.0, reason="a migration", owner="Łukasz")
        await asyncio.sleep(5)


async def gap_after_damage(world: World) -> None:
    """A journal is damaged between two processes: it is set aside, and nothing is sent for a while."""
    world.has(_id("waiting"), region="old")
    wanted = _declares("wanted", _wanted("waiting", region="new"))
    async with process(world) as (controller, _):
        controller.activate(_declares("before", _wanted("waiting", region="old")))
        await asyncio.sleep(5)
    path = world.directory / NAME
    path.write_bytes(b"damaged" + path.read_bytes()[7:])
    async with process(world) as (controller, _):
        controller.activate(wanted)
        await asyncio.sleep(5)


async def pruned(world: World) -> None:
    """Ninety-one days lie between two processes: the second one cuts off what the first one has written."""
    names = ("old-a", "old-b")
    for name in names:
        world.has(_id(name), region="old")
    world.wall_begins = WALL_BEGINS - 91 * DAY_SECONDS
    async with process(world) as (controller, _):
        controller.activate(_declares("old", *(_wanted(name, region="new") for name in names)))
        await asyncio.sleep(5)
    world.wall_begins = WALL_BEGINS
    async with process(world) as (controller, journal):
        await journal.enforce_retention()
        wanted = (_wanted("old-a", region="newer"), _wanted("old-b", region="new"))
        controller.activate(_declares("new", *wanted), approved=True)
        await asyncio.sleep(5)


async def more_than_a_thousand_rows(world: World) -> None:
    """So many updates that only the last rows are checked at the start."""
    names = [f"{number:02}" for number in range(20)]
    for name in names:
        world.has(_id(name), region="old")
    async with process(world) as (controller, _):
        for edit in range(27):
            wanted = [_wanted(name, region=f"r{edit}") for name in names]
            controller.activate(_declares(f"edit {edit}", *wanted), approved=True)
            await asyncio.sleep(5)


async def odd_live_values(world: World) -> None:
    """Number literals, nested objects and any script as live values, wherever live values are stored."""
    names = ("awaited", "refused", "rejected", "given-up")
    for name in (*names, "open"):
        world.has(_id(name), region=NumberLiteral("1e400"), version=ODD, user=NumberLiteral("-0"))
    world.answers = {
        "refused": deque([LATER]),
        "rejected": deque([Rejected(422, "422", terminal=True)]),
        "given-up": deque([_timeout(240.0)]),
    }
    wanted = [_wanted(name, user="Łukasz 😀", region="Zürich", version="北京") for name in (*names, "open")]
    first, last = wanted[1:4], (wanted[0], wanted[4])
    async with process(world) as (controller, _):
        controller.activate(_declares("first", *first))
        await asyncio.sleep(68)
        world.answers["awaited"] = deque([LATER])
        world.update_seconds["open"] = 1000.0
        controller.activate(_declares("all", *first, *last))
        await asyncio.sleep(3)


Scenario = Callable[[World], Awaitable[None]]
SCENARIOS: Mapping[str, Scenario] = {
    each.__name__: each
    for each in (
        *(open_updates, open_update_after_a_late_application, late_writes, accepted_field, ignored_fields),
        *(conflicts, backoff_and_retry_after, rejected_changes, settle_time, write_quota),
        *(baseline, in_force_beside_the_baseline, pauses, gap_after_damage, pruned),
        *(more_than_a_thousand_rows, odd_live_values),
    )
}
