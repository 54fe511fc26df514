"""What happens while each golden journal is recorded: one function for each, named like its file.

The rule: a scenario says what the files declare, how the API responds and what other writers change. Every
stored value follows from that through the product's own code. Ids and revisions are part of the recorded
journals and do not change.

Left out: the values that must be restored (the JSON file of each journal).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from allocsync.journal.database import NAME
from allocsync.model.api_answers import Accepted, Failed, OutcomeUnknown, Rejected, RejectionClass
from allocsync.model.cloud import Json, NumberLiteral
from allocsync.model.desired_state import Desired, Mode, Revision
from allocsync.model.ids import AllocationId
from tests.integration.golden_journals.process import WALL_BEGINS, World, process

DAY_SECONDS = 86_400.0
TIMEOUT = OutcomeUnknown("504 Gateway Timeout", 504)
LATER = Accepted(202, None)  # accepted and not applied yet
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


def _declares(revision: str, *wanted: Desired) -> Revision:
    return Revision(revision, {each.id: each for each in wanted})


async def open_updates(world: World) -> None:
    """The end of the process cuts off one update; another ends with an unknown outcome."""
    for name in ("cut-off", "timed-out"):
        world.has(_id(name), region="old", version="1")
    world.update_seconds["cut-off"] = 1000.0
    world.answers["timed-out"] = deque([TIMEOUT])
    wanted = [_wanted(name, region="new", version="2") for name in ("cut-off", "timed-out")]
    async with process(world) as (controller, _):
        controller.activate(_declares("generation-of-open-updates", *wanted))
        await asyncio.sleep(3)


async def open_update_after_a_late_application(world: World) -> None:
    """While an update is open, an older one is applied and another writer changes an unmanaged field."""
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
    """Late writes: given up, given up and reported as applied, given up beside a foreign change, accepted."""
    names = ("given-up", "told", "foreign", "accepted")
    for name in names:
        world.has(_id(name), region="old", version="1")
    world.answers = {
        "given-up": deque([_timeout(240.0)]),
        "told": deque([_timeout(8.0), _timeout(14.0)]),
        "foreign": deque(
            [_timeout(22.0), Rejected(503, "503", RejectionClass.NOT_NOW, retry_after_seconds=240.0)]
        ),
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
    """An update is accepted and no read shows it yet."""
    world.has(_id("awaited"), region="old", version="1")
    world.answers["awaited"] = deque([LATER])
    async with process(world) as (controller, _):
        controller.activate(_declares("accepted", _wanted("awaited", region="new", version="2")))
        await asyncio.sleep(20)


async def ignored_fields(world: World) -> None:
    """Two accepted fields are ignored; the live value of one changes twice afterwards."""
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
    """Another writer keeps changing a field back: one differs now, one was slowed twice and is equal."""
    in_conflict, equal = _id("fought"), _id("calm")
    for key in (in_conflict, equal):
        world.has(key, region="wanted")
    async with process(world) as (controller, _):
        controller.activate(
            _declares("contested", *(_wanted(key, region="wanted") for key in (in_conflict, equal)))
        )
        await asyncio.sleep(5)
        for _ in range(3):
            world.changes(equal, region="theirs")
            controller.sync()
            await asyncio.sleep(5)
        await asyncio.sleep(300)
        for _ in range(3):
            world.changes(in_conflict, region="theirs")
            controller.sync()
            await asyncio.sleep(5)
        world.changes(equal, region="theirs")
        controller.sync()
        await asyncio.sleep(5)
        world.changes(equal, region="wanted")
        controller.sync()
        await asyncio.sleep(5)


async def backoff_and_retry_after(world: World) -> None:
    """Updates fail with and without Retry-After; a read fails with it."""
    for name in ("unavailable", "too-many", "unreadable"):
        world.has(_id(name), region="old")
    world.answers = {
        "unavailable": deque([Rejected(503, "503: nicht verfügbar 🚧", RejectionClass.NOT_NOW)] * 2),
        "too-many": deque([Rejected(429, "429", RejectionClass.NOT_NOW, retry_after_seconds=120.0)]),
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
    """The API rejects a body with a terminal status."""
    world.has(_id("rejected"), region="old", version=NumberLiteral("2.0"))
    world.answers["rejected"] = deque([Rejected(422, "422 region is unknown", RejectionClass.BODY)])
    async with process(world) as (controller, _):
        controller.activate(_declares("rejected", _wanted("rejected", region="nowhere", version="2.0")))
        await asyncio.sleep(10)


async def settle_time(world: World) -> None:
    """A late application teaches the lag; two slow updates end with an unknown outcome."""
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
    """Updates in two minutes count towards the write quota."""
    names = ("quota-a", "quota-b", "quota-c")
    for name in names:
        world.has(_id(name), region="old")
    async with process(world) as (controller, _):
        for number, seconds in ((2, 100), (3, 20)):
            wanted = [_wanted(name, region="new") for name in names[:number]]
            controller.activate(_declares(f"first {number}", *wanted), approved=True)
            await asyncio.sleep(seconds)


async def baseline(world: World) -> None:
    """The baseline has each mode, several fields, and an allocation without fields."""
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
    """An edit is active and not the baseline yet: changed, of another mode, new, and not declared."""
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
    """Everything is paused, and one allocation for longer."""
    world.has(_id("paused"), region="old")
    async with process(world) as (controller, _):
        controller.activate(_declares("paused", _wanted("paused", region="old")))
        await asyncio.sleep(5)
        controller.pauses.begin(None, seconds=3600.0, reason="Wartung, 维护", owner="ops")
        controller.pauses.begin("paused", seconds=7200.0, reason="a migration", owner="Łukasz")
        await asyncio.sleep(5)


async def gap_after_damage(world: World) -> None:
    """A damaged journal is set aside between two processes; nothing is sent for the settle time."""
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
    """The second process starts after 91 days and deletes what the first one wrote."""
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
    """More updates than the start checks, which reads the last rows only."""
    names = [f"{number:02}" for number in range(20)]
    for name in names:
        world.has(_id(name), region="old")
    async with process(world) as (controller, _):
        for edit in range(27):
            wanted = [_wanted(name, region=f"r{edit}") for name in names]
            controller.activate(_declares(f"edit {edit}", *wanted), approved=True)
            await asyncio.sleep(5)


async def odd_live_values(world: World) -> None:
    """Number literals, nested objects and non-ASCII text, wherever live values are stored."""
    names = ("awaited", "refused", "rejected", "given-up")
    for name in (*names, "open"):
        world.has(_id(name), region=NumberLiteral("1e400"), version=ODD, user=NumberLiteral("-0"))
    world.answers = {
        "refused": deque([LATER]),
        "rejected": deque([Rejected(422, "422", RejectionClass.BODY)]),
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
