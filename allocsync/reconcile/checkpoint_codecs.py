"""The stored form of everything that survives a restart: one encoder and one decoder for each value. Pure.

The rules: a stored key never changes its name or its meaning, whatever the attribute behind it is called; a
new key gets a default in its decoder; a change that an older allocsync would misread raises the format of the
journal (`journal.database.FORMAT`), and an older one refuses such a file. Every time is stored on the wall
clock, in seconds to the millisecond, and null means never. A wall clock can jump, so a decoded time is never
later than the rules could have put it.

Live values are stored in the form of `model.lossless_json`, written `value` below. The keys of the table:

    allocation/ID   {"leaves": …, "ghosts": …, "meanwhile": {field: value}, "moved": bool, "restraint": …}
                    without the parts that have nothing to say
    settle          see `encode_settle_time`
    writes          see `encode_write_quota`
    baseline/ID     see `encode_declaration`: what a new revision is compared with
    in_force/ID     the same: what is active where the baseline has something else
    pause/all, pause/of/ID     see `encode_pause`

Left out: when each is stored (`checkpoint`, `pause_control`, `rollout`), and checksums (`journal.checksum`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, TypeAlias

from allocsync.model.desired_state import Desired, Mode
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import decode_changes, encode_changes
from allocsync.model.lossless_json import tagged, untagged
from allocsync.reconcile.allocation.field_records import Leaf, Leaves
from allocsync.reconcile.allocation.late_writes import Ghost, Ghosts
from allocsync.reconcile.allocation.managed_allocation import Lane
from allocsync.reconcile.allocation.settle_time import Settle
from allocsync.reconcile.allocation.write_backoff import JOURNAL, By, Restraint
from allocsync.reconcile.gates.pause import Pause
from allocsync.reconcile.gates.write_quota import Budget
from allocsync.reconcile.parameters import Rules

Stored: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Moves times between the monotonic clock and the wall clock. `now` is monotonic, in seconds."""

    offset_seconds: float  # from the monotonic clock to the wall clock
    now: float

    def to_wall(self, at: float) -> float | None:
        """The wall time of a monotonic time, to the millisecond; None for never (an infinity)."""
        return round(at + self.offset_seconds, 3) if isfinite(at) else None

    def from_wall(self, at: float | None, *, latest: float, never: float = -inf) -> float:
        """The monotonic time of a stored wall time, at most `latest`; `never` for None."""
        return never if at is None else min(at - self.offset_seconds, latest)


def encode_allocation(lane: Lane, clocks: Clocks) -> Stored | None:
    """Everything of one allocation; None when there is nothing to store.

    What a read shows anyway (differences, the condition, failed reads) is not stored.
    """
    parts: Stored = {
        "leaves": encode_field_records(lane.past.leaves, clocks),
        "ghosts": encode_late_writes(lane.past.ghosts, clocks),
        "meanwhile": {name: tagged(value) for name, value in lane.past.meanwhile.items()},
        "moved": lane.past.moved,
        "restraint": encode_write_backoff(lane.restraint, clocks),
    }
    return {name: part for name, part in parts.items() if part} or None


def decode_allocation(lane: Lane, stored: Mapping[str, Any], clocks: Clocks) -> None:
    """Give a new allocation what `encode_allocation` returned."""
    past, rules = lane.past, lane.rules
    past.leaves = decode_field_records(stored.get("leaves", {}), clocks, rules)
    past.ghosts = decode_late_writes(stored.get("ghosts", {}), clocks, rules)
    past.meanwhile = {name: untagged(value) for name, value in stored.get("meanwhile", {}).items()}
    past.moved = stored.get("moved", False)
    if "restraint" in stored:
        lane.restraint = decode_write_backoff(stored["restraint"], clocks, rules)


def encode_late_writes(ghosts: Ghosts, clocks: Clocks) -> Stored:
    """{"ghosts": [a late write, …], "known": {field: value}, "before": {field: value}}, the oldest first.

    Each late write: sequence (its row in the journal), since and until (it may still land), leaves {field:
    text}, changes [field], undeclared and rest (hashes), accepted, unseen_at, told (already reported).
    Empty when there is none.
    """
    if not ghosts.ghosts:
        return {}
    return {
        "ghosts": [
            {
                "sequence": ghost.sequence,
                "since": clocks.to_wall(ghost.since),
                "until": clocks.to_wall(ghost.until),
                "leaves": dict(ghost.leaves),
                "changes": sorted(ghost.changes),
                "undeclared": ghost.undeclared,
                "accepted": ghost.accepted,
                "unseen_at": clocks.to_wall(ghost.unseen_at),
                "rest": ghost.rest,
                "told": ghost.told,
            }
            for ghost in ghosts.ghosts
        ],
        "known": {name: tagged(value) for name, value in ghosts.known.items()},
        "before": {name: tagged(value) for name, value in ghosts.before.items()},
    }


def decode_late_writes(stored: Mapping[str, Any], clocks: Clocks, rules: Rules) -> Ghosts:
    """What `encode_late_writes` was given."""
    return Ghosts(
        ghosts=[
            Ghost(
                sequence=row["sequence"],
                since=clocks.from_wall(row["since"], latest=clocks.now),
                until=clocks.from_wall(row["until"], latest=clocks.now + rules.ghost_seconds),
                leaves=dict(row["leaves"]),
                changes=frozenset(row["changes"]),
                undeclared=row["undeclared"],
                accepted=row["accepted"],
                unseen_at=clocks.from_wall(row["unseen_at"], latest=clocks.now),
                rest=row.get("rest", ""),
                told=row.get("told", False),
            )
            for row in stored.get("ghosts", ())
        ],
        known={name: untagged(value) for name, value in stored.get("known", {}).items()},
        before={name: untagged(value) for name, value in stored.get("before", {}).items()},
    )


def encode_field_records(leaves: Leaves, clocks: Clocks) -> Stored:
    """{field: one object}, empty when nothing is remembered.

    Each object: accepted (text or null), accepted_at, accepted_live (value); refused (text or null),
    refused_at, refused_live (value), again_at, moves; flips [time], slowed_until, slowdowns, equal_since.
    """
    return {
        field: {
            "accepted": leaf.accepted,
            "accepted_at": clocks.to_wall(leaf.accepted_at),
            "accepted_live": tagged(leaf.accepted_live),
            "refused": leaf.refused,
            "refused_at": clocks.to_wall(leaf.refused_at),
            "refused_live": tagged(leaf.refused_live),
            "again_at": clocks.to_wall(leaf.again_at),
            "moves": leaf.moves,
            "flips": [clocks.to_wall(at) for at in leaf.flips],
            "slowed_until": clocks.to_wall(leaf.slowed_until),
            "slowdowns": leaf.slowdowns,
            "equal_since": clocks.to_wall(leaf.equal_since),
        }
        for field, leaf in leaves.records.items()
    }


def decode_field_records(stored: Mapping[str, Any], clocks: Clocks, rules: Rules) -> Leaves:
    """What `encode_field_records` was given."""
    now = clocks.now
    return Leaves(
        {
            field: Leaf(
                accepted=row["accepted"],
                accepted_at=clocks.from_wall(row["accepted_at"], latest=now),
                accepted_live=untagged(row["accepted_live"]),
                refused=row["refused"],
                refused_at=clocks.from_wall(row["refused_at"], latest=now),
                refused_live=untagged(row["refused_live"]),
                again_at=clocks.from_wall(row["again_at"], latest=now + rules.refused_seconds, never=inf),
                moves=row["moves"],
                flips=tuple(clocks.from_wall(at, latest=now) for at in row["flips"]),
                slowed_until=clocks.from_wall(row["slowed_until"], latest=now + rules.contested_most_seconds),
                slowdowns=row["slowdowns"],
                equal_since=clocks.from_wall(row["equal_since"], latest=now, never=inf),
            )
            for field, row in stored.items()
        }
    )


def encode_write_backoff(restraint: Restraint, clocks: Clocks) -> Stored:
    """{"until": {reason: time}, "failures", "error", "terminal": [[field, value, text]], "terminal_until"}.

    Empty when nothing forbids an update. Trouble of the journal ends with the process, because a journal that
    can be read again can be written; what a check of ours refused is checked again.
    """
    until = {reason: at for reason, at in restraint.until.items() if reason != JOURNAL}
    terminal = restraint.terminal if restraint.refused_by is By.API else ()
    if not (restraint.failures or terminal or until):
        return {}
    return {
        "until": {reason: clocks.to_wall(at) for reason, at in until.items()},
        "failures": restraint.failures,
        "error": restraint.error,
        "terminal": encode_changes(terminal),
        "terminal_until": clocks.to_wall(restraint.terminal_until),
    }


def decode_write_backoff(stored: Mapping[str, Any], clocks: Clocks, rules: Rules) -> Restraint:
    """What `encode_write_backoff` was given."""
    latest = clocks.now + rules.wait_most_seconds
    return Restraint(
        until={reason: clocks.from_wall(at, latest=latest) for reason, at in stored["until"].items()},
        failures=stored["failures"],
        error=stored["error"],
        terminal=decode_changes(stored["terminal"]),
        terminal_until=clocks.from_wall(stored["terminal_until"], latest=clocks.now + rules.terminal_seconds),
    )


def encode_settle_time(settle: Settle, clocks: Clocks) -> Stored:
    """{"lag_seconds": the longest seen, "unknowns": [[when, seconds that it took], …]}."""
    return {
        "lag_seconds": round(settle.lag_seconds, 3),
        "unknowns": [[clocks.to_wall(at), round(took, 3)] for at, took in settle.unknowns],
    }


def decode_settle_time(stored: Mapping[str, Any], clocks: Clocks, rules: Rules) -> Settle:
    """What `encode_settle_time` was given."""
    return Settle(
        rules,
        lag_seconds=stored["lag_seconds"],
        unknowns=[(clocks.from_wall(at, latest=clocks.now), took) for at, took in stored["unknowns"]],
    )


def encode_write_quota(budget: Budget, clocks: Clocks) -> Stored | None:
    """{"spent": [[begin of a minute, updates in it], …]}; None when nothing was spent."""
    spent = [[clocks.to_wall(at), number] for at, number in budget.spent]
    return {"spent": spent} if spent else None


def decode_write_quota(stored: Mapping[str, Any], clocks: Clocks) -> list[tuple[float, int]]:
    """The updates of the last hour by the minute: [(begin of the minute, updates in it)]."""
    return [(clocks.from_wall(at, latest=clocks.now), number) for at, number in stored["spent"]]


def encode_pause(pause: Pause) -> Stored:
    """{"ends_at": wall time, not rounded, "reason", "owner"}."""
    return {"ends_at": pause.ends_at, "reason": pause.reason, "owner": pause.owner}


def encode_declaration(desired: Desired | None) -> Stored:
    """{"leaves": [[field, text]], "mode"}; {"mode": null} for an allocation that is not declared."""
    if desired is None:
        return {"mode": None}
    return {"leaves": [list(pair) for pair in desired.leaves], "mode": desired.mode.value}


def decode_declaration(key: str, stored: Mapping[str, Any]) -> Desired | None:
    """What `encode_declaration` was given for this id."""
    if stored["mode"] is None:
        return None
    leaves = tuple((name, value) for name, value in stored["leaves"])
    return Desired(AllocationId(key), leaves, Mode(stored["mode"]))
