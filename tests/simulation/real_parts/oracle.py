"""Judges a run of the real parts by the server's log and the journal's file.

The rule: only what the client can have known counts. An answer after one of the client's deadlines, or after
the process ended, reached nobody; a read with a fault has shown nothing.

Left out: the meaning of the terms (`tests.support.server_log_oracle`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from allocsync.model.times import WallTime
from tests.simulation.real_parts.process import WALL_SECONDS
from tests.simulation.real_parts.schedule import DRIP_MOST_SECONDS
from tests.simulation.real_parts.world import Outcome
from tests.support import server_log_oracle

SETTLE_SECONDS = 10.0
READ_SECONDS, UPDATE_SECONDS = 10.0, 75.0
USABLE = ("update.partly", "update.drip")  # 200 with a usable body
NEVER_APPLIED = ("rejected", "not_sent")


def find_breaches(outcome: Outcome) -> list[str]:
    """Everything that is wrong, in words."""
    records = log_as_client_saw(outcome)
    declared = {str(key): dict(desired.fields) for key, desired in outcome.declared.items()}
    finding = server_log_oracle.judge(records, outcome.seed, declared, settle_seconds=SETTLE_SECONDS)
    found = list(outcome.problems)
    for what in ("avoidable_needless", "avoidable_duplicates", "at_once", "blind"):
        found += [f"{what}: {each}" for each in getattr(finding, what)]
    if outcome.in_sync_seconds is None:
        found.append("not in sync and settled within the stated time")
    return found + list(_journal(outcome)) + list(_foreign(outcome))


def log_as_client_saw(outcome: Outcome) -> list[Mapping[str, Any]]:
    """The server's log as the client saw it."""
    faults: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    seen = []
    for record in outcome.records:
        if record["op"] == "fault":
            faults[record["id"]].append(record)
            seen.append(record)
        elif record["op"] in ("snapshot", "update"):
            seen.append(_as_client_saw(dict(record), _fault(record, faults[record["id"]]), outcome.crashed))
        else:
            seen.append(record)
    return seen


def _fault(record: Mapping[str, Any], faults: list[Mapping[str, Any]]) -> str:
    """The fault of a request: the first of its operation since it arrived; empty if there is none."""
    for fault in faults:
        if fault["at"] >= record["received_at"] and fault["kind"].startswith(record["op"]):
            if fault["at"] > record["answered_at"] or fault["n"] != record.get("n"):
                return ""
            faults.remove(fault)
            return str(fault["kind"])
    return ""


def _as_client_saw(record: dict[str, Any], fault: str, crashed: list[WallTime]) -> Mapping[str, Any]:
    received = record["received_at"]
    seconds = READ_SECONDS if record["op"] == "snapshot" else UPDATE_SECONDS
    ends = [received + seconds, *(at for at in crashed if at >= received)]
    if fault == "update.drip":
        record["answered_at"] -= DRIP_MOST_SECONDS  # the server also waits after the last byte
    if record["answered_at"] >= min(ends):
        record |= {"answered_at": min(ends), "answer": "the client had gone"}
    if fault and record["answer"] == HTTPStatus.OK and fault not in USABLE:
        record["answer"] = "a fault"
    return record


def _journal(outcome: Outcome) -> Iterator[str]:
    """What is wrong with the journal, by itself and compared with the log."""
    if outcome.checked is not None:
        yield from (f"journal: {problem}" for problem in outcome.checked.problems)
    for past in outcome.past:
        if past.outcome == "unknown":
            yield f"journal: the intent {past.sequence} is open"
        for ending in past.endings:
            if "id differs" in ending.reason:
                yield f"journal: the intent {past.sequence} has the body of another allocation"
    used: Counter[int] = Counter()
    posts = [record for record in outcome.records if record["op"] == "update"]
    for post in sorted(posts, key=lambda record: int(record["n"])):
        name = f"update n={post['n']} of {str(post['id'])[:8]}"
        before = [
            past
            for past in outcome.past
            if past.allocation == post["id"]
            and past.at <= post["received_at"] + server_log_oracle.TOLERANCE_SECONDS
        ]
        if not before:
            yield f"{name}: no intent was recorded"
            continue
        intent = before[-1]
        used[intent.sequence] += 1
        if used[intent.sequence] > 1:
            yield f"{name}: the intent {intent.sequence} was already sent"
        if post["applied_at"] is not None and {each.outcome for each in intent.endings} & {*NEVER_APPLIED}:
            yield f"{name}: applied, but the journal says {intent.outcome}"


def _foreign(outcome: Outcome) -> Iterator[str]:
    """Unmanaged fields that updates have changed, except those that another client wrote before."""
    written: dict[str, set[str]] = defaultdict(set)
    for record in outcome.records:
        if record["op"] == "writer":
            written[record["id"]].update(record["changed"])
    for record in outcome.records:
        if record["op"] == "update":
            ours = {
                name
                for key, desired in outcome.declared.items()
                if key == record["id"]
                for name, _ in desired.fields
            }
            for name in set(record["changed"]) - ours - written[record["id"]]:
                yield f"update n={record['n']} changed {name}, which is not declared"


def timeline(outcome: Outcome) -> str:
    """The run for people to read, in order: the server's log, the events, what the daemon reported."""
    lines = list(outcome.notes)
    for record in outcome.records:
        fields = {name: value for name, value in record.items() if name not in ("op", "body", "body_sha256")}
        for name in ("received_at", "answered_at", "applied_at", "at"):
            if fields.get(name) is not None:
                fields[name] = round(fields[name] - WALL_SECONDS, 3)
        at = next(record[name] for name in ("received_at", "at", "applied_at") if name in record)
        lines.append((at, f"server {record['op']} {fields}"))
    lines_of_text = [
        f"{at - WALL_SECONDS:9.3f} {line}" for at, line in sorted(lines, key=lambda line: line[0])
    ]
    for past in outcome.past:
        endings = ", ".join(
            f"{each.at - WALL_SECONDS:.3f} {each.outcome} ({each.reason})" for each in past.endings
        )
        changes = {each.field: each.desired for each in past.changes}
        lines_of_text.append(
            f"intent {past.sequence} {past.allocation[:8]} {past.at - WALL_SECONDS:.3f} {changes}: {endings}"
        )
    return "\n".join(lines_of_text)
