"""Turns the controller's events into log lines: the name and the level of each.

The rules: a line at level info or above is something a person wants to know once. So every single read is at
level debug, also one that fails. The change of condition that it leads to is one line with the reason. If
the same happens to many allocations, the first few lines keep their level. The others are at level debug
and are counted, so that an outage of the API makes a page of lines and not one for each allocation. Lines
of accepted updates and lines at level error always keep their level.

Left out: how a line is written (`telemetry.log_setup`), and when lines are too many
(`telemetry.log_sampling`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

from structlog.typing import FilteringBoundLogger

from allocsync.model.condition import Condition
from allocsync.model.times import Monotonic, WallTime
from allocsync.reconcile import events
from allocsync.reconcile.operation import Operation
from allocsync.telemetry.log_sampling import LogSampler
from allocsync.telemetry.log_setup import rfc3339

_NORMAL = {None, Condition.PENDING, Condition.IN_SYNC}
_DURING_AN_UPDATE = {Condition.PENDING, Condition.IN_SYNC, Condition.OUTCOME_UNKNOWN}
_NEEDS_ATTENTION = {
    *(Condition.MISSING, Condition.IGNORED, Condition.CONFLICT, Condition.FAILING),
    *(Condition.AWAITING_APPROVAL, Condition.BLOCKED),
}
_RETRY_LATER = {409, 423, 425, 429}  # the API asks to wait; it does not reject the update itself
_REVISION_DIGITS = 8

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
    """An Observer that logs events. If similar lines are too many, the rest are at `debug`, with a summary.

    `wall` gives seconds since the epoch, `now` monotonic seconds.
    """

    def __init__(
        self, logger: FilteringBoundLogger, *, wall: Callable[[], WallTime], now: Callable[[], Monotonic]
    ) -> None:
        self._logger = logger
        self._wall = wall
        self._now = now
        self._revision: str | None = None
        self._sampler = LogSampler()
        self._open_breakers: set[Operation] = set()

    def __call__(self, event: events.Event) -> None:
        """Log one event."""
        match event:
            case events.RevisionActivated() | events.RevisionAwaitingApproval():
                self._revision = event.revision[:_REVISION_DIGITS]
            case events.BreakerOpened():
                self._open_breakers.add(event.operation)
            case events.BreakerClosed():
                self._open_breakers.discard(event.operation)
                self._log_summary()
            case events.Stopped():
                self._log_summary()
        self.tick()
        level, name = _level_and_name(event)
        if not self._is_allowed(event, level, name):
            level = "debug"
        getattr(self._logger, level)(name, **self._fields(event))

    def _fields(self, event: events.Event) -> dict[str, object]:
        found = _without_empty(events.fields_of(event))
        if "reconcile" in found or "revision" in found:
            found["revision"] = self._revision
        if isinstance(event, events.AnotherWriterSuspected):
            found["changed_back_at"] = [[rfc3339(at) for at in times] for times in event.changed_back_at]
        if isinstance(event, events.ApiUnreachable):
            found["since"] = rfc3339(event.since)
        if isinstance(event, events.UpdateFinished):
            found["changes"] = [
                {"field": change.field, "live": change.live, "desired": change.desired}
                for change in event.changes
            ]
            seconds = found.pop("next_read_in_seconds")
            if isinstance(seconds, float) and math.isfinite(seconds):
                found["next_read_at"] = rfc3339(self._wall() + seconds)
        if isinstance(event, events.ReadsCached):
            found["age_seconds"] = round(event.age_seconds)
            found["note"] = (
                f"reads are up to {event.age_seconds:.0f} s old: a cache between allocsync and the API "
                "answers them; exclude the API from it, or updates wait until its answers end"
            )
        return found

    def tick(self) -> None:
        """Log a summary of suppressed lines if one is due. To be called every few seconds."""
        if self._sampler.is_summary_due(self._now()):
            self._log_summary()

    def _is_allowed(self, event: events.Event, level: str, name: str) -> bool:
        """Return whether the line may have its level; False if there are too many lines like it."""
        if level not in {"info", "warning"} or name == "update_accepted":
            return True
        after, reason = None, ""
        match event:
            case events.ConditionChanged():
                after, reason = str(event.after), event.reason
            case events.UpdateFinished() | events.UpdateSettled() | events.ListUnavailable():
                reason = event.reason
            case events.ResyncFinished() | events.AnotherWriterSuspected():
                pass
            case _:
                return True
        return self._sampler.allow(
            name, after, reason=reason, now=self._now(), outage=bool(self._open_breakers)
        )

    def _log_summary(self) -> None:
        summary = self._sampler.take_summary(self._now())
        if summary is not None:
            self._logger.warning(
                "lines_suppressed",
                lines=sum(group.lines for group in summary.suppressed),
                seconds=round(summary.seconds, 3),
                of=[_without_empty(asdict(group)) for group in summary.suppressed],
                note="each is a line at level debug; `allocsync status` lists every allocation",
            )


def _without_empty(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value not in (None, "")}


def _level_and_name(event: events.Event) -> tuple[str, str]:  # noqa: C901, PLR0911, PLR0912 - one case an event
    """Return the level and the name of an event's line."""
    match event:
        case events.ReadFinished(answer="live"):
            return "debug", "difference_found" if event.differs else event.name
        case events.ReadFinished():
            return "debug", f"read_{event.answer}"
        case events.UpdateFinished(outcome="rejected", status=status) if status in _RETRY_LATER:
            return "info", "update_rejected"
        case events.UpdateFinished():
            return _UPDATES[event.outcome]
        case events.UpdateSettled():
            return _SETTLED[event.outcome]
        case events.ConditionChanged():
            return _condition_level(event), event.name
        case events.ApiUnreachable():
            return "error", event.name
        case events.AnotherWriterSuspected() | events.RevisionAwaitingApproval():
            return "warning", event.name
        case events.BreakerOpened() | events.ReadsCached():
            return "warning", event.name
        case events.UpdateIntended() | events.ResyncStarted() | events.ProbeStarted() | events.Converged():
            return "debug", event.name
        case events.ResyncFinished():
            return "info" if event.differ else "debug", event.name
        case events.ListUnavailable():
            return "warning" if event.supported else "info", event.name
        case events.Stopped():
            return "warning" if event.open_intents else "info", event.name
        case _:
            return "info", event.name


def _condition_level(event: events.ConditionChanged) -> str:
    """Log the conditions that every update passes through at debug: an update has lines of its own."""
    if {event.before, event.after} <= _NORMAL or {event.before, event.after} <= _DURING_AN_UPDATE:
        return "debug"
    return "warning" if event.after in _NEEDS_ATTENTION else "info"
