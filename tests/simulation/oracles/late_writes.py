"""R3: which late landings and overwrites a run must have told, from what its reads have seen.

A landing must be told when the last read before it saw another value, the first read after it saw its own,
nothing else happened in between, and the process lived on to write it down. An overwrite of what is not
declared likewise. What an accepted update explains, or a read has already called applied, need not be told.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from allocsync.model.cloud import leaf
from allocsync.reconcile.parameters import Rules
from tests.simulation.engine.history import Get, Post, Truth, Version
from tests.simulation.oracles.history_evidence import Ended, written

RULES = Rules()


def untold(
    truth: Truth,
    told: Mapping[int, AbstractSet[str]],
    *,
    ended: Ended,
    since: float,
    forgotten_before: float,
) -> Iterator[tuple[Post, str]]:
    """What was sent after `since`, landed, was seen and not told; `ended` says when lives did.

    Nobody remembers what was sent before `since`, as the journal was lost then, nor what was sent before
    `forgotten_before`, when the clock jumped ahead.
    """
    remembered_from = max(since, forgotten_before)
    for index, version in enumerate(truth.versions):
        post = version.post
        if (
            post is None
            or post.unknown_since is None
            or post.sent < remembered_from
            or post.intent is None
            or post.evident
            or _taken_for_another(post, version, truth, remembered_from)
        ):
            continue
        following = truth.versions[index + 1] if index + 1 < len(truth.versions) else None
        seen = _seen_after(truth, version, following, ended)
        if seen is None or seen.begun > post.unknown_since + RULES.ghost_seconds:
            continue
        before = _seen_before(truth, version, post, ended)
        if before is None or before.cloud is None or seen.cloud is None:
            continue
        if _given_up(post, told) and _landed(post, before, seen, truth, told):
            yield post, "late_applied"
        if _overwrote(post, before, seen) and not _told(truth, post, told, "stale_overwrite"):
            yield post, "stale_overwrite"


def _seen_after(truth: Truth, version: Version, following: Version | None, ended: Ended) -> Get | None:
    for get in truth.gets:
        if get.served is None or get.served < version.order or get.cloud is None or get.answered is None:
            continue
        if following is not None and get.served >= following.order:
            return None
        if written(get.life, get.answered, ended):
            return get
    return None


def _seen_before(truth: Truth, version: Version, post: Post, ended: Ended) -> Get | None:
    """The last read before the landing, if it began after the update had ended."""
    reads = [
        get
        for get in truth.gets
        if get.served is not None and get.served < version.order and get.answered is not None
    ]
    last = reads[-1] if reads else None
    if last is None or last.answered is None or last.begun < (post.unknown_since or 0.0):
        return None
    return last if written(last.life, last.answered, ended) else None


def _given_up(post: Post, told: Mapping[int, AbstractSet[str]]) -> bool:
    return "not_applied" in told.get(post.intent or -1, set())


def _landed(post: Post, before: Get, seen: Get, truth: Truth, told: Mapping[int, AbstractSet[str]]) -> bool:
    if before.cloud is None or seen.cloud is None:
        return False
    for name, value in post.changed.items():
        if leaf(seen.cloud, name) != value or leaf(before.cloud, name) == value:
            continue
        alike = [other for other in truth.posts if other.leaves.get(name) == value]
        explained = any(other.answer == "accepted" for other in alike)
        if not explained and not any(
            "late_applied" in told.get(other.intent or -1, set()) for other in alike
        ):
            return True
    return False


def _overwrote(post: Post, before: Get, seen: Get) -> bool:
    if before.cloud is None or seen.cloud is None or not post.overwrote:
        return False
    return post.rest(before.cloud) != post.own_rest == post.rest(seen.cloud)


def _told(truth: Truth, post: Post, told: Mapping[int, AbstractSet[str]], what: str) -> bool:
    alike = (other for other in truth.posts if other.own_rest == post.own_rest)
    return any(what in told.get(other.intent or -1, set()) for other in alike)


def _taken_for_another(post: Post, version: Version, truth: Truth, remembered_from: float) -> bool:
    """Whether one with a value of it that nobody remembered landed before: it was taken for this one."""
    return any(
        other is not post
        and other.sent < remembered_from
        and other.applied is not None
        and post.sent < other.applied < version.at
        and any(post.leaves.get(name) == value for name, value in other.leaves.items())
        for other in truth.posts
    )
