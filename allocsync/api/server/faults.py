"""What can be made to go wrong: a table of faults, knobs for each operation, seeded, changed while it runs.

The rule: a dice is thrown once for each request, in the order of arrival, from a stream of each operation's
own; all streams come from one seed, so that a serial run repeats and reads do not move the dice of updates.
What fires is counted under `operation.fault`, from the start of the server on. A body of knobs that holds a
mistake changes nothing. A new fault is a new line in FAULTS; a fault with another effect, an Effect too.

Left out: what a fault does to a connection and to the store (`app`).
"""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from allocsync.api import wire
from allocsync.planning.model import DECLARABLE, STATUSES

OPERATIONS = ("update", "snapshot", "list")
DAY_SECONDS = 86_400.0


class Effect(Enum):
    """When an update that a fault hits is applied."""

    NEVER = auto()
    BEFORE_ANSWER = auto()
    LATE = auto()  # `late_seconds` after the answer


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong. `status` is what is answered, None: the connection is reset."""

    name: str
    status: int | None
    operations: tuple[str, ...] = ("update",)
    effect: Effect = Effect.NEVER


FAULTS = (
    Fault("timeout_before", 504),
    Fault("timeout_after", 504, effect=Effect.BEFORE_ANSWER),
    Fault("timeout_late", 504, effect=Effect.LATE),
    Fault("reset_before", None),
    Fault("reset_after", None, effect=Effect.BEFORE_ANSWER),
    Fault("timeout", 504, ("snapshot", "list")),
    Fault("reset", None, ("snapshot", "list")),
)
# Knobs that say how long something takes: [least, most] or one number, in seconds. `timeout_seconds` is how
# long a 504 is waited for, `late_seconds` how long after it a late update lands, `latency_seconds` how long
# every request waits before anything is done.
SECONDS = {
    "update": ("latency_seconds", "timeout_seconds", "late_seconds"),
    "snapshot": ("latency_seconds", "timeout_seconds"),
    "list": ("latency_seconds", "timeout_seconds"),
}


class FaultsError(ValueError):
    """The knobs are wrong; says which and what would do."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """The knobs of one operation: the share of requests that each fault hits, and how long things take."""

    shares: Mapping[Fault, float] = field(default_factory=dict)
    seconds: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Writer:
    """Another client, which changes a leaf of some cloud now and then."""

    per_second: float
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Hit:
    """What befalls one request: at most one fault, and how long things take."""

    fault: Fault | None
    latency_seconds: float = 0.0
    timeout_seconds: float = 0.0
    late_seconds: float = 0.0

    @property
    def kind(self) -> str | None:
        """The fault's name."""
        return None if self.fault is None else self.fault.name


class Faults:
    """The knobs in force and what has fired.

    Raises:
        FaultsError: a knob is wrong.
    """

    def __init__(self, given: object = None) -> None:
        self.fired: Counter[str] = Counter()
        self.replace({} if given is None else given)

    def replace(self, given: object) -> None:
        """Put these knobs in force in place of all others, with fresh dice.

        Raises:
            FaultsError: one is unknown or out of range; nothing changes.
        """
        # `fired` is let be, so that what GET shows can be changed and put back.
        body = _object(given, "", ("seed", *OPERATIONS, "writer", "fired"))
        knobs = {name: _knobs(name, body.get(name, {})) for name in OPERATIONS}
        writer = _writer(body["writer"]) if body.get("writer") is not None else None
        seed = body.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise FaultsError("seed: a whole number is needed")
        root = random.Random(seed)  # noqa: S311 - faults, not secrets
        self.given: Mapping[str, object] = {name: body[name] for name in body if name != "fired"}
        self.writer: Writer | None = writer
        self._knobs = knobs
        self._dice = {
            name: random.Random(root.getrandbits(64))  # noqa: S311 - likewise
            for name in (*OPERATIONS, "writer")
        }

    def throw(self, operation: str) -> Hit:
        """Throw the dice for one request."""
        knobs, dice = self._knobs[operation], self._dice[operation]
        seconds = {name: dice.uniform(*knobs.seconds.get(name, (0.0, 0.0))) for name in SECONDS[operation]}
        fault = _pick(knobs.shares, dice.random())
        if fault is not None:
            self.fired[f"{operation}.{fault.name}"] += 1
        if seconds["latency_seconds"] > 0:
            self.fired[f"{operation}.latency_seconds"] += 1
        return Hit(fault, **seconds)

    def seconds_to_next_write(self, writer: Writer) -> float:
        """In how many seconds the other writer strikes next."""
        return self._dice["writer"].expovariate(writer.per_second)

    def choose(self, count: int) -> int:
        """Which of so many clouds the other writer takes, from 0."""
        return self._dice["writer"].randrange(count)


def read_faults(text: bytes | str) -> object:
    """A JSON text of knobs, for `Faults`.

    Raises:
        FaultsError: it is not JSON.
    """
    try:
        wire.loads(text)  # refuses NaN and nesting without bound
        given: object = json.loads(text)
    except ValueError as error:
        raise FaultsError(f"the faults are not JSON: {error}") from error
    return given


def _pick(shares: Mapping[Fault, float], point: float) -> Fault | None:
    for fault, share in shares.items():
        if point < share:
            return fault
        point -= share
    return None


def _knobs(operation: str, given: object) -> Knobs:
    faults = [fault for fault in FAULTS if operation in fault.operations]
    body = _object(given, operation, (*(fault.name for fault in faults), *SECONDS[operation]))
    shares = {
        fault: _number(
            f"{operation}.{fault.name}", body[fault.name], 1.0, "the share of requests that it hits"
        )
        for fault in faults
        if fault.name in body
    }
    if sum(shares.values()) > 1 + 1e-9:
        names = ", ".join(fault.name for fault in shares)
        raise FaultsError(f"{operation}: {names} add up to more than 1; at most one of them hits a request")
    return Knobs(
        shares,
        {name: _span(f"{operation}.{name}", body[name]) for name in SECONDS[operation] if name in body},
    )


def _writer(given: object) -> Writer:
    body = _object(given, "writer", ("per_second", "field", "value"))
    name, value = body.get("field", "urls.vanity.url"), body.get("value", "null.pieces.cloud")
    if not isinstance(name, str) or name not in DECLARABLE:
        raise FaultsError(f"writer.field: {_shown(name)} is not one of {', '.join(DECLARABLE)}")
    if not isinstance(value, str):
        raise FaultsError(f"writer.value: {_shown(value)} is not a text")
    if name.endswith(("status", "status.cloud")) and value not in STATUSES:
        raise FaultsError(f"writer.value: {name} must be one of {', '.join(STATUSES)}")
    per_second = _number("writer.per_second", body.get("per_second"), 1_000.0, "writes a second")
    if per_second == 0:
        raise FaultsError("writer.per_second: more than 0; leave the writer out to have none")
    return Writer(per_second, name, value)


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
