"""Parses the fault configuration: the JSON of `--faults` and of `PUT /-/faults`.

A configuration is one phase, or a timeline of phases.

The rules:
- A configuration with a mistake changes nothing. The error names the key and the allowed values.
- `all` applies to every operation that has the setting. A value of the operation itself overrides it.

Left out: what the settings do (`reference_server.faults`).
"""

import json
from collections.abc import Mapping, Sequence

from allocsync.api import json_codec
from allocsync.model.cloud import DECLARABLE, STATUSES
from allocsync.reference_server.faults import FAULTS, OPERATIONS, FaultSettings, Phase, Writer

DAY_SECONDS = 86_400.0
# Each is [least, most] or one number. `latency_seconds` is the wait before a request is handled,
# `timeout_seconds` the wait before a 504, `drip_seconds` the time between two bytes, and `late_seconds` the
# time from the answer until a late update is applied.
SECONDS = {
    "update": ("latency_seconds", "timeout_seconds", "late_seconds", "drip_seconds"),
    "snapshot": ("latency_seconds", "timeout_seconds", "drip_seconds"),
    "list": ("latency_seconds", "timeout_seconds", "drip_seconds"),
}
_RETRY = ("retry_after", "retry_after_date_seconds")
_OWN = {
    "update": ("applied", "ignores"),
    "snapshot": ("cache_seconds",),
    "list": ("omits", "stale_seconds", "cache_seconds"),
}
_PHASE = ("seed", "all", *OPERATIONS, "writer", "ticks_per_second")
_MAX_HEADER_CHARACTERS = 200
# The settings other than the faults themselves: an example and its description.
EXAMPLES = (
    (
        '{"seed": 7, "all": {"502": 0.1}}',
        "`seed` makes every run draw the same faults; `all` applies to each operation that has the setting",
    ),
    ('{"update": {"503": 0.2, "retry_after": 5}}', "a Retry-After header: seconds, or any text"),
    (
        '{"update": {"429": 0.2, "retry_after_date_seconds": 30}}',
        "a Retry-After header with a date this many seconds from now",
    ),
    (
        '{"update": {"500": 0.2, "applied": 1}}',
        "how often an update is applied with a fault that may or may not apply it; 0.5 by default",
    ),
    (
        '{"all": {"latency_seconds": [0.1, 2]}}',
        "how long every request waits: seconds, or [least, most]",
    ),
    ('{"update": {"timeout_after": 0.2, "timeout_seconds": 60}}', "how long a 504 takes"),
    (
        '{"update": {"timeout_late": 0.2, "late_seconds": [1, 30]}}',
        "how long after its answer a late update is applied",
    ),
    ('{"snapshot": {"drip": 0.1, "drip_seconds": 0.5}}', "the time between two bytes"),
    (
        '{"update": {"ignores": ["region"]}}',
        "fields that an update does not change, though its answer shows the new value",
    ),
    ('{"list": {"omits": 0.01}}', "the share of allocations that are missing from a list"),
    ('{"list": {"stale_seconds": 60}}', "the greatest age of the data in a list"),
    (
        '{"all": {"cache_seconds": 60}}',
        "how long a cache answers reads with what it got once, with the headers Age and Date",
    ),
    (
        '{"writer": {"per_second": 0.5, "field": "region", "value": "mars"}}',
        "another client that changes a field",
    ),
    (
        '{"writer": {"per_second": 0.5, "field": "region", "back": true}}',
        "another client that restores a field to its value at the start",
    ),
    ('{"ticks_per_second": 1}', "how often `updated` of a random allocation changes"),
    (
        '{"timeline": [{"seconds": 60, "all": {"503": 1}}, {}]}',
        "phases one after the other: an outage, then no faults",
    ),
)


class FaultConfigError(ValueError):
    """The fault configuration is wrong. The text names the key and what is allowed."""


def decode_fault_config(text: bytes | str) -> object:
    """Decode the JSON text of a fault configuration, for `parse_phases`.

    Raises:
        FaultConfigError: the text is not JSON.
    """
    try:
        json_codec.loads(text)  # refuses NaN and deep nesting, which `json.loads` accepts
        given: object = json.loads(text)
    except ValueError as error:
        raise FaultConfigError(f"the faults are not JSON: {error}") from error
    return given


def parse_phases(given: object) -> tuple[Phase, ...]:
    """Return the phases of a configuration: those of its `timeline`, or one without end.

    Raises:
        FaultConfigError: a key is unknown, or a value is out of range.
    """
    # `fired` and `phase` are ignored, so that the body of a GET can be edited and sent back with PUT.
    body = _object(given, "", (*_PHASE, "timeline", "fired", "phase"))
    body = {name: value for name, value in body.items() if name not in ("fired", "phase")}
    if "timeline" not in body:
        return (_phase(body, ""),)
    if len(body) > 1:
        others = ", ".join(name for name in body if name != "timeline")
        raise FaultConfigError(f"timeline: {others} must be inside a phase, not beside the timeline")
    steps = body["timeline"]
    if not isinstance(steps, list) or not steps:
        raise FaultConfigError(f"timeline: {_shorten(steps)} is not a list of phases")
    phases = [
        _phase(_object(step, f"timeline[{index}]", (*_PHASE, "seconds")), f"timeline[{index}].")
        for index, step in enumerate(steps)
    ]
    for index, phase in enumerate(phases[:-1]):
        if phase.seconds is None:
            raise FaultConfigError(
                f"timeline[{index}].seconds: required; only the last phase may be without end"
            )
    return tuple(phases)


def _phase(body: Mapping[str, object], where: str) -> Phase:
    seed = body.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise FaultConfigError(f"{where}seed: {_shorten(seed)} is not a whole number")
    shared = _object(body.get("all", {}), f"{where}all", _allowed(*OPERATIONS))
    settings = {}
    for name in OPERATIONS:
        own = _object(body.get(name, {}), f"{where}{name}", _allowed(name))
        inherited = {key: value for key, value in shared.items() if key in _allowed(name)}
        settings[name] = _fault_settings(name, {**inherited, **own}, f"{where}{name}")
    ticks = body.get("ticks_per_second", 0)
    seconds = body.get("seconds")
    return Phase(
        body=body,
        settings=settings,
        seed=seed,
        writer=_writer(body["writer"], f"{where}writer") if body.get("writer") is not None else None,
        ticks_per_second=_number(f"{where}ticks_per_second", ticks, 1_000.0, "a second"),
        seconds=None if seconds is None else _number(f"{where}seconds", seconds, DAY_SECONDS, "seconds"),
    )


def _allowed(*operations: str) -> tuple[str, ...]:
    names = [fault.name for fault in FAULTS if set(operations) & set(fault.operations)]
    for operation in operations:
        names += [*SECONDS[operation], *_OWN[operation]]
    return tuple(dict.fromkeys([*names, *_RETRY]))


def _fault_settings(operation: str, body: Mapping[str, object], where: str) -> FaultSettings:
    shares = {
        fault: _number(f"{where}.{fault.name}", body[fault.name], 1.0, "the share of requests that meet it")
        for fault in FAULTS
        if fault.name in body
    }
    if sum(shares.values()) > 1 + 1e-9:
        names = ", ".join(fault.name for fault in shares)
        raise FaultConfigError(
            f"{where}: {names} add up to more than 1, but a request meets at most one fault"
        )
    seconds = {name: _span(f"{where}.{name}", body[name]) for name in SECONDS[operation] if name in body}
    return FaultSettings(
        shares,
        seconds,
        retry_after=_retry_after(body, where),
        applied=_number(
            f"{where}.applied", body.get("applied", 0.5), 1.0, "the share of updates that are applied"
        ),
        ignores=_fields(f"{where}.ignores", body.get("ignores", [])),
        omits=_number(f"{where}.omits", body.get("omits", 0), 1.0, "the share of clouds"),
        stale_seconds=_number(f"{where}.stale_seconds", body.get("stale_seconds", 0), DAY_SECONDS, "seconds"),
        cache_seconds=_number(f"{where}.cache_seconds", body.get("cache_seconds", 0), DAY_SECONDS, "seconds"),
    )


def _retry_after(body: Mapping[str, object], where: str) -> str | float | None:
    text, date = body.get("retry_after"), body.get("retry_after_date_seconds")
    if text is not None and date is not None:
        raise FaultConfigError(f"{where}: set retry_after or retry_after_date_seconds, not both")
    if date is not None:
        if isinstance(date, bool) or not isinstance(date, int | float) or abs(date) > DAY_SECONDS:
            raise FaultConfigError(
                f"{where}.retry_after_date_seconds: {_shorten(date)} is not a number of seconds"
            )
        return float(date)
    if text is None:
        return None
    header = str(text) if isinstance(text, int) and not isinstance(text, bool) else text
    if not isinstance(header, str) or not header.isprintable() or len(header) > _MAX_HEADER_CHARACTERS:
        raise FaultConfigError(
            f"{where}.retry_after: {_shorten(text)} is neither seconds nor printable text of a header"
        )
    return header


def _fields(where: str, given: object) -> tuple[str, ...]:
    names = given if isinstance(given, list) else [given]
    for name in names:
        if name not in DECLARABLE:
            raise FaultConfigError(f"{where}: {_shorten(name)} is not one of {', '.join(DECLARABLE)}")
    return tuple(names)


def _writer(given: object, where: str) -> Writer:
    body = _object(given, where, ("per_second", "field", "value", "back"))
    name, value = body.get("field", "urls.vanity.url"), body.get("value", "null.pieces.cloud")
    back = body.get("back", False)
    if not isinstance(name, str) or name not in DECLARABLE:
        raise FaultConfigError(f"{where}.field: {_shorten(name)} is not one of {', '.join(DECLARABLE)}")
    if not isinstance(value, str):
        raise FaultConfigError(f"{where}.value: {_shorten(value)} is not a string")
    if not isinstance(back, bool) or (back and "value" in body):
        raise FaultConfigError(
            f"{where}.back: must be true or false, without a value beside it: back restores the first value"
        )
    if name.endswith(("status", "status.cloud")) and not back and value not in STATUSES:
        raise FaultConfigError(f"{where}.value: {name} must be one of {', '.join(STATUSES)}")
    per_second = _number(f"{where}.per_second", body.get("per_second"), 1_000.0, "writes a second")
    if per_second == 0:
        raise FaultConfigError(
            f"{where}.per_second: must be more than 0; leave out writer to have no other client"
        )
    return Writer(per_second, name, None if back else value)


def _object(given: object, name: str, allowed: Sequence[str]) -> Mapping[str, object]:
    where = f"{name}: " if name else ""
    if not isinstance(given, Mapping):
        raise FaultConfigError(
            f"{where}{_shorten(given)} is not an object; its keys may be {', '.join(allowed)}"
        )
    for key in given:
        if key not in allowed:
            raise FaultConfigError(f"{where}unknown key {key!r}; allowed are {', '.join(allowed)}")
    return given


def _number(name: str, given: object, most: float, meaning: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise FaultConfigError(f"{name}: {_shorten(given)} is not a number from 0 to {most:g} ({meaning})")
    return float(given)


def _span(name: str, given: object) -> tuple[float, float]:
    ends = list(given) if isinstance(given, list | tuple) else [given, given]
    if len(ends) != 2:  # noqa: PLR2004 - a span has two ends
        raise FaultConfigError(f"{name}: {_shorten(given)} is neither a number of seconds nor [least, most]")
    least, most = (_number(name, end, DAY_SECONDS, "seconds") for end in ends)
    if least > most:
        raise FaultConfigError(f"{name}: {_shorten(given)}: the least is more than the most")
    return least, most


def _shorten(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - so that the error fits on one line
