"""What the history alone says of one allocation: what is open, for how long, and where hours are allowed."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from allocsync.model.cloud import leaf
from allocsync.model.ids import AllocationId
from allocsync.reconcile.parameters import Rules
from tests.simulation.engine.history import Post, Truth

RULES = Rules()
HAIR = 1e-6  # two readings of one clock
BASE_SECONDS, MOST_SECONDS = 2.0, 300.0
WRITTEN_SECONDS = 10.0  # a process that lives so long after a read has written down what it found
FIGHT = 3  # so many changes of one field by others may count as a fight


def settle_most_seconds(truths: Iterable[Truth], longest_unknown_seconds: float) -> float:
    """The most that the settle time can be."""
    lag = 0.0
    for truth in truths:
        if _alike(truth):
            return RULES.settle_most_seconds
        for post in truth.posts:
            if post.applied is not None and post.applied > (post.answered or post.sent):
                lag = max(lag, post.applied - post.sent)
    learned = max(longest_unknown_seconds, 2 * (lag + RULES.lag_seen_seconds) if lag > 0 else 0.0)
    return min(max(RULES.settle_seconds, learned), RULES.settle_most_seconds)


@dataclass(slots=True)
class Ended:
    """When each life ended, and from when to when the disk was in trouble."""

    lives: dict[int, float] = field(default_factory=dict)
    troubles: list[tuple[float, float]] = field(default_factory=list)


def written(life: int, at: float, ended: Ended) -> bool:
    """Whether a process lived long enough on a disk that works to write down what it learned then."""
    for begin, end in ended.troubles:
        if begin - WRITTEN_SECONDS <= at < end:
            at = end
    return ended.lives.get(life, inf) >= at + WRITTEN_SECONDS


def told_settle_seconds(journal: sqlite3.Connection | None) -> float:
    """The settle time that the journal tells."""
    found = journal.execute("SELECT value FROM memory WHERE key = 'settle'").fetchone() if journal else None
    if not found:
        return RULES.settle_seconds
    kept = json.loads(found[0].partition(" ")[2])
    longest: float = max((took for _, took in kept["unknowns"]), default=0.0)
    learned: float = max(RULES.settle_seconds, 2 * kept["lag_seconds"], longest)
    return min(learned, RULES.settle_most_seconds)


def told_open(journal: sqlite3.Connection | None, key: AllocationId) -> bool:
    """Whether the journal has an update of this allocation as open."""
    open_now = "SELECT 1 FROM entries JOIN open_intents USING (sequence) WHERE entries.allocation = ?"
    return journal is not None and journal.execute(open_now, (key,)).fetchone() is not None


def backoff_most_seconds(failures: int, wish: float | None) -> float:
    """The longest wait after so many failures in a row, with what the server asked for."""
    most = min(MOST_SECONDS, BASE_SECONDS * 2.0 ** max(failures - 1, 0))
    return max(most, min(wish or 0.0, MOST_SECONDS))


def unsettled(truth: Truth, gap_at: float) -> bool:
    """Whether the outcome of an update is open; what was sent before a gap is not remembered as such."""
    return any(
        post.unknown_since is not None and not post.settled and post.sent > gap_at for post in truth.posts
    )


def _alike(truth: Truth) -> bool:
    """Whether a second try was carried out that can be taken for a late landing of the first."""
    return any(
        second.applied is not None and second.number > first.number and second.leaves.get(name) == value
        for first in truth.posts
        if first.unknown_since is not None
        for second in truth.posts
        for name, value in first.leaves.items()
    )


def resting(truth: Truth, deaf: str, ended: Ended, gap_at: float) -> bool:
    """Whether the rules allow hours here: refused, or what looks like it; contested; rejected for good.

    What lands of before a lost journal is somebody else's.
    """
    forgotten = [
        (version.at, field)
        for version in truth.versions
        if version.post is not None and version.post.sent <= gap_at < version.at
        for field in version.post.leaves
    ]
    foreign = [*truth.foreign, *forgotten]
    accepted = [post for post in truth.posts if post.answer == "accepted"]
    lost = any(
        post.lands_at is None
        or post.lands_at - post.sent > RULES.grace_seconds
        or (post.applied is None and truth.now.at > post.lands_at)
        for post in accepted
    )
    veiled = any(
        field in post.leaves and post.sent <= at <= _seen_at(field, post, truth, ended)
        for at, field in foreign
        for post in truth.posts
        if post.answer not in {"rejected", "not_sent"}
    )
    undone = any(_undone(post, truth, ended) for post in accepted)
    twice = any(_landed_twice(post, truth) for post in accepted)
    fields = [field for _, field in foreign]
    fought = any(fields.count(field) >= FIGHT for field in fields)
    rejected = any(post.terminal for post in truth.posts)
    return bool(deaf) or lost or veiled or undone or twice or fought or rejected


def _undone(post: Post, truth: Truth, ended: Ended) -> bool:
    """Whether an older update has put a field back to what it was, before any read showed the newer value."""
    before = None if post.snapshot is None else post.snapshot.cloud
    return before is not None and any(
        version.post.leaves.get(field) == leaf(before, field) != value
        and post.sent <= version.at <= _seen_at(field, post, truth, ended)
        for version in truth.versions
        if version.post is not None and version.post.number < post.number
        for field, value in post.leaves.items()
    )


def _landed_twice(post: Post, truth: Truth) -> bool:
    """Whether older updates with the same values landed more than once: each is taken for one only once."""
    landed = [
        tuple(sorted(other.leaves.items()))
        for other in truth.posts
        if other.number < post.number and other.applied is not None
    ]
    return len(landed) > len(set(landed))


def _seen_at(field: str, post: Post, truth: Truth, ended: Ended) -> float:
    """When a read first showed what this update set the field to, to a process that could write it down."""
    seen = (
        get.answered
        for get in truth.gets
        if get.order > post.order and get.cloud is not None and get.answered is not None
        if leaf(get.cloud, field) == post.leaves[field]
        if written(get.life, get.answered, ended)
    )
    return next(seen, inf)


def reason_again(name: str, post: Post, truth: Truth) -> str | None:
    """Why this leaf may be sent although the API has accepted the same value; None: there is no reason."""
    value = post.leaves[name]
    before = [
        other
        for other in truth.posts
        if other is not post and other.answer == "accepted" and other.changed.get(name) == value
    ]
    if not before or before[-1].life != post.life:
        return "it was not accepted in this life"
    last = before[-1]
    if any(order > last.order for _, order in truth.edits):
        return "the file was edited"
    if post.sent >= (last.answered or inf) + RULES.refused_seconds:
        return "hours have passed"
    for get in truth.gets:
        if get.order > last.order and get.cloud is not None and get.answered is not None:
            shown = leaf(get.cloud, name)
            if shown == value:
                return "it was seen"
            if (
                last.snapshot is None
                or last.snapshot.cloud is None
                or shown != leaf(last.snapshot.cloud, name)
            ):
                return "it moved"
            earlier = any(
                other.number < last.number and other.leaves.get(name) == shown for other in truth.posts
            )
            if earlier and get.begun >= (last.answered or inf) + RULES.grace_seconds - HAIR:
                return "it may be a late landing of an earlier one, for all that anybody can tell"
    return None
