"""Judges a run by the reference server's own log (everything asked for), never by what the daemon says.

The words are those of the README's promises. T is the truth: the seed, changed by each record that was
applied, at the time when it was. A needless re-post is a POST whose declared leaves all equalled T when it
arrived; it was avoidable if they did already when the latest successful read of that allocation was answered,
or if none preceded it. A duplicate is two executed POSTs with the same declared leaves and no other T in
between; it was avoidable if the second came without the read that the first one's answer calls for. What an
update declares is in its body: the files may have said something else before.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from allocsync.model.cloud import leaf

Record = Mapping[str, Any]
GRACE_SECONDS = 60.0
TOLERANCE_SECONDS = 0.005  # two clocks are read, one on each side of a socket


@dataclass
class Finding:
    """What the log says."""

    posts: int = 0
    reads: int = 0
    needless: int = 0
    avoidable_needless: list[str] = field(default_factory=list)
    duplicates: int = 0
    avoidable_duplicates: list[str] = field(default_factory=list)
    at_once: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)  # sent after an unknown outcome without a read at all
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def read_log(path: Path) -> list[Record]:
    """The records of a log file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def judge(
    records: Iterable[Record],
    seed: Mapping[str, Mapping[str, Any]],
    declared: Mapping[str, Mapping[str, str]],
    *,
    settle_seconds: float,
) -> Finding:
    """Judge a log; `seed` is the truth at the start, `declared` the leaves by allocation.

    Their values count for updates whose body is not in the log.
    """
    finding = Finding()
    by_id: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record["op"] == "fault":
            finding.faults[record["kind"]] += 1
        elif record["op"] != "list":
            by_id[record["id"]].append(record)
    for key, rows in by_id.items():
        if key in declared:
            _judge_one(finding, rows, Truth(seed[key], rows), declared[key], settle_seconds)
    return finding


class Truth:
    """The leaves of one allocation at any time."""

    def __init__(self, seed: Mapping[str, Any], rows: list[Record]) -> None:
        self._seed = seed
        self._applied = sorted(
            (row for row in rows if row.get("applied_at") is not None), key=lambda row: row["applied_at"]
        )

    def equals(self, leaves: Mapping[str, str], at: float) -> bool:
        """Whether all these leaves were the truth at this time."""
        return all(self._leaf(name, at) == value for name, value in leaves.items())

    def equal_from(self, leaves: Mapping[str, str]) -> float | None:
        """Since when these leaves have been the truth for good: -inf for always, None for not at all."""
        since = -inf if self.equals(leaves, -inf) else None
        for at in (row["applied_at"] for row in self._applied):
            if not self.equals(leaves, at):
                since = None
            elif since is None:
                since = at
        return since

    def moments(self, begin: float, end: float) -> list[float]:
        """When the truth was touched, from just before to the end."""
        return [begin, *(row["applied_at"] for row in self._applied if begin <= row["applied_at"] <= end)]

    def _leaf(self, name: str, at: float) -> object:
        value: Any = self._seed
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        for row in self._applied:
            if row["applied_at"] > at:
                break
            if name in row["changed"]:
                value = row["changed"][name][1]
        return value


def _judge_one(
    finding: Finding, rows: list[Record], truth: Truth, leaves: Mapping[str, str], settle_seconds: float
) -> None:
    reads = [row for row in rows if row["op"] == "snapshot"]
    posts = sorted((row for row in rows if row["op"] == "update"), key=lambda row: row["n"])
    finding.reads += len(reads)
    finding.posts += len(posts)
    spans = sorted((row["received_at"], row["answered_at"], row["op"]) for row in (*reads, *posts))
    for before, after in pairwise(spans):
        if after[0] < before[1] - TOLERANCE_SECONDS:
            finding.at_once.append(f"{posts[0]['id'] if posts else reads[0]['id']}: {before} and {after}")
    good = [row for row in reads if row["answer"] == 200]
    for post in posts:
        _judge_post(finding, post, good, truth, leaves)
    for first, second in pairwise(posts):
        _judge_pair(finding, (first, second), good, truth, leaves=leaves, settle_seconds=settle_seconds)


def _carried(post: Record, leaves: Mapping[str, str]) -> Mapping[str, Any]:
    body = post.get("body")
    return leaves if body is None else {name: leaf(body, name) for name in leaves}


def _judge_post(
    finding: Finding, post: Record, reads: list[Record], truth: Truth, leaves: Mapping[str, str]
) -> None:
    leaves = _carried(post, leaves)
    if not truth.equals(leaves, post["received_at"]):
        return
    finding.needless += 1
    served = [row["answered_at"] for row in reads if row["answered_at"] <= post["received_at"]]
    if not served or truth.equals(leaves, max(served)):
        finding.avoidable_needless.append(f"{post['id']} n={post['n']}")


def _judge_pair(
    finding: Finding,
    pair: tuple[Record, Record],
    reads: list[Record],
    truth: Truth,
    *,
    leaves: Mapping[str, str],
    settle_seconds: float,
) -> None:
    first, second = pair
    name = f"{first['id']} n={first['n']} and n={second['n']}"
    between = [
        row
        for row in reads
        if row["received_at"] >= first["answered_at"] - TOLERANCE_SECONDS
        and row["answered_at"] <= second["received_at"] + TOLERANCE_SECONDS
    ]
    if not between:
        finding.blind.append(name)
    leaves, later = _carried(first, leaves), _carried(second, leaves)
    if first["applied_at"] is None or second["applied_at"] is None or leaves != later:
        return
    begin, end = sorted((first["applied_at"], second["applied_at"]))
    if any(not truth.equals(leaves, moment) for moment in truth.moments(begin, end)):
        return
    finding.duplicates += 1
    if first["answer"] in (200, 202):
        within = second["received_at"] < first["answered_at"] + GRACE_SECONDS
        excused = any(not truth.equals(leaves, row["answered_at"]) for row in between)
        avoidable = within and not excused
    else:
        settled_at = first["answered_at"] + settle_seconds - TOLERANCE_SECONDS
        avoidable = not any(row["received_at"] >= settled_at for row in between)
    if avoidable:
        finding.avoidable_duplicates.append(name)
