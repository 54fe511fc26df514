"""What really happened in a run: each request as server and client saw it, and each version of the truth.

The rule: nothing comes from the daemon's memory. Times are seconds of virtual time; `order` numbers tell what
came first within one instant.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from allocsync.model.cloud import Cloud, field_value
from allocsync.model.desired_state import Desired, Revision
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent, hash_unmanaged_fields
from allocsync.planning.diff import compare
from tests.simulation.oracles.change_limit import ChangeLimitOracle

NEVER = float("inf")


@dataclass(slots=True)
class Post:
    """One update that a process recorded, and usually sent.

    `applies_at` is when the server applies it, None if it never does; `applied` is when it did. `answer` is
    None until the client has one. `intent` is the sequence number of its row in the journal. `unknown_since`
    is when its outcome became unknown, None if it never was.
    """

    number: int
    process: int
    key: AllocationId
    fields: Mapping[str, str]
    body: Cloud
    snapshot: "Get | None"
    sent: float
    order: int
    applies_at: float | None = None
    applied: float | None = None
    applied_order: int | None = None
    overwrote: str = ""  # hash of the unmanaged fields that it replaced, if they differed
    answered: float | None = None
    answer: str | None = None  # accepted, rejected, not_sent, unknown
    window_seconds: float = 0.0  # how long an accepted update may take to show, at least
    terminal: bool = False
    served: bool = False  # answered by an API that works, even if with a rejection
    intent: int | None = None
    unknown_since: float | None = None
    settled: bool = False
    confirmed: bool = False  # settled by a read that shows it, or by a 410
    # What the journal says of an update that was recorded and never sent.
    changes: Mapping[str, str] | None = None
    recorded_unmanaged_hash: str = ""

    @property
    def changed(self) -> Mapping[str, str]:
        """The fields that it changes, compared with the snapshot that it was built on."""
        if self.changes is not None:
            return self.changes
        if self.snapshot is None or self.snapshot.cloud is None:
            return self.fields
        cloud = self.snapshot.cloud
        return {name: value for name, value in self.fields.items() if field_value(cloud, name) != value}

    @property
    def own_unmanaged_hash(self) -> str:
        """The hash of the unmanaged fields that it carries."""
        return self.recorded_unmanaged_hash or self.unmanaged_hash(self.body)

    def unmanaged_hash(self, cloud: Cloud) -> str:
        """The hash of the fields of `cloud` that this update does not declare."""
        return hash_unmanaged_fields(cloud, self.fields)


@dataclass(slots=True)
class Get:
    """One read. `cloud` is what was served, None if it failed; `gone` says that the answer was a 410.

    What was served was true `age_seconds` before the read began, if a cache answered.
    """

    process: int
    key: AllocationId
    begun: float
    order: int
    served: int | None = None  # the order number at which the truth was read
    answered: float | None = None
    cloud: Cloud | None = None
    gone: bool = False
    age_seconds: float = 0.0

    @property
    def evidence_at(self) -> float:
        """From when on an update is shown by this read if it was applied before."""
        return self.begun - self.age_seconds

    @property
    def ok(self) -> bool:
        """Whether the answer says how the allocation is."""
        return self.gone or self.cloud is not None


@dataclass(slots=True)
class Version:
    """The live object of one allocation from this time on; None if it is gone."""

    at: float
    order: int
    cloud: Cloud | None
    cause: str
    post: Post | None = None


@dataclass(slots=True)
class Truth:
    """The versions of one allocation's live object, and the requests for it."""

    versions: list[Version]
    gets: list[Get] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    edits: list[tuple[float, int]] = field(
        default_factory=list
    )  # when its declaration changed: time and order
    foreign: list[tuple[float, str]] = field(
        default_factory=list
    )  # when other clients wrote, and which field

    @property
    def now(self) -> Version:
        """The current version."""
        return self.versions[-1]

    def at(self, order: int) -> Version:
        """The version at this order number."""
        for version in reversed(self.versions):
            if version.order <= order:
                return version
        return self.versions[0]


class History:
    """The truths of all allocations, the active revision, and when processes ran."""

    def __init__(self, clouds: Mapping[AllocationId, Cloud], change_limit: ChangeLimitOracle) -> None:
        self.change_limit = change_limit
        self._orders = count(1)
        self._posts = count(1)
        self.truths = {key: Truth([Version(0.0, 0, cloud, "first")]) for key, cloud in clouds.items()}
        self._process = self._activated_order = 0
        self.active: Revision | None = None  # the revision that the running process was given
        self.gap_at = -1.0  # when a journal was lost last; negative if never
        self.requests = 0  # reads and updates
        self.failures = 0  # reads and updates that were answered and did not succeed
        self.list_begins: list[float] = []
        self.list_ends: list[tuple[float, bool]] = []  # when each list ended, and whether it succeeded
        self.resync_requests: list[float] = []  # when a resync was requested
        self.openings: list[tuple[float, AllocationId | None]] = []  # when a pause of one or all ended
        # When a person asked for another try of one allocation or of all: time, order, scope.
        self.retries: list[tuple[float, int, AllocationId | None]] = []
        self.processes: list[tuple[float, float]] = []  # when each process started and ended

    def order(self) -> int:
        """The next order number."""
        return next(self._orders)

    def process_started(self, process: int, now: float) -> None:
        """A process starts."""
        if self.are_canaries_verified():
            self.change_limit.canaries_verified()
        self._process = process
        self.processes.append((now, NEVER))

    def process_ended(self, now: float) -> None:
        """Record that the last process has ended; do nothing if that is recorded already."""
        if self.processes and self.processes[-1][1] == NEVER:
            self.processes[-1] = (self.processes[-1][0], now)

    def add_retry(self, scope: AllocationId | None, now: float) -> None:
        """A person asks for another try of one allocation, or of all."""
        self.retries.append((now, self.order(), scope))

    def new_tries(self, key: AllocationId) -> Iterator[int]:
        """Yield the order number of each edit of an allocation, and of each retry that covers it."""
        yield from (order for _, order in self.truths[key].edits)
        yield from (order for _, order, scope in self.retries if scope in {None, key})

    def add_read(self, process: int, key: AllocationId, now: float) -> Get:
        """A read is sent."""
        get = Get(process, key, now, self.order())
        self.truths[key].gets.append(get)
        self.requests += 1
        return get

    def add_update(
        self, process: int, key: AllocationId, body: Cloud, fields: Mapping[str, str], now: float
    ) -> Post:
        """An update is sent."""
        truth = self.truths[key]
        snapshot = next(
            (get for get in reversed(truth.gets) if get.answered is not None and get.cloud is not None), None
        )
        post = Post(next(self._posts), process, key, fields, body, snapshot, now, self.order())
        truth.posts.append(post)
        self.requests += 1
        return post

    def add_unsent_update(self, process: int, left: OpenIntent, now: float) -> None:
        """A process recorded this update and ended before it sent it."""
        fields = dict(left.record.fields)
        post = Post(next(self._posts), process, left.allocation, fields, {}, None, now, self.order())
        post.intent, post.answer, post.recorded_unmanaged_hash = (
            left.sequence,
            "never left",
            left.record.unmanaged_hash,
        )
        post.changes = {change.field: change.desired for change in left.record.changes}
        self.truths[left.allocation].posts.append(post)

    def set_truth(
        self, key: AllocationId, cloud: Cloud | None, cause: str, now: float, post: Post | None = None
    ) -> None:
        """The live object of an allocation changes."""
        self.truths[key].versions.append(Version(now, self.order(), cloud, cause, post))

    def desired(self, key: AllocationId) -> Desired | None:
        """What is active of an allocation in the running process."""
        if self.active is None:
            return None
        return self.active.allocations.get(key) or self.change_limit.still_active.get(key)

    def activate(
        self, revision: Revision, now: float, *, approved: bool
    ) -> Iterator[tuple[AllocationId, Desired | None]]:
        """The running process gets this revision. Yield each changed allocation with its former state."""
        before = {key: self.desired(key) for key in self.truths}
        are_canaries_verified = self.are_canaries_verified()
        # With verified canaries, what was held may have been freed and read already.
        held = frozenset() if are_canaries_verified else self.change_limit.held
        self.change_limit.review(
            revision.allocations, now, approved=approved, are_canaries_verified=are_canaries_verified
        )
        if self.active is None or revision.id != self.active.id:
            self._activated_order = self.order()
        self.active = revision
        for key, truth in self.truths.items():
            freed = key in held - self.change_limit.held and self._differs(key)
            if self.desired(key) != before[key] or freed:
                truth.edits.append((now, self.order()))
                yield key, before[key]

    def are_canaries_verified(self) -> bool:
        """Whether reads that began after the process got its revision have shown all canaries as declared.

        These are the canaries by one of the possible baselines; False if there are none.
        """
        return any(all(self._is_shown(key) for key in keys) for keys in self.change_limit.canaries)

    def _is_shown(self, key: AllocationId) -> bool:
        desired = self.desired(key)
        if desired is None:
            return False
        return any(
            get.cloud is not None and get.answered is not None and not compare(desired, get.cloud)
            for get in self.truths[key].gets
            if get.order > self._activated_order and get.process == self._process
        )

    def _differs(self, key: AllocationId) -> bool:
        """Whether the latest read showed a difference and no read is under way, so that an update follows."""
        desired, gets = self.desired(key), self.truths[key].gets
        if desired is None or not gets or gets[-1].answered is None:
            return False
        shown = next((get.cloud for get in reversed(gets) if get.ok), None)
        return shown is not None and bool(compare(desired, shown))

    @property
    def declared_count(self) -> int:
        """The number of allocations in the running process's revision."""
        return 0 if self.active is None else len(self.active.allocations)
