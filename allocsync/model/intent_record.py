"""The record of an update, written before the update is sent, and the names of its outcomes.

The rule: the record is enough to judge the update after a restart. It holds the changes, every declared
field of the request body, and a hash of the rest of that body, so that a late application can be recognised.

Left out: where records are stored (`journal`), and who reads them (`reconcile`, `cli.commands.history`).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from allocsync.model.change import Change
from allocsync.model.cloud import Cloud
from allocsync.model.ids import AllocationId
from allocsync.model.lossless_json import decode_lossless, encode_lossless
from allocsync.model.times import WallTime

OUTCOMES = (
    "applied",  # the API accepted it, or a read shows it
    "applied_partial",  # a read shows some of its fields and not the others
    "late_applied",  # applied after it was judged not applied, or after a later update
    "not_applied",  # a read after the settle time does not show it, even though the API may have accepted it
    "superseded",  # that read shows neither the old values nor the ones sent
    "rejected",  # the API rejected it
    "not_sent",  # no request reached the API
    "void",  # the allocation does not exist (410)
    "stale_overwrite",  # its late application restored an old value of an unmanaged field
)
# Fields that the server changes by itself. An update that carries an old value of one overwrites no change
# that anybody made.
SERVERS_OWN = (
    *("updated", "schema", "status.cloud"),
    *("urls.base.status", "urls.id.status", "urls.vanity.status"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecord:
    """An update about to be sent. `fields` are all declared fields of its body, not only the changes.

    `unmanaged_hash` is what `hash_unmanaged_fields` returns for the body.
    """

    changes: tuple[Change, ...]
    fields: tuple[tuple[str, str], ...]
    unmanaged_hash: str
    revision: str = ""
    reason: str = ""

    def as_data(self) -> dict[str, object]:
        """The record as JSON values, as the journal stores it."""
        return {
            "changes": encode_changes(self.changes),
            "leaves": [list(pair) for pair in self.fields],
            "undeclared": self.unmanaged_hash,
            "generation": self.revision,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """An update whose outcome is unknown: its journal row, its wall clock time (Unix seconds), its record."""

    sequence: int
    allocation: AllocationId
    at: WallTime
    record: IntentRecord


@dataclass(frozen=True, slots=True)
class Restored:
    """What the journal holds from earlier processes.

    `memories` are the checkpoint's values by key. `gap` says why this process found records lost, None if it
    did not. `gap_at` is the wall clock time (Unix seconds) of the last loss, whichever process found it.
    """

    open_intents: tuple[OpenIntent, ...] = ()
    memories: Mapping[str, Any] = field(default_factory=dict)
    gap: str | None = None
    gap_at: WallTime | None = None


NOTHING_RESTORED = Restored()


def encode_changes(changes: tuple[Change, ...]) -> list[list[object]]:
    """[[field, live value, desired text]]."""
    return [[change.field, encode_lossless(change.live), change.desired] for change in changes]


def decode_changes(stored: list[list[Any]]) -> tuple[Change, ...]:
    """What `encode_changes` was given."""
    return tuple(Change(field, decode_lossless(live), desired) for field, live, desired in stored)


def intent_from(data: Mapping[str, Any]) -> IntentRecord:
    """Parse what `IntentRecord.as_data` returned.

    Raises:
        ValueError, KeyError, TypeError: the data is something else.
    """
    return IntentRecord(
        changes=decode_changes(data["changes"]),
        fields=tuple((field, value) for field, value in data["leaves"]),
        unmanaged_hash=data["undeclared"],
        revision=data["generation"],
        reason=data["reason"],
    )


def hash_unmanaged_fields(cloud: Cloud, declared: Collection[str]) -> str:
    """The hash of an object without the declared fields and without those that the server changes by itself.

    A nested object that holds only such fields counts as absent, because an update may have to create it.
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
            rest.append([key, encode_lossless(value)])
    return rest
