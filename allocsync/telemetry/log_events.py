"""Which of the loop's events become log lines, under which name and how loud.

The rule: one line for what a person would want to know once. A look that fails again, or finds again what
observe mode may not repair, is `debug`; that an allocation's condition became Failing or Drifted is one line
with the reason. What happens to many at once is told of the first few, and of the others at level debug and
as a sum, so that an outage of the API costs a page of lines and not one per allocation. An update that was
accepted is always a line, as it changes the world, and so is an error, as somebody must see it.

Left out: how a line is written (`logs`), and when many are too many (`crowds`).
"""

import math
from collections.abc import Callable
from dataclasses import asdict

from structlog.typing import FilteringBoundLogger

from allocsync.model.condition import Condition
from allocsync.reconcile import events
from allocsync.reconcile.operation import Slot
from allocsync.telemetry.log_sampling import Crowds
from allocsync.telemetry.log_setup import rfc3339

_QUIET = {None, Condition.PENDING, Condition.IN_SYNC}
_UNDER_WAY = {Condition.PENDING, Condition.IN_SYNC, Condition.OUTCOME_UNKNOWN}
_LOUD = {
    *(Condition.MISSING, Condition.IGNORED, Condition.CONFLICT, Condition.FAILING),
    *(Condition.AWAITING_APPROVAL, Condition.BLOCKED),
}
_BUSY = {423, 429}  # the API asks for patience; that is no complaint about the update
_SHORT_REVISION = 8

_UPDATES = {
    "accepted": ("info", "update_accepted"),
    "rejected": ("warning", "update_rejected"),
    "unknown": ("warning", "update_outcome_unknown"),
    "not_sent": ("debug", "update_not_sent"),
}
_OUTCOMES = {
    "applied": ("info", "update_applied"),
    "applied_partial": ("warning", "update_applied_partial"),
    "not_applied": ("info", "update_not_applied"),
    "superseded": ("info", "update_superseded"),
    "void": ("info", "update_void"),
    "late_applied": ("warning", "update_late_applied"),
    "stale_overwrite": ("error", "stale_overwrite"),
}


class LogObserver:
    """An observer that writes each event as a line, or leaves it out."""

    def __init__(
        self, logger: FilteringBoundLogger, *, wall: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self._logger = logger
        self._wall = wall
        self._now = now
        self._revision: str | None = None
        self._crowds = Crowds()
        self._open: set[Slot] = set()  # operations whose breaker is open

    def __call__(self, event: events.Event) -> None:
        """Log one event."""
        match event:
            case events.RevisionActivated() | events.RevisionAwaitingApproval():
                self._revision = event.revision[:_SHORT_REVISION]
            case events.BreakerOpened():
                self._open.add(event.operation)
            case events.BreakerClosed():
                self._open.discard(event.operation)
                self._sum_up()
            case events.Stopped():
                self._sum_up()
        self.tend()
        level, name = level_and_name(event)
        if not self._admits(event, level, name):
            level = "debug"
        getattr(self._logger, level)(name, **self._fields(event))

    def _fields(self, event: events.Event) -> dict[str, object]:
        found = {key: value for key, value in events.fields_of(event).items() if value not in (None, "")}
        if "reconcile" in found or "revision" in found:
            found["revision"] = self._revision
        if isinstance(event, events.UpdateFinished):
            found["changes"] = [
                {"field": change.field, "live": change.live, "desired": change.desired}
                for change in event.changes
            ]
            seconds = found.pop("next_read_in_seconds")
            if isinstance(seconds, float) and math.isfinite(seconds):
                found["next_read_at"] = rfc3339(self._wall() + seconds)
        return found

    def tend(self) -> None:
        """Tell what was left out, if it is time; to be called every few seconds."""
        if self._crowds.due(self._now()):
            self._sum_up()

    def _admits(self, event: events.Event, level: str, name: str) -> bool:
        """Whether this is not one of too many lines that say the same."""
        if level not in {"info", "warning"} or name == "update_accepted":
            return True
        after, reason = None, ""
        match event:
            case events.ConditionChanged():
                after, reason = str(event.after), event.reason
            case events.UpdateFinished() | events.UpdateSettled() | events.ListUnavailable():
                reason = event.reason
            case events.ResyncFinished():
                pass
            case _:
                return True
        return self._crowds.admits(name, after, reason=reason, now=self._now(), outage=bool(self._open))

    def _sum_up(self) -> None:
        found = self._crowds.take(self._now())
        if found is not None:
            self._logger.warning(
                "lines_suppressed",
                lines=sum(left.lines for left in found.left),
                seconds=round(found.seconds, 3),
                of=[
                    {key: value for key, value in asdict(left).items() if value not in (None, "")}
                    for left in found.left
                ],
                note="each is a line at level debug; `allocsync status` has every allocation",
            )


def level_and_name(event: events.Event) -> tuple[str, str]:  # noqa: C901, PLR0911 - one case an event
    """The level and the name of an event's line."""
    match event:
        case events.ReadFinished(answer="live"):
            return "debug", "difference_found" if event.differs else event.name
        case events.ReadFinished():
            return "debug", f"read_{event.answer}"
        case events.UpdateFinished(outcome="rejected", status=status) if status in _BUSY:
            return "info", "update_rejected"
        case events.UpdateFinished():
            return _UPDATES[event.outcome]
        case events.UpdateSettled():
            return _OUTCOMES[event.outcome]
        case events.ConditionChanged():
            return _condition(event), event.name
        case events.RevisionAwaitingApproval() | events.BreakerOpened():
            return "warning", event.name
        case events.UpdateIntended() | events.ResyncStarted() | events.ProbeStarted():
            return "debug", event.name
        case events.ResyncFinished():
            return "info" if event.differ else "debug", event.name
        case events.ListUnavailable():
            return "warning" if event.supported else "info", event.name
        case events.Stopped():
            return "warning" if event.open_intents else "info", event.name
        case _:
            return "info", event.name


def _condition(event: events.ConditionChanged) -> str:
    """Pending, InSync and OutcomeUnknown come and go with every update, which has lines of its own."""
    if {event.before, event.after} <= _QUIET or {event.before, event.after} <= _UNDER_WAY:
        return "debug"
    return "warning" if event.after in _LOUD else "info"
