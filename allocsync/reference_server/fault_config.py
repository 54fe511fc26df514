"""Reads knobs: the JSON of `--faults` and of `PUT /-/faults`, as one phase or a timeline of them.

The rule: a body of knobs that holds a mistake changes nothing, and the mistake is named with what would do.
`all` stands for each operation that has the knob; what an operation says itself goes before it.

Left out: what the knobs do (`faults`).
"""

import json
from collections.abc import Mapping, Sequence

from allocsync.api import json_codec
from allocsync.model.cloud import DECLARABLE, STATUSES
from allocsync.reference_server.faults import FAULTS, OPERATIONS, Knobs, Phase, Writer

DAY_SECONDS = 86_400.0
# [least, most] or one number. `latency_seconds` is waited for before anything is done, `timeout_seconds`
# before a 504, `drip_seconds` between two bytes; `late_seconds` is from the answer to the landing.
SECONDS = {
    "update": ("latency_seconds", "timeout_seconds", "late_seconds", "drip_seconds"),
    "snapshot": ("latency_seconds", "timeout_seconds", "drip_seconds"),
    "list": ("latency_seconds", "timeout_seconds", "drip_seconds"),
}
_RETRY = ("retry_after", "retry_after_date_seconds")
_OWN = {"update": ("applied", "ignores"), "snapshot": (), "list": ("omits", "stale_seconds")}
_PHASE = ("seed", "all", *OPERATIONS, "writer", "ticks_per_second")
_MOST_HEADER = 200
# What can be turned besides the faults themselves, each by an example.
EXAMPLES = (
    (
        '{"seed": 7, "all": {"502": 0.1}}',
        "the same dice in every run; `all`: for each operation that has the knob",
    ),
    ('{"update": {"503": 0.2, "retry_after": 5}}', "a Retry-After header: seconds, or any text at all"),
    (
        '{"update": {"429": 0.2, "retry_after_date_seconds": 30}}',
        "a Retry-After header with a date so far from now",
    ),
    (
        '{"update": {"500": 0.2, "applied": 1}}',
        "how often a fault that perhaps applies an update does; 0.5 if not said",
    ),
    (
        '{"all": {"latency_seconds": [0.1, 2]}}',
        "how long every request waits: seconds, or from least to most",
    ),
    ('{"update": {"timeout_after": 0.2, "timeout_seconds": 60}}', "how long a 504 takes"),
    (
        '{"update": {"timeout_late": 0.2, "late_seconds": [1, 30]}}',
        "when a late update lands, counted from its answer",
    ),
    ('{"snapshot": {"drip": 0.1, "drip_seconds": 0.5}}', "the time between two bytes"),
    ('{"update": {"ignores": ["region"]}}', "fields that are taken, echoed and not honoured"),
    ('{"list": {"omits": 0.01}}', "the share of clouds that a list lacks"),
    ('{"list": {"stale_seconds": 60}}', "a list as old as that"),
    (
        '{"writer": {"per_second": 0.5, "field": "region", "value": "mars"}}',
        "another client that changes a field",
    ),
    (
        '{"writer": {"per_second": 0.5, "field": "region", "back": true}}',
        "another client that changes a field back",
    ),
    ('{"ticks_per_second": 1}', "`updated` moves by itself"),
    ('{"timeline": [{"seconds": 60, "all": {"503": 1}}, {}]}', "one after the other: an outage, then none"),
)


class FaultsError(ValueError):
    """The knobs are wrong; says which and what would do."""


def read_faults(text: bytes | str) -> object:
    """A JSON text of knobs, for `phases_of`.

    Raises:
        FaultsError: it is not JSON.
    """
    try:
        json_codec.loads(text)  # refuses NaN and nesting without bound
        given: object = json.loads(text)
    except ValueError as error:
        raise FaultsError(f"the faults are not JSON: {error}") from error
    return given


def phases_of(given: object) -> tuple[Phase, ...]:
    """The phases that a body describes: one for ever, or those of its `timeline`, the last one for ever.

    Raises:
        FaultsError: a knob is unknown or out of range.
    """
    # `fired` and `phase` are let be, so that what GET shows can be changed and put back.
    body = _object(given, "", (*_PHASE, "timeline", "fired", "phase"))
    body = {name: value for name, value in body.items() if name not in ("fired", "phase")}
    if "timeline" not in body:
        return (_phase(body, ""),)
    if len(body) > 1:
        others = ", ".join(name for name in body if name != "timeline")
        raise FaultsError(f"timeline: {others} beside it would be in no phase; put it into the phases")
    steps = body["timeline"]
    if not isinstance(steps, list) or not steps:
        raise FaultsError(f"timeline: {_shown(steps)} is not a list of phases")
    phases = [
        _phase(_object(step, f"timeline[{index}]", (*_PHASE, "seconds")), f"timeline[{index}].")
        for index, step in enumerate(steps)
    ]
    for index, phase in enumerate(phases[:-1]):
        if phase.seconds is None:
            raise FaultsError(
                f"timeline[{index}].seconds: how long it lasts is needed; only the last needs none"
            )
    return tuple(phases)


def _phase(body: Mapping[str, object], where: str) -> Phase:
    seed = body.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise FaultsError(f"{where}seed: a whole number is needed")
    shared = _object(body.get("all", {}), f"{where}all", _allowed(*OPERATIONS))
    knobs = {}
    for name in OPERATIONS:
        own = _object(body.get(name, {}), f"{where}{name}", _allowed(name))
        inherited = {key: value for key, value in shared.items() if key in _allowed(name)}
        knobs[name] = _knobs(name, {**inherited, **own}, f"{where}{name}")
    ticks = body.get("ticks_per_second", 0)
    seconds = body.get("seconds")
    return Phase(
        body=body,
        knobs=knobs,
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


def _knobs(operation: str, body: Mapping[str, object], where: str) -> Knobs:
    shares = {
        fault: _number(f"{where}.{fault.name}", body[fault.name], 1.0, "the share of requests that it hits")
        for fault in FAULTS
        if fault.name in body
    }
    if sum(shares.values()) > 1 + 1e-9:
        names = ", ".join(fault.name for fault in shares)
        raise FaultsError(f"{where}: {names} add up to more than 1; at most one of them hits a request")
    seconds = {name: _span(f"{where}.{name}", body[name]) for name in SECONDS[operation] if name in body}
    return Knobs(
        shares,
        seconds,
        retry_after=_retry_after(body, where),
        applied=_number(f"{where}.applied", body.get("applied", 0.5), 1.0, "how often it is applied"),
        ignores=_fields(f"{where}.ignores", body.get("ignores", [])),
        omits=_number(f"{where}.omits", body.get("omits", 0), 1.0, "the share of clouds"),
        stale_seconds=_number(f"{where}.stale_seconds", body.get("stale_seconds", 0), DAY_SECONDS, "seconds"),
    )


def _retry_after(body: Mapping[str, object], where: str) -> str | float | None:
    text, date = body.get("retry_after"), body.get("retry_after_date_seconds")
    if text is not None and date is not None:
        raise FaultsError(f"{where}: retry_after or retry_after_date_seconds, not both")
    if date is not None:
        if isinstance(date, bool) or not isinstance(date, int | float) or abs(date) > DAY_SECONDS:
            raise FaultsError(f"{where}.retry_after_date_seconds: {_shown(date)} is not a number of seconds")
        return float(date)
    if text is None:
        return None
    header = str(text) if isinstance(text, int) and not isinstance(text, bool) else text
    if not isinstance(header, str) or not header.isprintable() or len(header) > _MOST_HEADER:
        raise FaultsError(f"{where}.retry_after: {_shown(text)} is neither seconds nor the text of a header")
    return header


def _fields(where: str, given: object) -> tuple[str, ...]:
    names = given if isinstance(given, list) else [given]
    for name in names:
        if name not in DECLARABLE:
            raise FaultsError(f"{where}: {_shown(name)} is not one of {', '.join(DECLARABLE)}")
    return tuple(names)


def _writer(given: object, where: str) -> Writer:
    body = _object(given, where, ("per_second", "field", "value", "back"))
    name, value = body.get("field", "urls.vanity.url"), body.get("value", "null.pieces.cloud")
    back = body.get("back", False)
    if not isinstance(name, str) or name not in DECLARABLE:
        raise FaultsError(f"{where}.field: {_shown(name)} is not one of {', '.join(DECLARABLE)}")
    if not isinstance(value, str):
        raise FaultsError(f"{where}.value: {_shown(value)} is not a text")
    if not isinstance(back, bool) or (back and "value" in body):
        raise FaultsError(
            f"{where}.back: true or false, and no value beside it: back is to what was there first"
        )
    if name.endswith(("status", "status.cloud")) and not back and value not in STATUSES:
        raise FaultsError(f"{where}.value: {name} must be one of {', '.join(STATUSES)}")
    per_second = _number(f"{where}.per_second", body.get("per_second"), 1_000.0, "writes a second")
    if per_second == 0:
        raise FaultsError(f"{where}.per_second: more than 0; leave the writer out to have none")
    return Writer(per_second, name, None if back else value)


def _object(given: object, name: str, allowed: Sequence[str]) -> Mapping[str, object]:
    where = f"{name}: " if name else ""
    if not isinstance(given, Mapping):
        raise FaultsError(f"{where}{_shown(given)} is not an object with any of {', '.join(allowed)}")
    for key in given:
        if key not in allowed:
            raise FaultsError(f"{where}unknown key {key!r}; allowed are {', '.join(allowed)}")
    return given


def _number(name: str, given: object, most: float, meaning: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise FaultsError(f"{name}: {_shown(given)} is not a number from 0 to {most:g} ({meaning})")
    return float(given)


def _span(name: str, given: object) -> tuple[float, float]:
    ends = list(given) if isinstance(given, list | tuple) else [given, given]
    if len(ends) != 2:  # noqa: PLR2004 - a span has two ends
        raise FaultsError(f"{name}: {_shown(given)} is neither a number of seconds nor [least, most]")
    least, most = (_number(name, end, DAY_SECONDS, "seconds") for end in ends)
    if least > most:
        raise FaultsError(f"{name}: {_shown(given)}: the least is above the most")
    return least, most


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - so that an error stays a line
