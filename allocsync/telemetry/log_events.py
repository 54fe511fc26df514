"""Which of the loop's events become log lines, under which name and how loud.

The rule: one line for what a person would want to know once. A look that fails again, or finds again what
observe mode may not repair, is `debug`; that an allocation's condition became Failing or Drifted is one line
with the reason. What happens to many at once is told of the first few, and of the others at level debug and
as a sum, so that an outage of the API costs a page of lines and not one per allocation. An update that was
accepted is always a line, as it changes the world, and so is an error, as somebody must see it.

Left out: how a line is written (`logs`), and when many are too many (`crowds`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

from structlog.typing import FilteringBoundLogger

from allocsync.model.condition import Condition
from allocsync.reconcile.events import Event
from allocsync.telemetry.log_sampling import Crowds
from allocsync.telemetry.log_setup import rfc3339

_QUIET = {None, Condition.PENDING, Condition.IN_SYNC}
_UNDER_WAY = {Condition.PENDING, Condition.IN_SYNC, Condition.UNKNOWN}
_LOUD = {Condition.MISSING, Condition.REFUSED, Condition.CONTESTED, Condition.HELD, Condition.FAILING}
_BUSY = {423, 429}  # the API asks for patience; that is no complaint about the update
_SHORT_DIGEST = 8
_CROWDS = {"update_finished", "update_settled", "condition_changed", "resync_finished", "bulk_unavailable"}

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

    def __init__(
        self, logger: FilteringBoundLogger, *, wall: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self._logger = logger
        self._wall = wall
        self._now = now
        self._generation: str | None = None
        self._crowds = Crowds()
        self._open: set[object] = set()  # breakers

    def __call__(self, event: Event) -> None:
        """Log one event."""
        fields = _present(event.fields)
        if event.kind in {"generation_adopted", "generation_held"}:
            self._generation = str(fields["generation"])[:_SHORT_DIGEST]
        if event.reconcile is not None or "generation" in fields:
            fields["generation"] = self._generation
        level, name = self._heard(event, *_line(event))
        if isinstance(changes := fields.get("changes"), list | tuple):
            names = ("field", "live", "desired")
            fields["changes"] = [dict(zip(names, change, strict=False)) for change in changes]
        look_in = fields.pop("look_in_seconds", None)
        if isinstance(look_in, float | int) and math.isfinite(look_in):
            fields["look_at"] = rfc3339(self._wall() + look_in)
        write = getattr(self._logger, level)
        write(name, reconcile=event.reconcile, allocation=event.allocation, **fields)

    def tend(self) -> None:
        """Tell what was left out, if it is time; to be called every few seconds."""
        if self._crowds.due(self._now()):
            self._sum_up()

    def _heard(self, event: Event, level: str, name: str) -> tuple[str, str]:
        """The level and the name of the line; quieter where there are too many that say the same."""
        if event.kind == "breaker_opened":
            self._open.add(event.fields.get("lane"))
        elif event.kind == "breaker_closed":
            self._open.discard(event.fields.get("lane"))
        if event.kind in {"breaker_closed", "stopped"}:
            self._sum_up()
        self.tend()
        if event.kind not in _CROWDS or level not in {"info", "warning"} or name == "update_accepted":
            return level, name
        after = event.fields.get("after")
        told = self._crowds.admits(
            name,
            None if after is None else str(after),
            reason=str(event.fields.get("reason", "")),
            now=self._now(),
            outage=bool(self._open),
        )
        return level if told else "debug", name

    def _sum_up(self) -> None:
        found = self._crowds.take(self._now())
        if found is not None:
            self._logger.warning(
                "summed_up",
                lines=sum(left.lines for left in found.left),
                seconds=round(found.seconds, 3),
                of=[_present(asdict(left)) for left in found.left],
                note="each is a line at level debug; `allocsync status` has every allocation",
            )


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value not in (None, "")}


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
    """Pending, InSync and Unknown come and go with every update, which has lines of its own."""
    before, after = event.fields.get("before"), event.fields.get("after")
    if {before, after} <= _QUIET or {before, after} <= _UNDER_WAY:
        return "debug", event.kind
    return ("warning" if after in _LOUD else "info"), event.kind
