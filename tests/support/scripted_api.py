"""An API that answers as a test scripts it, and a controller that runs with it.

Time is virtual, so hours pass in milliseconds. Left out: real servers and sockets (`tests/integration/api`).
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self, TypeVar

from allocsync.errors import BulkUnavailable
from allocsync.model.api_answers import Accepted, Live, Missing, Snapshot, UpdateAnswer
from allocsync.model.cloud import Cloud
from allocsync.model.condition import Condition
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OUTCOMES, IntentRecord, Restored
from allocsync.model.times import Monotonic, WallTime, to_wall_time
from allocsync.planning.change_limit import NO_LIMIT, ChangeLimit
from allocsync.reconcile.controller import Controller
from allocsync.reconcile.events import Event, Observer, emit_to_all
from allocsync.reconcile.operation import Operation
from allocsync.reconcile.parameters import Parameters
from allocsync.reconcile.ports import Api
from allocsync.reconcile.resync import BulkPolicy
from tests.support.scripted_allocation import cloud

KEYS = tuple(AllocationId(f"{number:04}") for number in range(40))

WALL_OFFSET_SECONDS = 1e9  # of the wall clock to the virtual time

E = TypeVar("E", bound=Event)


class VirtualClock:
    """The virtual time of the event loop, and random numbers from a fixed seed."""

    def __init__(self) -> None:
        self._chance = random.Random(1)

    def now(self) -> Monotonic:
        return Monotonic(asyncio.get_running_loop().time())

    def wall(self) -> WallTime:
        return to_wall_time(self.now(), WALL_OFFSET_SECONDS)

    def uniform(self, low: float, high: float) -> float:
        return self._chance.uniform(low, high)


class CreepingClock(VirtualClock):
    """Moves on a little from one reading to the next, as a real clock does."""

    def __init__(self) -> None:
        super().__init__()
        self._read = 0

    def now(self) -> Monotonic:
        self._read += 1
        return super().now() + 1e-7 * self._read


class ScriptedApi:
    """Answers from `truth`, the state on the server; `on_update` and `on_snapshot` may replace an answer.

    An update whose answer is replaced is not applied, unless `on_update` changes `truth` itself.
    """

    def __init__(self, *, bulk: bool = True, keys: tuple[AllocationId, ...] = KEYS) -> None:
        self.truth: dict[str, Cloud] = {key: {**cloud(region="live"), "id": key} for key in keys}
        self.bulk = bulk
        self.lists = 0
        self.bulk_error: BulkUnavailable | None = None
        self.on_list: Callable[[Cloud], Cloud] = lambda row: row
        self.reads: list[tuple[float, str]] = []
        self.posts: list[tuple[float, str]] = []
        self.under_way: set[str] = set()
        self.max_in_flight = 0
        self.seconds = 0.01
        self.list_seconds: Callable[[], float] = lambda: self.seconds
        self.read_seconds: Callable[[str], float] = lambda _key: self.seconds
        self.post_seconds: Callable[[str], float] = lambda _key: self.seconds
        self.on_update: Callable[[str, Cloud], UpdateAnswer | None] = lambda _key, _body: None
        self.on_snapshot: Callable[[str], Snapshot | None] = lambda _key: None

    async def _take_time(self, key: str, seconds: Callable[[str], float]) -> None:
        assert key not in self.under_way, "two requests for one allocation at once"
        self.under_way.add(key)
        self.max_in_flight = max(self.max_in_flight, len(self.under_way))
        try:
            await asyncio.sleep(seconds(key))
        finally:
            self.under_way.discard(key)

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        self.reads.append((asyncio.get_running_loop().time(), allocation_id))
        await self._take_time(allocation_id, self.read_seconds)
        found = self.truth.get(allocation_id)
        return self.on_snapshot(allocation_id) or (Live(found) if found else Missing())

    async def update(self, allocation_id: AllocationId, body: Cloud) -> UpdateAnswer:
        self.posts.append((asyncio.get_running_loop().time(), allocation_id))
        await self._take_time(allocation_id, self.post_seconds)
        answer = self.on_update(allocation_id, body)
        if answer is None:
            self.truth[allocation_id] = body
        return answer or Accepted(200, body)

    async def list(self) -> AsyncIterator[Live]:
        self.lists += 1
        await asyncio.sleep(self.list_seconds())
        if self.bulk_error is not None:
            raise self.bulk_error
        if not self.bulk:
            raise BulkUnavailable("404 Route not found", supported=False)
        for row in list(self.truth.values()):
            yield Live(self.on_list(row))


class ListJournal:
    """A journal in memory; `open` has the intents without an outcome."""

    commit_seconds = 0.0

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.outcomes: list[tuple[int, str]] = []
        self.memories: dict[str, object] = {}
        self._sequence = 0

    async def intent(self, allocation: AllocationId, record: IntentRecord) -> int:
        assert record.changes
        assert allocation not in self.open, "two open intents for one allocation"
        self._sequence += 1
        self.open[allocation] = self._sequence
        return self._sequence

    def outcome(self, allocation: AllocationId, intent: int, outcome: str, reason: str) -> None:
        assert outcome in OUTCOMES
        assert reason
        self.outcomes.append((intent, outcome))
        if self.open.get(allocation) == intent:
            del self.open[allocation]

    def remember(self, key: str, value: object | None) -> None:
        if value is None:
            del self.memories[key]
        else:
            self.memories[key] = json.loads(json.dumps(value))


def revision(region: str = "wanted", keys: tuple[AllocationId, ...] = KEYS, **more: Any) -> Revision:  # noqa: ANN401 - fields of a revision
    wanted = {key: Desired(key, (("region", region),)) for key in keys}
    return Revision(f"{region}-{len(keys)}", wanted, **more)


class Run:
    """A controller that runs until the context ends, and the events it emitted.

    `before` is an earlier run; this one starts from the checkpoints in its journal, not from its intents.
    """

    def __init__(
        self,
        api: Api,
        *,
        bulk: BulkPolicy = BulkPolicy.AUTO,
        limits: Mapping[Operation, int] | None = None,
        backoff: Callable[[int, float | None], float] | None = None,
        rejection_backoff: Callable[[int, float | None], float] | None = None,
        change_limit: ChangeLimit = NO_LIMIT,
        rules: Parameters = Parameters(),  # noqa: B008 - a value
        before: "Run | None" = None,
        observer: Observer | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self.emitted: list[Event] = []
        self.journal = ListJournal()
        if before is not None:
            self.journal.memories = dict(before.journal.memories)
        self.controller = Controller(
            api=api,
            clock=clock or VirtualClock(),
            journal=self.journal,
            observer=emit_to_all([self.emitted.append, *([observer] if observer else [])]),
            rules=rules,
            limits=limits or dict.fromkeys(Operation, 8),
            backoff=backoff or (lambda failures, after: max(float(failures), after or 0.0)),
            rejection_backoff=rejection_backoff,
            bulk=bulk,
            change_limit=change_limit,
            restored=Restored(memories=self.journal.memories),
        )

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.controller.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.controller.stop()
        await self._running
        assert self.controller.status().stalled is None

    def events(self, kind: type[E]) -> list[E]:
        return [event for event in self.emitted if isinstance(event, kind)]

    def count(self, condition: Condition) -> int:
        return self.controller.status().conditions[condition]
