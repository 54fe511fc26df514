"""Which of the loop's events become log lines, under which name and how loud.

The rule: one line for what a person would want to know once. A look that fails again, or finds again what
observe mode may not repair, is `debug`; that an allocation's condition became Failing or Drifted is one line
with the reason. An update is always a line: it changes the world. So an outage of the API costs a line per
allocation, not one per attempt.

Left out: how a line is written (`logs`).
"""

import math
from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from allocsync.observe.logs import rfc3339
from allocsync.reconcile.events import Event
from allocsync.reconcile.status import Condition

_QUIET = {None, Condition.PENDING, Condition.IN_SYNC}
_LOUD = {Condition.MISSING, Condition.REFUSED, Condition.CONTESTED, Condition.HELD, Condition.FAILING}
_BUSY = {423, 429}  # the API asks for patience; that is no complaint about the update
_SHORT_DIGEST = 8

_UPDATES = {
    "accepted": ("info", "update_accepted"),
    "rejected": ("warning", "update_rejected"),
    "unknown": ("warning", "update_outcome_unknown"),
    "not_sent": ("debug", "update_not_sent"),
}
_VERDICTS = {
    "applied": ("info", "update_applied"),
    "applied_partial": ("warning", "update_applied_partial"),
    "not_applied": ("info", "update_not_applied"),
    "superseded": ("info", "update_superseded"),
    "void": ("info", "update_void"),
    "late_applied": ("warning", "update_late_applied"),
    "stale_overwrite": ("error", "stale_overwrite"),
}


class LogObserver:
    """An Observer that writes each event as a line, or leaves it out."""

    def __init__(self, logger: FilteringBoundLogger, *, wall: Callable[[], float]) -> None:
        self._logger = logger
        self._wall = wall
        self._generation: str | None = None

    def __call__(self, event: Event) -> None:
        """Log one event."""
        fields = {key: value for key, value in event.fields.items() if value not in (None, "")}
        if event.kind in {"generation_adopted", "generation_held"}:
            self._generation = str(fields["generation"])[:_SHORT_DIGEST]
        if event.reconcile is not None or "generation" in fields:
            fields["generation"] = self._generation
        level, name = _line(event)
        if isinstance(changes := fields.get("changes"), list | tuple):
            names = ("field", "live", "desired")
            fields["changes"] = [dict(zip(names, change, strict=False)) for change in changes]
        look_in = fields.pop("look_in_seconds", None)
        if isinstance(look_in, float | int) and math.isfinite(look_in):
            fields["look_at"] = rfc3339(self._wall() + look_in)
        write = getattr(self._logger, level)
        write(name, reconcile=event.reconcile, allocation=event.allocation, **fields)


def _line(event: Event) -> tuple[str, str]:
    """The level and the name of an event's line."""
    ways: Mapping[str, Callable[[Event], tuple[str, str]]] = {
        "look_finished": _look,
        "update_finished": _update,
        "update_settled": _settled,
        "condition_changed": _condition,
    }
    if event.kind in ways:
        return ways[event.kind](event)
    fields = event.fields
    levels = {
        "generation_held": "warning",
        "update_intended": "debug",
        "resync_started": "debug",
        "resync_finished": "info" if fields.get("differ") else "debug",
        "breaker_opened": "warning",
        "probe_started": "debug",
        "bulk_unavailable": "warning" if fields.get("supported") else "info",
        "stopped": "warning" if fields.get("open_intents") else "info",
    }
    return levels.get(event.kind, "info"), event.kind


def _look(event: Event) -> tuple[str, str]:
    answer = event.fields.get("answer")
    if answer in ("failed", "missing"):
        return "debug", f"look_{answer}"
    return "debug", "difference_found" if event.fields.get("differs") else "look_finished"


def _update(event: Event) -> tuple[str, str]:
    level, name = _UPDATES.get(str(event.fields.get("outcome")), ("warning", event.kind))
    if name == "update_rejected" and event.fields.get("status") in _BUSY:
        level = "info"
    return level, name


def _settled(event: Event) -> tuple[str, str]:
    return _VERDICTS.get(str(event.fields.get("outcome")), ("warning", event.kind))


def _condition(event: Event) -> tuple[str, str]:
    """Pending and InSync come and go with every update, which has lines of its own."""
    before, after = event.fields.get("before"), event.fields.get("after")
    if before in _QUIET and after in _QUIET:
        return "debug", event.kind
    return ("warning" if after in _LOUD else "info"), event.kind
