"""What is written down of an update before it leaves, and the words for how it ended.

The rule: the record alone is enough to judge the update after a restart: what it changes, every declared leaf
that its body carries, and a hash of all the rest of that body, so that its landing is recognised late.

Left out: where it is kept (`journal`) and who reads it (`reconcile`, `history`).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId
from allocsync.model.lossless_json import tagged, untagged

OUTCOMES = (
    "applied",  # accepted, or seen in a read
    "applied_partial",  # some of its fields show, the others do not
    "late_applied",  # it landed after it had been given up, or after a later one
    "not_applied",  # a read after the settle time does not show it, or what was accepted is not honoured
    "superseded",  # that read shows neither what was there nor what was sent
    "rejected",  # the API refused it
    "not_sent",  # it never left
    "void",  # the allocation is gone (410)
    "stale_overwrite",  # its landing put back something that is not declared
)
# What moves by itself; an update that carries an old one of these back has overwritten nobody's change.
SERVERS_OWN = (
    *("updated", "schema", "status.cloud"),
    *("urls.base.status", "urls.id.status", "urls.vanity.status"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecord:
    """An update that is about to leave. `undeclared` is the hash of its body without the declared leaves."""

    changes: tuple[Change, ...]
    leaves: tuple[tuple[str, str], ...]
    undeclared: str
    generation: str = ""
    reason: str = ""

    def as_data(self) -> dict[str, object]:
        """It as plain JSON."""
        return {
            "changes": encode_changes(self.changes),
            "leaves": [list(pair) for pair in self.leaves],
            "undeclared": self.undeclared,
            "generation": self.generation,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """An update whose outcome is not known: its row, when it was written (wall clock), what it was."""

    sequence: int
    allocation: AllocationId
    at: float
    record: IntentRecord


@dataclass(frozen=True, slots=True)
class Restored:
    """What an earlier process left. `gap` says why something is lost, None where nothing is.

    `gap_at` is when something was last found to be lost (wall clock), also by an earlier process.
    """

    open_intents: tuple[OpenIntent, ...] = ()
    memories: Mapping[str, Any] = field(default_factory=dict)
    gap: str | None = None
    gap_at: float | None = None


NOTHING_RESTORED = Restored()


def encode_changes(changes: tuple[Change, ...]) -> list[list[object]]:
    """[[field, live value, desired text]]."""
    return [[change.field, tagged(change.live), change.desired] for change in changes]


def decode_changes(stored: list[list[Any]]) -> tuple[Change, ...]:
    """What `encode_changes` was given."""
    return tuple(Change(field, untagged(live), desired) for field, live, desired in stored)


def intent_from(data: Mapping[str, Any]) -> IntentRecord:
    """The record that `as_data` wrote.

    Raises:
        ValueError, KeyError, TypeError: nothing that it writes.
    """
    return IntentRecord(
        changes=decode_changes(data["changes"]),
        leaves=tuple((field, value) for field, value in data["leaves"]),
        undeclared=data["undeclared"],
        generation=data["generation"],
        reason=data["reason"],
    )


def undeclared_hash(cloud: Cloud, declared: Collection[str]) -> str:
    """The hash of an object without these leaves and without what the server moves by itself.

    An object that holds nothing but such leaves counts like one that is not there, because an update may
    have to make it.
    """
    rest = _without(cloud, "", frozenset((*declared, *SERVERS_OWN)))
    return sha256(json.dumps(rest, separators=(",", ":")).encode()).hexdigest()


def _without(cloud: Cloud, prefix: str, fields: frozenset[str]) -> list[object]:
    rest: list[object] = []
    for key in sorted(cloud):
        path, value = f"{prefix}{key}", cloud[key]
        if path in fields:
            continue
        if isinstance(value, Mapping) and any(field.startswith(f"{path}.") for field in fields):
            inner = _without(value, f"{path}.", fields)
            if inner:
                rest.append([key, {"rest": inner}])
        else:
            rest.append([key, tagged(value)])
    return rest
