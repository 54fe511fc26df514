"""The simulated server: it holds the truth, applies updates in its own time, and writes the history.

The rules: an update replaces the whole object, as the API does. What was sent is applied or not, whether or
not its client still runs. An ignored field keeps its value, and the server sets `updated` itself.

Left out: how it responds to each request (`request_faults`).
"""

import asyncio
from collections.abc import Callable

from allocsync.model.cloud import Cloud, field_value
from allocsync.model.desired_state import Desired
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import hash_unmanaged_fields
from allocsync.planning.diff import merge
from tests.simulation.engine.history import Get, History, Post
from tests.simulation.engine.schedule import (
    FIELDS,
    UNDECLARED,
    Allocation,
    Operation,
    OtherWriter,
    OutageKind,
    Schedule,
    StrikeAfterAcceptance,
)
from tests.simulation.faults.read_cache import Kept, ReadCache
from tests.simulation.faults.request_faults import ACCEPTED, RequestFaults, UpdateResponse
from tests.simulation.oracles.change_limit import ChangeLimitOracle


def id_of(key: int) -> AllocationId:
    """The id of the allocation with this number."""
    return AllocationId(f"allocation-{key}")


def number_of(key: AllocationId) -> int:
    """The number of the allocation with this id."""
    return int(key.removeprefix("allocation-"))


def first_cloud(allocation: Allocation) -> Cloud:
    """The live object at the start of the run."""
    plain: Cloud = {
        "id": id_of(allocation.key),
        "user": "u",
        "project": "p",
        "note": "n",
        "status": {"cloud": "RUNNING"},
        "urls": {
            "base": {"status": "RUNNING", "url": "x"},
            "id": {"status": "RUNNING", "url": "y"},
            "vanity": {"status": "RUNNING", "url": "z"},
        },
    }
    return merge(Desired(id_of(allocation.key), allocation.live), plain)


class Server:
    """See the module. Times are those of the event loop. No fault has an effect after `faults_over_at`."""

    def __init__(self, schedule: Schedule, note: Callable[..., None]) -> None:
        self.allocations = {id_of(each.key): each for each in schedule.allocations}
        clouds = {key: first_cloud(each) for key, each in self.allocations.items()}
        change_limit = ChangeLimitOracle(schedule.max_changes_percent, schedule.canary)
        self.history = History(clouds, change_limit)
        self.request_faults = RequestFaults(schedule)
        self.faults_over_at = schedule.faults_end_at
        self.lists_hang = any(
            Operation.LIST in each.operations and each.kind is OutageKind.HANGS for each in schedule.outages
        )
        self.faults = 0
        self.fired: set[str] = set()  # kinds of interference that happened
        self._faults_end_at = schedule.faults_end_at
        self._cache = ReadCache(schedule.cache_seconds)
        self._strikes: list[StrikeAfterAcceptance] = []
        self._note = note
        self._gone: dict[AllocationId, Cloud] = {}
        self.other_side: Server | None = None

    def share_truth(self, other: "Server") -> None:
        """Be the same API as `other`, as another client sees it: what changes in one changes in both."""
        self.other_side, other.other_side = other, self

    def now(self) -> float:
        """Virtual time, in seconds."""
        return asyncio.get_running_loop().time()

    def current_cloud(self, key: AllocationId) -> Cloud | None:
        """What a read shows now; None if the allocation is gone."""
        cloud = self.history.truths[key].now.cloud
        if cloud is not None and self.allocations[key].has_moving_timestamp:
            return {**cloud, "updated": {"value": f"{self.now():.6f}"}}
        return cloud

    def serve(self, get: Get) -> Cloud | None:
        """Answer a read now, and note in it what is served; None if the allocation is gone."""
        now = self.now()
        kept = self._cache.find(get.key, now) if now < self._faults_end_at else None
        if kept is None:
            kept = Kept(now, self.history.order(), self.current_cloud(get.key))
            self._cache.keep(get.key, kept)
        else:
            self.fired.add("cache")
        get.served, get.age_seconds = kept.order, max(0.0, get.begun - kept.at)
        return kept.cloud

    def list_begun(self, ends_at: float) -> None:
        """A list was sent that ends at this time."""
        self.history.list_begins.append(self.now())
        if self.now() < self._faults_end_at:
            self.faults_over_at = max(self.faults_over_at, ends_at)

    def strike_after_acceptance(self, strike: StrikeAfterAcceptance) -> None:
        """Let another client write soon after the next update that the server accepts; several take turns."""
        self._strikes.append(strike)

    def update_accepted(self, post: Post) -> None:
        """The client has the answer that its update was accepted."""
        changed = sorted(post.changed)
        if not self._strikes or not changed or post.snapshot is None or self.now() >= self._faults_end_at:
            return
        strike, field = self._strikes.pop(0), changed[0]
        before = None if post.snapshot.cloud is None else field_value(post.snapshot.cloud, field)
        value = strike.value or str(before)
        self.fired.add("strike: third value" if strike.value else "strike: value from before")
        running = asyncio.get_running_loop()
        self.faults_over_at = max(self.faults_over_at, self.now() + strike.after_seconds)
        running.call_later(strike.after_seconds, self.write_field, post.key, field, value)

    def run_other_writer(self, writer: OtherWriter) -> None:
        """Another controller reads everything now and writes where something is not as it wants."""
        if self.now() >= self._faults_end_at:
            return
        for number, field, value in writer.wanted:
            cloud = self.history.truths[id_of(number)].now.cloud
            if cloud is not None and field_value(cloud, field) != value:
                self.fired.add("other writer")
                self.write_field(id_of(number), field, value)
        asyncio.get_running_loop().call_later(writer.every_seconds, self.run_other_writer, writer)

    def receive_update(self, post: Post, response: UpdateResponse) -> None:
        """An update was sent: apply it when the response says so."""
        running = asyncio.get_running_loop()
        allocation = self.allocations[post.key]
        if response.applied_seconds is not None:
            post.applies_at = self.now() + response.applied_seconds
            self.faults_over_at = max(self.faults_over_at, post.applies_at)
            if (
                allocation.pending
                and response.answer == ACCEPTED
                and response.applied_seconds > response.arrives_seconds
            ):
                running.call_at(self.now() + response.arrives_seconds, self._set_pending, post)
            running.call_at(post.applies_at, self._apply_update, post)
        if response.answer != ACCEPTED or response.applied_seconds != response.arrives_seconds:
            self.faults += 1
            self.faults_over_at = max(self.faults_over_at, self.now() + response.answered_seconds)

    def write_field(self, key: AllocationId, field: str, value: str) -> None:
        """Another client changes one field."""
        truth = self.history.truths[key]
        if truth.now.cloud is None:
            return
        truth.foreign.append((self.now(), field))
        cloud = merge(Desired(key, ((field, value),)), truth.now.cloud)
        self._set_truth(key, cloud, f"another client sets {field} to {value}")

    def remove_for(self, key: AllocationId, seconds: float) -> None:
        """The API answers 410 for this allocation, for so many seconds."""
        cloud = self.history.truths[key].now.cloud
        if cloud is None:
            return
        self._gone[key] = cloud
        self._set_truth(key, None, "it is gone")
        asyncio.get_running_loop().call_later(seconds, self._comes_back, key)

    def _comes_back(self, key: AllocationId) -> None:
        self._set_truth(key, {**self._gone.pop(key), "status": {"cloud": "RUNNING"}}, "it is back")

    def _set_truth(
        self, key: AllocationId, cloud: Cloud | None, cause: str, post: Post | None = None
    ) -> None:
        self.history.set_truth(key, cloud, cause, self.now(), post)
        self._note("server", key, cause)
        if self.other_side is not None:
            self.other_side.on_other_client(key, cloud, cause)

    def on_other_client(self, key: AllocationId, cloud: Cloud | None, cause: str) -> None:
        """Another client has changed the object. It interferes with fields that get an undesired value."""
        truth, desired = self.history.truths[key], self.history.desired(key)
        if truth.now.cloud is not None and cloud is not None:
            wanted = dict(desired.fields) if desired is not None else {}
            for name in (*FIELDS, *UNDECLARED):
                value = field_value(cloud, name)
                if field_value(truth.now.cloud, name) != value != wanted.get(name):
                    truth.foreign.append((self.now(), name))
        self.history.set_truth(key, cloud, f"another client: {cause}", self.now())

    def _set_pending(self, post: Post) -> None:
        cloud = self.history.truths[post.key].now.cloud
        if cloud is not None:
            self._set_truth(
                post.key, {**cloud, "status": {"cloud": "PENDING"}}, f"update {post.number} is being applied"
            )

    def _apply_update(self, post: Post) -> None:
        truth = self.history.truths[post.key].now.cloud
        if truth is None:
            self._note("server", post.key, f"update {post.number} is not applied: the allocation is gone")
            return
        ignored_field = self.allocations[post.key].ignored_field
        cloud: Cloud = {name: value for name, value in post.body.items() if name not in ("updated", "status")}
        cloud = {**cloud, "status": {"cloud": "RUNNING"}}
        if ignored_field:
            cloud = merge(Desired(post.key, ((ignored_field, _text(truth, ignored_field)),)), cloud)
        before = hash_unmanaged_fields({**truth, "status": {"cloud": "RUNNING"}}, post.fields)
        post.overwrote = "" if before == post.unmanaged_hash(cloud) else before
        late = " late" if post.answered is not None and post.answer == "unknown" else ""
        self._set_truth(post.key, cloud, f"update {post.number} is applied{late}", post)
        post.applied, post.applied_order = self.now(), self.history.truths[post.key].now.order


def _text(cloud: Cloud, field: str) -> str:
    value: object = cloud
    for part in field.split("."):
        value = value[part] if isinstance(value, dict) else ""
    return str(value)
