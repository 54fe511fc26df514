"""Creates events for tests; a field that a test does not give has a plain value of its type."""

from dataclasses import fields
from typing import Any, TypeVar

from allocsync.model.condition import Condition
from allocsync.model.ids import AllocationId
from allocsync.reconcile.events import Event
from allocsync.reconcile.operation import Operation

E = TypeVar("E", bound=Event)
ID = AllocationId("0d5b7c90")
PLAIN: dict[str, object] = {
    "allocation": ID,
    "reconcile": "r-1",
    "answer": "live",
    "outcome": "applied",
    "status": None,
    "settle_seconds": None,
    "supported": True,
    "asked": True,
    "cause": "edit",
    "scope": "one",
    "before": None,
    "after": Condition.PENDING,
    "operation": Operation.READ,
    "fields": (),
    "changes": (),
}
TEXTS = {"revision", "reason", "by", "ends", "owner"}


def made(kind: type[E], **given: object) -> E:
    """Return an event of this kind with these fields; numbers that are not given are 0."""
    names = [field.name for field in fields(kind)]
    if unknown := given.keys() - set(names):
        raise TypeError(f"{kind.name} has no fields {unknown}")
    plain: dict[str, Any] = {name: PLAIN.get(name, "" if name in TEXTS else 0) for name in names}
    if kind.name == "revision_approved":
        plain["changes"] = 0
    if kind.name == "update_finished":
        plain["outcome"] = "accepted"
    plain.update(given)
    return kind(**plain)
