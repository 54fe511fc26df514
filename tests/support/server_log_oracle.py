"""Judges a run by the log of the reference server (with every request), never by what the daemon reports.

The terms are those of the promises in the README. The truth of an allocation is the seed, changed by each
update that was applied and each write of the other client, at the time when it was applied.

- A needless update is one whose declared fields all had these values in the truth when it arrived. It was
  avoidable if they already had them when the latest successful read of the allocation was answered, or if
  there was no such read.
- A duplicate is a pair of applied updates with the same declared fields and no other truth between them. It
  was avoidable if the second one was sent without the read that the answer to the first one requires.

What an update declares is taken from its body, because the files may have been different before.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from allocsync.model.cloud import field_value

Record = Mapping[str, Any]
PROPAGATION_SECONDS = 60.0  # an accepted update may take so long to show
TOLERANCE_SECONDS = 0.005  # the client and the server read their clocks at different times


@dataclass
class Finding:
    """The counts and the violations found in a log.

    `at_once` are requests for one allocation that overlap; `blind` are updates sent after another one
    without a read.
    """

    posts: int = 0
    reads: int = 0
    needless: int = 0
    avoidable_needless: list[str] = field(default_factory=list)
    duplicates: int = 0
    avoidable_duplicates: list[str] = field(default_factory=list)
    at_once: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def read_log(path: Path) -> list[Record]:
    """Return the records of a log file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def judge(
    records: Iterable[Record],
    seed: Mapping[str, Mapping[str, Any]],
    declared: Mapping[str, Mapping[str, str]],
    *,
    settle_seconds: float,
) -> Finding:
    """Judge a log; `seed` is the truth at the start, `declared` the declared fields by allocation.

    The values in `declared` are used for updates whose body is not in the log. Allocations that are not in
    `declared` are not judged.
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
    """The values of the fields of one allocation at any time."""

    def __init__(self, seed: Mapping[str, Any], rows: list[Record]) -> None:
        self._seed = seed
        self._applied = sorted(
            (row for row in rows if row.get("applied_at") is not None), key=lambda row: row["applied_at"]
        )

    def equals(self, fields: Mapping[str, str], at: float) -> bool:
        """Return whether all these fields had these values at this time."""
        return all(self._field_value(name, at) == value for name, value in fields.items())

    def equal_from(self, fields: Mapping[str, str]) -> float | None:
        """Return since when these values have held to the end; -inf: always, None: not at the end."""
        since = -inf if self.equals(fields, -inf) else None
        for at in (row["applied_at"] for row in self._applied):
            if not self.equals(fields, at):
                since = None
            elif since is None:
                since = at
        return since

    def moments(self, begin: float, end: float) -> list[float]:
        """Return `begin`, and the times up to `end` at which an update was applied."""
        return [begin, *(row["applied_at"] for row in self._applied if begin <= row["applied_at"] <= end)]

    def _field_value(self, name: str, at: float) -> object:
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
    finding: Finding, rows: list[Record], truth: Truth, fields: Mapping[str, str], settle_seconds: float
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
        _judge_post(finding, post, good, truth, fields)
    for first, second in pairwise(posts):
        _judge_pair(finding, (first, second), good, truth, fields=fields, settle_seconds=settle_seconds)


def _declared_by(post: Record, fields: Mapping[str, str]) -> Mapping[str, Any]:
    body = post.get("body")
    return fields if body is None else {name: field_value(body, name) for name in fields}


def _judge_post(
    finding: Finding, post: Record, reads: list[Record], truth: Truth, fields: Mapping[str, str]
) -> None:
    fields = _declared_by(post, fields)
    if not truth.equals(fields, post["received_at"]):
        return
    finding.needless += 1
    served = [row["answered_at"] for row in reads if row["answered_at"] <= post["received_at"]]
    if not served or truth.equals(fields, max(served)):
        finding.avoidable_needless.append(f"{post['id']} n={post['n']}")


def _judge_pair(
    finding: Finding,
    pair: tuple[Record, Record],
    reads: list[Record],
    truth: Truth,
    *,
    fields: Mapping[str, str],
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
    fields, later = _declared_by(first, fields), _declared_by(second, fields)
    if first["applied_at"] is None or second["applied_at"] is None or fields != later:
        return
    begin, end = sorted((first["applied_at"], second["applied_at"]))
    if any(not truth.equals(fields, moment) for moment in truth.moments(begin, end)):
        return
    finding.duplicates += 1
    if first["answer"] in (200, 202):
        is_soon = second["received_at"] < first["answered_at"] + PROPAGATION_SECONDS
        excused = any(not truth.equals(fields, row["answered_at"]) for row in between)
        avoidable = is_soon and not excused
    else:
        settled_at = first["answered_at"] + settle_seconds - TOLERANCE_SECONDS
        avoidable = not any(row["received_at"] >= settled_at for row in between)
    if avoidable:
        finding.avoidable_duplicates.append(name)
