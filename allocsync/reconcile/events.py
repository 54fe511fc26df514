"""What the loop tells the world: each thing that happens is one event, told once.

Logs, metrics and the terminal all read the same event, so that they cannot disagree. The kinds, with the
fields that each carries:

generation_adopted   generation, allocations, changed, removed, quarantined, files
generation_held      generation, reason, changed, added, removed, allocations, limit_percent
generation_approved  generation, changes, by (`canary` where no person did)
look_finished        source (get), answer (live missing failed), status, reason, elapsed_seconds, differs
update_intended      fields, sequence
update_finished      outcome (accepted rejected unknown not_sent), status, reason, elapsed_seconds,
                     settle_seconds and look_in_seconds when unknown, changes (field, live, desired)
update_settled       what was found out after it was sent: outcome (applied applied_partial late_applied
                     not_applied superseded void stale_overwrite), reason, sequence (its row in the
                     journal), waited_seconds (since it became unknown or was accepted), fields
condition_changed    before, after, reason
pause_begun          scope (all one), ends, reason, owner
pause_lifted         scope, by
pause_ended          scope
resync_started       how (bulk), allocations
resync_finished      how, allocations, differ, elapsed_seconds
bulk_unavailable     reason, supported, status, asked (whether a request was made)
breaker_opened       lane (read write), reason: nothing succeeds, one probe an interval goes from now on
breaker_closed       lane, open_seconds, probes
probe_started        lane
all_in_sync          allocations
stopping             in_flight
stopped              open_intents
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from allocsync.model.ids import AllocationId

KINDS = (
    "generation_adopted",
    "generation_held",
    "generation_approved",
    "look_finished",
    "update_intended",
    "update_finished",
    "update_settled",
    "condition_changed",
    "pause_begun",
    "pause_lifted",
    "pause_ended",
    "resync_started",
    "resync_finished",
    "bulk_unavailable",
    "breaker_opened",
    "breaker_closed",
    "probe_started",
    "all_in_sync",
    "stopping",
    "stopped",
)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `reconcile` is the id shared by all events of one pass over one allocation."""

    kind: str
    allocation: AllocationId | None = None
    reconcile: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)


Observer: TypeAlias = Callable[[Event], None]


class Tell(Protocol):
    """Tell the world of an event."""

    def __call__(
        self,
        kind: str,
        allocation: AllocationId | None = None,
        reconcile: str | None = None,
        **fields: object,
    ) -> None:
        """Tell it."""


def tell_all(observers: Iterable[Observer]) -> Observer:
    """One observer that tells each of these."""
    everyone = tuple(observers)

    def tell(event: Event) -> None:
        for observer in everyone:
            observer(event)

    return tell
