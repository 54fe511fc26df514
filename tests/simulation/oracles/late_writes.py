"""R3: which late writes and overwrites a run must have recorded, from what its reads have shown.

The rules: a late write must be recorded if the last read before it showed another value, the first read after
it showed its value, nothing else changed in between, and the process ran on to record it. The same holds for
an overwrite of unmanaged fields. What an accepted update explains, or a read has called applied, need not be
recorded.

Left out: whether what is recorded is true (`journal`).
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from allocsync.model.cloud import field_value
from allocsync.reconcile.parameters import Parameters
from tests.simulation.engine.history import Get, Post, Truth, Version
from tests.simulation.oracles.history_evidence import ProcessEnds, is_recorded

RULES = Parameters()


def unreported(
    truth: Truth,
    recorded: Mapping[int, AbstractSet[str]],
    *,
    process_ends: ProcessEnds,
    since: float,
    forgotten_before: float,
) -> Iterator[tuple[Post, str]]:
    """The updates that were applied late and read, with the outcome that the journal lacks for each.

    Updates sent before `since` are forgotten, since the journal was lost then; so are those sent before
    `forgotten_before`, when the clock was moved ahead.
    """
    remembered_from = max(since, forgotten_before)
    for index, version in enumerate(truth.versions):
        post = version.post
        if (
            post is None
            or post.unknown_since is None
            or post.sent < remembered_from
            or post.intent is None
            or post.confirmed
            or "applied_partial" in recorded.get(post.intent, ())
            or _taken_for_another(post, version, truth, remembered_from)
        ):
            continue
        following = truth.versions[index + 1] if index + 1 < len(truth.versions) else None
        seen = _seen_after(truth, version, following, process_ends)
        if seen is None or seen.begun > post.unknown_since + RULES.late_write_seconds:
            continue
        before = _seen_before(truth, version, post, process_ends)
        if before is None or before.cloud is None or seen.cloud is None:
            continue
        if _given_up(post, recorded) and _is_late_write_unrecorded(post, before, seen, truth, recorded):
            yield post, "late_applied"
        if _overwrote(post, before, seen) and not _is_overwrite_recorded(
            truth, post, recorded, "stale_overwrite"
        ):
            yield post, "stale_overwrite"


def _seen_after(
    truth: Truth, version: Version, following: Version | None, process_ends: ProcessEnds
) -> Get | None:
    for get in truth.gets:
        if get.served is None or get.served < version.order or get.cloud is None or get.answered is None:
            continue
        if following is not None and get.served >= following.order:
            return None
        if is_recorded(get.process, get.answered, process_ends):
            return get
    return None


def _seen_before(truth: Truth, version: Version, post: Post, process_ends: ProcessEnds) -> Get | None:
    """The last read before the late write, if it began after the update had ended."""
    reads = [
        get
        for get in truth.gets
        if get.served is not None and get.served < version.order and get.answered is not None
    ]
    last = reads[-1] if reads else None
    if last is None or last.answered is None or last.begun < (post.unknown_since or 0.0):
        return None
    return last if is_recorded(last.process, last.answered, process_ends) else None


def _given_up(post: Post, recorded: Mapping[int, AbstractSet[str]]) -> bool:
    return "not_applied" in recorded.get(post.intent or -1, set())


def _is_late_write_unrecorded(
    post: Post, before: Get, seen: Get, truth: Truth, recorded: Mapping[int, AbstractSet[str]]
) -> bool:
    if before.cloud is None or seen.cloud is None:
        return False
    for name, value in post.changed.items():
        if field_value(seen.cloud, name) != value or field_value(before.cloud, name) == value:
            continue
        alike = [other for other in truth.posts if other.fields.get(name) == value]
        explained = any(other.answer == "accepted" for other in alike)
        if not explained and not any(
            "late_applied" in recorded.get(other.intent or -1, set()) for other in alike
        ):
            return True
    return False


def _overwrote(post: Post, before: Get, seen: Get) -> bool:
    if before.cloud is None or seen.cloud is None or not post.overwrote:
        return False
    return post.unmanaged_hash(before.cloud) != post.own_unmanaged_hash == post.unmanaged_hash(seen.cloud)


def _is_overwrite_recorded(
    truth: Truth, post: Post, recorded: Mapping[int, AbstractSet[str]], what: str
) -> bool:
    alike = (other for other in truth.posts if other.own_unmanaged_hash == post.own_unmanaged_hash)
    return any(what in recorded.get(other.intent or -1, set()) for other in alike)


def _taken_for_another(post: Post, version: Version, truth: Truth, remembered_from: float) -> bool:
    """Whether a forgotten update with one of its values was applied before, and taken for this one."""
    return any(
        other is not post
        and other.sent < remembered_from
        and other.applied is not None
        and post.sent < other.applied < version.at
        and any(post.fields.get(name) == value for name, value in other.fields.items())
        for other in truth.posts
    )
