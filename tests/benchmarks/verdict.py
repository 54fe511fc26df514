"""Judges one contender in one storm by the reference server's log, never by its own account of it.

How each figure is defined:

needless, duplicates: as in `server_log_oracle`, all of them and the avoidable ones.
sent: every request that the server received until the contender reported that everything is in sync.
needed: the requests that the answers called for: the due reads, and for each update sent while the truth was
    not as declared a snapshot, the POST, and one read after it, which confirms it or settles its outcome. Due
    are a list a minute for a contender that lists, else a read of each allocation every five minutes, the
    first at once. A POST of what was the truth already is not needed. A contender that posts again without a
    read sends less than what is needed.
clairvoyant: a client that knows when the storm ends: a GET and a POST for each allocation that differed, and
    a list a minute while the storm lasts. It is the same for every contender.
false failures: reports that an allocation has failed while the truth was as declared. Reports are lines of
    the contender's own output: of allocsync each change to a failure condition, permanent or not; of a peer
    each allocation that it gave up.
fields lost: undeclared top-level fields of an allocation that are missing or changed at the end, except
    `updated`. Numbers are compared as numbers.
recovery: from the end of the storm until the truth was as declared everywhere, for good.
second after: requests in the first second after the storm; most after: in the busiest second after it.

Left out: running a storm (`storm`), and the tables of the figures (`storm_tables`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf
from typing import Any

from tests.support.server_log_oracle import Record, Truth, judge

LIST_SECONDS, READ_ALL_SECONDS = 60.0, 300.0  # how often a list is due, or a read of each allocation
REQUESTS = ("snapshot", "list", "update")
Cloud = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """A contender reports that an allocation has failed."""

    at: float
    id: str
    what: str


@dataclass(frozen=True, slots=True)
class Case:
    """A storm: the truth at its start, what is declared, when it began and ended (since the epoch)."""

    seed: Mapping[str, Cloud]
    declared: Mapping[str, Mapping[str, str]]
    begun: float
    ended: float
    settle_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one contender in one storm."""

    sent: int
    needed: int
    clairvoyant: int
    reads: int
    lists: int
    posts: int
    needless: int
    avoidable_needless: int
    duplicates: int
    avoidable_duplicates: int
    blind: int
    failures: int
    false_failures: int
    fields_lost: int
    recovery_seconds: float | None
    second_after: int
    most_after: int
    per_second: Sequence[int]
    faults: Mapping[str, int] = field(default_factory=dict)


def figures(
    case: Case, records: Sequence[Record], reports: Sequence[Report], live: Mapping[str, Cloud]
) -> Figures:
    """Judge a log; `live` is what the server holds at the end."""
    finding = judge(records, case.seed, case.declared, settle_seconds=case.settle_seconds)
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record["op"] == "update":
            rows[record["id"]].append(record)
    truths = {key: Truth(case.seed[key], rows[key]) for key in case.declared}
    arrivals = sorted(record["received_at"] for record in records if record["op"] in REQUESTS)
    lists = sum(record["op"] == "list" for record in records)
    due = reads_due(len(case.declared), lists, arrivals[-1] - arrivals[0] if arrivals else 0.0)
    differed = sum(not truth.equals(case.declared[key], -inf) for key, truth in truths.items())
    after = Counter(floor(at - case.ended) for at in arrivals if at >= case.ended)
    in_sync = [truth.equal_from(case.declared[key]) for key, truth in truths.items()]
    return Figures(
        sent=len(arrivals),
        needed=due + 3 * (finding.posts - finding.needless),
        clairvoyant=1 + floor((case.ended - case.begun) / LIST_SECONDS) + 2 * differed,
        reads=finding.reads,
        lists=lists,
        posts=finding.posts,
        needless=finding.needless,
        avoidable_needless=len(finding.avoidable_needless),
        duplicates=finding.duplicates,
        avoidable_duplicates=len(finding.avoidable_duplicates),
        blind=len(finding.blind),
        failures=len(reports),
        false_failures=sum(truths[each.id].equals(case.declared[each.id], each.at) for each in reports),
        fields_lost=sum(len(lost(case.seed[key], live.get(key, {}), case.declared[key])) for key in truths),
        recovery_seconds=_recovery(in_sync, case.ended),
        second_after=after[0],
        most_after=max(after.values(), default=0),
        per_second=per_second(arrivals, case.begun),
        faults=dict(finding.faults),
    )


def reads_due(number: int, lists: int, seconds: float) -> int:
    """The periodic reads or lists due in this time."""
    if lists:
        return min(lists, 1 + floor(seconds / LIST_SECONDS))
    return number * (1 + floor(seconds / READ_ALL_SECONDS))


def per_second(arrivals: Sequence[float], begun: float) -> list[int]:
    """How many requests arrived in each second since `begun`."""
    counts = Counter(max(0, floor(at - begun)) for at in arrivals)
    return [counts[second] for second in range(max(counts, default=-1) + 1)]


def lost(before: Cloud, after: Cloud, declared: Mapping[str, str]) -> set[str]:
    """The undeclared top-level fields that were changed or removed."""
    now = dict(_fields(after))
    return {
        path.partition(".")[0]
        for path, value in _fields(before)
        if path not in declared and path.partition(".")[0] != "updated" and now.get(path, _GONE) != value
    }


_GONE = object()


def _fields(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _recovery(in_sync: Sequence[float | None], ended: float) -> float | None:
    """Seconds from the end of the storm; None if something never came in sync."""
    known = [at for at in in_sync if at is not None]
    return max([0.0, *(at - ended for at in known)]) if len(known) == len(in_sync) else None
