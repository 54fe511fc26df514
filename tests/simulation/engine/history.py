"""What truly happened in a run: each request as server and client saw it, and every state of the truth.

Nothing of it comes from the daemon's memory. `order` numbers say what came before what within one instant.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from allocsync.model.cloud import Cloud, leaf
from allocsync.model.desired_state import Desired, Generation
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import OpenIntent, undeclared_hash
from allocsync.planning.diff import compare
from tests.simulation.oracles.change_limit import Rail

NEVER = float("inf")


@dataclass(slots=True)
class Post:
    """One update. `answer` is None while none came; `lands_at` is when it is carried out, if ever.

    `intent` is its row in the journal. `open` means that the client does not know how it ended; since when
    it is `unknown_since`.
    """

    number: int
    life: int
    key: AllocationId
    leaves: Mapping[str, str]
    body: Cloud
    snapshot: "Get | None"
    sent: float
    order: int
    lands_at: float | None = None
    applied: float | None = None
    applied_order: int | None = None
    overwrote: str = ""  # the undeclared part of the truth that its landing replaced, if another
    answered: float | None = None
    answer: str | None = None  # accepted, rejected, not_sent, unknown
    terminal: bool = False
    served: bool = False  # answered by an API that works, whatever it thinks of this one
    intent: int | None = None
    unknown_since: float | None = None
    settled: bool = False
    evident: bool = False  # settled by a read that shows it, or a 410: no wait could be too short for that
    # Of one that never left: what its record says.
    changes: Mapping[str, str] | None = None
    undeclared: str = ""

    @property
    def changed(self) -> Mapping[str, str]:
        """The leaves that it changes, going by the snapshot that it was built on."""
        if self.changes is not None:
            return self.changes
        if self.snapshot is None or self.snapshot.cloud is None:
            return self.leaves
        cloud = self.snapshot.cloud
        return {name: value for name, value in self.leaves.items() if leaf(cloud, name) != value}

    @property
    def own_rest(self) -> str:
        """The hash of what it carries and does not declare."""
        return self.undeclared or self.rest(self.body)

    def rest(self, cloud: Cloud) -> str:
        """The hash of what this update does not declare."""
        return undeclared_hash(cloud, self.leaves)


@dataclass(slots=True)
class Get:
    """One read. `cloud` is what was served, None for a failure; `gone` for a 410."""

    life: int
    key: AllocationId
    begun: float
    order: int
    served: int | None = None  # the order at which the truth was read
    answered: float | None = None
    cloud: Cloud | None = None
    gone: bool = False

    @property
    def ok(self) -> bool:
        """Whether it was answered as it should be."""
        return self.gone or self.cloud is not None


@dataclass(slots=True)
class Version:
    """The truth about one allocation from this moment on; None: it is gone."""

    at: float
    order: int
    cloud: Cloud | None
    cause: str
    post: Post | None = None


@dataclass(slots=True)
class Truth:
    """One allocation."""

    versions: list[Version]
    gets: list[Get] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    edits: list[tuple[float, int]] = field(default_factory=list)  # when what is declared of it changed
    foreign: list[tuple[float, str]] = field(default_factory=list)  # when others wrote, and which field

    @property
    def now(self) -> Version:
        """As it is."""
        return self.versions[-1]

    def at(self, order: int) -> Version:
        """As it was."""
        for version in reversed(self.versions):
            if version.order <= order:
                return version
        return self.versions[0]


class History:
    """All of it, and what the files say."""

    def __init__(self, clouds: Mapping[AllocationId, Cloud], rail: Rail) -> None:
        self.rail = rail
        self._orders = count(1)
        self._posts = count(1)
        self.truths = {key: Truth([Version(0.0, 0, cloud, "the beginning")]) for key, cloud in clouds.items()}
        self.wanted: dict[AllocationId, Desired] = {}  # what the files say now
        self.adopted: Generation | None = None  # what the living process has been told
        self.gap_at = -1.0  # when a journal was lost, if ever
        self.requests = 0  # for one allocation each
        self.lists = 0  # for all of them
        self.listed: list[tuple[float, bool]] = []  # when these ended, and whether well
        self.asked: list[float] = []  # when somebody wanted a look at everything
        self.lives: list[tuple[float, float]] = []  # when each process began and ended

    def order(self) -> int:
        """The next number."""
        return next(self._orders)

    def begins(self, now: float) -> None:
        """A process begins."""
        self.lives.append((now, NEVER))
        self.rail.begins()

    def ends(self, now: float) -> None:
        """The last process has ended, if it had not before."""
        if self.lives and self.lives[-1][1] == NEVER:
            self.lives[-1] = (self.lives[-1][0], now)

    def got(self, life: int, key: AllocationId, now: float) -> Get:
        """A read begins."""
        get = Get(life, key, now, self.order())
        self.truths[key].gets.append(get)
        self.requests += 1
        return get

    def posted(
        self, life: int, key: AllocationId, body: Cloud, leaves: Mapping[str, str], now: float
    ) -> Post:
        """An update leaves."""
        truth = self.truths[key]
        snapshot = next(
            (get for get in reversed(truth.gets) if get.answered is not None and get.cloud is not None), None
        )
        post = Post(next(self._posts), life, key, leaves, body, snapshot, now, self.order())
        truth.posts.append(post)
        self.requests += 1
        return post

    def recorded(self, life: int, left: OpenIntent, now: float) -> None:
        """An update was recorded, and never left."""
        leaves = dict(left.record.leaves)
        post = Post(next(self._posts), life, left.allocation, leaves, {}, None, now, self.order())
        post.intent, post.answer, post.undeclared = left.sequence, "never left", left.record.undeclared
        post.changes = {change.field: change.desired for change in left.record.changes}
        self.truths[left.allocation].posts.append(post)

    def becomes(
        self, key: AllocationId, cloud: Cloud | None, cause: str, now: float, post: Post | None = None
    ) -> None:
        """The truth changes."""
        self.truths[key].versions.append(Version(now, self.order(), cloud, cause, post))

    def desired(self, key: AllocationId) -> Desired | None:
        """What the living process has been told of an allocation."""
        if self.adopted is None:
            return None
        return self.adopted.allocations.get(key) or self.rail.stands.get(key)

    def adopts(
        self, generation: Generation, now: float, *, approved: bool
    ) -> Iterator[tuple[AllocationId, Desired | None]]:
        """The living process is told this; which allocations that concerns, and what held of them before."""
        before = {key: self.desired(key) for key in self.truths}
        held = self.rail.held
        self.rail.judge(generation.allocations, now, approved=approved)
        self.adopted = generation
        for key, truth in self.truths.items():
            freed = key in held - self.rail.held and self._differs(key)
            if self.desired(key) != before[key] or freed:
                truth.edits.append((now, self.order()))
                yield key, before[key]

    def _differs(self, key: AllocationId) -> bool:
        """Whether the latest read has shown a difference, and none is under way: then one follows."""
        desired, gets = self.desired(key), self.truths[key].gets
        if desired is None or not gets or gets[-1].answered is None:
            return False
        shown = next((get.cloud for get in reversed(gets) if get.ok), None)
        return shown is not None and bool(compare(desired, shown))

    @property
    def declared(self) -> int:
        """How many allocations the living process has been told of."""
        return 0 if self.adopted is None else len(self.adopted.allocations)
