"""What must hold at each step of a run, judged from the history and the journal's file alone.

P2   an allocation that is in sync is never posted to; what was accepted is not sent again without a reason
P3   an update carries everything that is not declared exactly as the snapshot just before it had it
P4   never two requests of one process for one allocation at once
P6   every update that leaves is in the journal first
P8   an update carries what the newest generation in force declares, and nothing that the rail holds
R1   an update of unknown outcome is not followed by another before a read has settled it: one that shows it,
     or one that began a settle time after it became unknown (in a new life: after that life began)
"""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from allocsync.model.api_answers import (
    Accepted,
    Live,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Snapshot,
    UpdateAnswer,
)
from allocsync.model.cloud import Cloud, leaf
from allocsync.model.desired_state import Desired, Generation, Mode
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import Restored, intent_from, undeclared_hash
from allocsync.planning.diff import merge
from allocsync.reconcile.parameters import Rules
from tests.simulation.engine.history import Get, Post, Truth
from tests.simulation.engine.server import Server
from tests.simulation.oracles.history_evidence import reason_again
from tests.simulation.oracles.journal import Audit
from tests.simulation.oracles.liveness import SLACK_SECONDS, Liveness

RULES = Rules()
HAIR = 1e-6  # two readings of one clock


class Promises:
    """See the module. `broken(promise, what)` is told of a breach."""

    def __init__(
        self,
        server: Server,
        *,
        resync_seconds: float,
        bulk: bool,
        broken: Callable[[str, str], None],
        note: Callable[..., None],
    ) -> None:
        self._server = server
        self._history = server.history
        self._broken = broken
        self._note = note
        self.journal: sqlite3.Connection | None = None
        self._under_way: set[AllocationId] = set()
        self._longest_unknown: list[tuple[float, float]] = []  # of this life: when, how long it took
        self._life = 0
        self._gap: float | None = None  # the wall clock's time of the last gap: two may have the same
        self.commit_seconds = 0.0
        self.liveness = Liveness(server, resync_seconds=resync_seconds, bulk=bulk, broken=broken)
        deaf = frozenset(key for key, each in server.allocations.items() if each.deaf)
        self.audit = Audit(self._history, self.liveness.ended_at, broken, deaf)

    # Lives.

    def began(self, life: int, journal: Path, restored: Restored, *, wall: float) -> None:
        """A process has started with what its journal gave; `wall` is what it takes for the time."""
        now = self._server.now()
        self._life = life
        self._history.begins(now)
        self._under_way.clear()
        self._longest_unknown.clear()
        self._history.adopted = None
        self.journal = sqlite3.connect(f"file:{journal}?mode=ro", uri=True, isolation_level=None)
        gap = restored.gap_at is not None and (bool(restored.gap) or restored.gap_at != self._gap)
        if restored.gap_at is not None and gap:
            self._gap, self._history.gap_at = restored.gap_at, now
            self._forget(now - (wall - restored.gap_at))
        opened = {each.sequence for each in restored.open_intents}
        self._never_left(restored, life)
        for truth in self._history.truths.values():
            for post in truth.posts:
                if post.life == life or post.sent < self._history.gap_at:
                    continue
                if post.intent in opened:
                    post.unknown_since, post.settled, post.evident = now, False, False
                elif not post.settled and (post.answer is None or post.unknown_since is not None):
                    post.unknown_since = now
        self.audit.started(self.journal, gap_at=now if gap else None)
        self.liveness.journal = self.journal
        recent = restored.gap_at is not None and wall - restored.gap_at < RULES.settle_most_seconds
        self.liveness.began(gap=gap, waits=recent)

    def _forget(self, since: float) -> None:
        """A journal is lost: what is open counts as unknown since then, though no process knows of it."""
        for truth in self._history.truths.values():
            for post in truth.posts:
                if not post.settled and (post.answer is None or post.unknown_since is not None):
                    post.unknown_since = since

    def _never_left(self, restored: Restored, life: int) -> None:
        """Intents of updates that never left, which no process can know: they are open like others."""
        for left in restored.open_intents:
            truth = self._history.truths[left.allocation]
            known = (post.intent for post in truth.posts if post.sent >= self._history.gap_at)
            if left.sequence not in known:
                self._history.recorded(life - 1, left, self._server.now())

    def ended(self) -> None:
        """No process runs."""
        self._under_way.clear()
        self.liveness.ended_at.lives.setdefault(self._life, self._server.now())
        self._history.ends(self._server.now())
        self.liveness.ended()
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def wall_jumps(self, seconds: float) -> None:
        """The wall clock moves, while no process runs."""
        self.liveness.wall_jumps(seconds)
        self.audit.forgotten_before = self.liveness.forgotten_before

    def slow_commits(self, commit_seconds: float) -> None:
        """Commits take so long from now on."""
        self.commit_seconds = max(self.commit_seconds, commit_seconds + 0.01)
        self.liveness.slack_seconds = SLACK_SECONDS + 4 * self.commit_seconds

    def adopted(self, generation: Generation, *, approved: bool = False) -> None:
        """A process has been told this, or somebody has approved it."""
        for key, before in self._history.adopts(generation, self._server.now(), approved=approved):
            self.liveness.edited(key, first=before is None)

    # Reads.

    def reads(self, life: int, key: AllocationId) -> Get:
        """A read leaves."""
        self._begins(key)
        return self._history.got(life, key, self._server.now())

    def read(self, get: Get, answer: Snapshot) -> None:
        """It is answered."""
        self._under_way.discard(get.key)
        get.answered = self._server.now()
        self._note("client", get.key, f"read: {_short(answer)}")
        if get.cloud is not None or get.gone:
            for post in self._history.truths[get.key].posts:
                if post.unknown_since is not None and not post.settled and self._settles(get, post):
                    post.settled = True
        self.liveness.read(get, answer)

    def _settles(self, get: Get, post: Post) -> bool:
        since = post.unknown_since
        if since is None or get.begun < since - HAIR:
            return False
        shown = get.cloud is None or all(
            leaf(get.cloud, name) == value for name, value in post.changed.items()
        )
        post.evident = shown
        return shown or get.begun >= since + self._settle_seconds(get.begun) - HAIR

    def _settle_seconds(self, at: float) -> float:
        """The least that the settle time can be."""
        longest = max((took for when, took in self._longest_unknown if when < at), default=0.0)
        return max(RULES.settle_seconds, min(longest, RULES.settle_most_seconds))

    def _begins(self, key: AllocationId) -> None:
        if key in self._under_way:
            self._broken("P4", f"two requests for {key} at once")
        self._under_way.add(key)
        self.liveness.begins(key)

    # Updates.

    def sends(self, life: int, key: AllocationId, body: Cloud) -> Post:
        """An update leaves."""
        self._begins(key)
        desired = self._history.desired(key)
        leaves = dict(desired.leaves) if desired is not None else {}
        post = self._history.posted(life, key, body, leaves, self._server.now())
        self._note("client", key, f"update {post.number} leaves: {leaves}")
        self._is_recorded(post)
        if self._is_wanted(post, desired):
            truth = self._history.truths[key]
            self._is_settled(post, truth)
            self._is_whole(post, desired)
            self._is_needed(post, truth)
            self._is_not_again(post, truth)
        return post

    def _is_recorded(self, post: Post) -> None:
        if self.journal is None:
            raise AssertionError("an update left a process that has not begun")
        found = self.journal.execute(
            "SELECT sequence, data FROM entries JOIN open_intents USING (sequence)"
            " WHERE entries.allocation = ?",
            (post.key,),
        ).fetchone()
        if found is None:
            self._broken("P6", f"update {post.number} left, and the journal has no open intent of it")
            return
        post.intent, record = found[0], intent_from(json.loads(found[1]))
        names = [name for name, _ in record.leaves]
        carried = tuple((name, leaf(post.body, name)) for name in names)
        if carried != record.leaves or record.undeclared != undeclared_hash(post.body, names):
            self._broken("P6", f"update {post.number} left, and its intent {found[0]} is of another update")

    def _is_wanted(self, post: Post, desired: Desired | None) -> bool:
        if desired is None or desired.mode is not Mode.ENFORCE or post.key in self._history.rail.held:
            self._broken("P8", f"update {post.number} left, and nothing may be sent: {desired}")
            return False
        carried = {name: leaf(post.body, name) for name in post.leaves}
        if carried != post.leaves:
            self._broken("P8", f"update {post.number} carries {carried}; in force is {post.leaves}")
            return False
        return True

    def _is_whole(self, post: Post, desired: Desired | None) -> None:
        get = post.snapshot
        if get is None or get.cloud is None or get.answered is None or desired is None:
            self._broken("P3", f"update {post.number} left without a snapshot")
        elif (
            get.life != post.life
            or post.sent - get.answered > RULES.fresh_seconds + 2 * self.commit_seconds + HAIR
        ):
            self._broken(
                "P3", f"update {post.number} left {post.sent - get.answered:.3f} s after its snapshot"
            )
        elif post.body != merge(desired, get.cloud):
            self._broken(
                "P3", f"update {post.number} is not the snapshot just before it with what is declared"
            )

    def _is_needed(self, post: Post, truth: Truth) -> None:
        get = post.snapshot
        if truth.now.cloud is None or get is None or get.served is None:
            return
        if _equal(truth.now.cloud, post) and _equal(truth.at(get.served).cloud, post):
            self._broken("P2", f"update {post.number} left, and all that it declares was there already")

    def _is_settled(self, post: Post, truth: Truth) -> None:
        for other in truth.posts:
            unknown = other.unknown_since
            if other is post or unknown is None or other.settled or unknown < self.audit.forgotten_before:
                continue
            self._broken(
                "R1", f"update {post.number} left while the outcome of update {other.number} was open"
            )

    def _is_not_again(self, post: Post, truth: Truth) -> None:
        reasons = [reason_again(name, post, truth) for name in post.changed]
        if reasons and not any(reasons):
            again = ", ".join(post.changed)
            self._broken(
                "P2", f"update {post.number} sends again, without a reason, what was accepted: {again}"
            )

    def sent(self, post: Post, answer: UpdateAnswer) -> None:
        """It is answered."""
        self._under_way.discard(post.key)
        now = post.answered = self._server.now()
        match answer:
            case Accepted():
                post.answer = "accepted"
            case Rejected():
                post.answer, post.terminal = "rejected", answer.terminal
            case NotSent():
                post.answer = "not_sent"
            case OutcomeUnknown():
                post.answer, post.unknown_since = "unknown", now
                self._longest_unknown.append((now, now - post.sent))
        self._note("client", post.key, f"update {post.number}: {_short(answer)}")
        self.liveness.sent(post, answer)

    def cut_off(self, post: Post) -> None:
        """Its process stops before the answer."""
        self._under_way.discard(post.key)
        self._note("client", post.key, f"update {post.number} is cut off")


def _equal(cloud: Cloud | None, post: Post) -> bool:
    return cloud is not None and all(leaf(cloud, name) == value for name, value in post.leaves.items())


def _short(answer: object) -> str:
    if isinstance(answer, Live):
        shown = (str(leaf(answer.cloud, name)) for name in ("region", "version", "urls.vanity.url"))
        return f"region {{}}, version {{}}, vanity {{}}, {leaf(answer.cloud, 'status.cloud')}".format(*shown)
    return str(getattr(answer, "reason", "")) or type(answer).__name__
