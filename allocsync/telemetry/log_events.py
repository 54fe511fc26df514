"""Turns the controller's events into log lines: the name and the level of each.

The rules: a line at level info or above is something a person wants to know once. A read that fails again,
or that again finds a difference in mode observe, is at level debug; the change of condition that it led to
is one line with the reason. If the same happens to many allocations, the first few are logged and the
others are counted, so that an outage of the API makes a page of lines and not one for each allocation.
Accepted updates and errors are always logged.

Left out: how a line is written (`telemetry.log_setup`), and when lines are too many
(`telemetry.log_sampling`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

from structlog.typing import FilteringBoundLogger

from allocsync.model.condition import Condition
from allocsync.reconcile.events import Event
from allocsync.telemetry.log_sampling import LogSampler
from allocsync.telemetry.log_setup import rfc3339

_NORMAL = {None, Condition.PENDING, Condition.IN_SYNC}
_DURING_AN_UPDATE = {Condition.PENDING, Condition.IN_SYNC, Condition.UNKNOWN}
_NEEDS_ATTENTION = {
    Condition.MISSING,
    Condition.REFUSED,
    Condition.CONTESTED,
    Condition.HELD,
    Condition.FAILING,
}
_RETRY_LATER = {423, 429}  # the API asks to wait; it does not reject the update itself
_REVISION_DIGITS = 8
_SAMPLED = {"update_finished", "update_settled", "condition_changed", "resync_finished", "bulk_unavailable"}

_UPDATES = {
    "accepted": ("info", "update_accepted"),
    "rejected": ("warning", "update_rejected"),
    "unknown": ("warning", "update_outcome_unknown"),
    "not_sent": ("debug", "update_not_sent"),
}
_SETTLED = {
    "applied": ("info", "update_applied"),
    "applied_partial": ("warning", "update_applied_partial"),
    "not_applied": ("info", "update_not_applied"),
    "superseded": ("info", "update_superseded"),
    "void": ("info", "update_void"),
    "late_applied": ("warning", "update_late_applied"),
    "stale_overwrite": ("error", "stale_overwrite"),
}


class LogObserver:
    """An Observer that logs events.

    `wall` gives seconds since the epoch, `now` monotonic seconds.
    """

    def __init__(
        self, logger: FilteringBoundLogger, *, wall: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self._logger = logger
        self._wall = wall
        self._now = now
        self._generation: str | None = None
        self._sampler = LogSampler()
        self._open_breakers: set[object] = set()  # operations (read, write)

    def __call__(self, event: Event) -> None:
        """Log one event."""
        fields = _without_empty(event.fields)
        if event.kind in {"generation_adopted", "generation_held"}:
            self._generation = str(fields["generation"])[:_REVISION_DIGITS]
        if event.reconcile is not None or "generation" in fields:
            fields["generation"] = self._generation
        level, name = self._sample(event, *_level_and_name(event))
        if isinstance(changes := fields.get("changes"), list | tuple):
            names = ("field", "live", "desired")
            fields["changes"] = [dict(zip(names, change, strict=False)) for change in changes]
        look_in = fields.pop("look_in_seconds", None)
        if isinstance(look_in, float | int) and math.isfinite(look_in):
            fields["look_at"] = rfc3339(self._wall() + look_in)
        write = getattr(self._logger, level)
        write(name, reconcile=event.reconcile, allocation=event.allocation, **fields)

    def tend(self) -> None:
        """Log a summary of suppressed lines if one is due. To be called every few seconds."""
        if self._sampler.is_summary_due(self._now()):
            self._log_summary()

    def _sample(self, event: Event, level: str, name: str) -> tuple[str, str]:
        """Return the level and the name of the line; debug if there are too many lines like it."""
        if event.kind == "breaker_opened":
            self._open_breakers.add(event.fields.get("lane"))
        elif event.kind == "breaker_closed":
            self._open_breakers.discard(event.fields.get("lane"))
        if event.kind in {"breaker_closed", "stopped"}:
            self._log_summary()
        self.tend()
        if event.kind not in _SAMPLED or level not in {"info", "warning"} or name == "update_accepted":
            return level, name
        after = event.fields.get("after")
        is_allowed = self._sampler.allow(
            name,
            None if after is None else str(after),
            reason=str(event.fields.get("reason", "")),
            now=self._now(),
            outage=bool(self._open_breakers),
        )
        return level if is_allowed else "debug", name

    def _log_summary(self) -> None:
        summary = self._sampler.take_summary(self._now())
        if summary is not None:
            self._logger.warning(
                "summed_up",
                lines=sum(group.lines for group in summary.suppressed),
                seconds=round(summary.seconds, 3),
                of=[_without_empty(asdict(group)) for group in summary.suppressed],
                note="each is a line at level debug; `allocsync status` lists every allocation",
            )


def _without_empty(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value not in (None, "")}


def _level_and_name(event: Event) -> tuple[str, str]:
    """Return the level and the name of an event's line."""
    by_kind: Mapping[str, Callable[[Event], tuple[str, str]]] = {
        "look_finished": _read_line,
        "update_finished": _update_line,
        "update_settled": _settled_line,
        "condition_changed": _condition_line,
    }
    if event.kind in by_kind:
        return by_kind[event.kind](event)
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


def _read_line(event: Event) -> tuple[str, str]:
    answer = event.fields.get("answer")
    if answer in ("failed", "missing"):
        return "debug", f"look_{answer}"
    return "debug", "difference_found" if event.fields.get("differs") else "look_finished"


def _update_line(event: Event) -> tuple[str, str]:
    level, name = _UPDATES.get(str(event.fields.get("outcome")), ("warning", event.kind))
    if name == "update_rejected" and event.fields.get("status") in _RETRY_LATER:
        level = "info"
    return level, name


def _settled_line(event: Event) -> tuple[str, str]:
    return _SETTLED.get(str(event.fields.get("outcome")), ("warning", event.kind))


def _condition_line(event: Event) -> tuple[str, str]:
    """Log the conditions that every update passes through at debug: an update has lines of its own."""
    before, after = event.fields.get("before"), event.fields.get("after")
    if {before, after} <= _NORMAL or {before, after} <= _DURING_AN_UPDATE:
        return "debug", event.kind
    return ("warning" if after in _NEEDS_ATTENTION else "info"), event.kind
