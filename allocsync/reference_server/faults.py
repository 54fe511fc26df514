"""What can be made to go wrong: the table of faults, and the dice that say which request one hits.

The rule: a dice is thrown once for each request, in the order of arrival, from a stream of each operation's
own; all streams come from one seed, so that a serial run repeats and reads do not move the dice of updates.
What fires is counted under `operation.fault`, from the start of the server on. A new fault is a new line in
FAULTS; a fault with another effect or another kind of answer, an Effect or a Body too.

Left out: how knobs are given (`knobs`), and what a fault does to a connection (`strike`) and to the store.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

OPERATIONS = ("update", "snapshot", "list")
READS = ("snapshot", "list")


class Effect(Enum):
    """When an update that a fault hits is applied."""

    NEVER = auto()
    BEFORE_ANSWER = auto()
    LATE = auto()  # `late_seconds` after the answer
    PERHAPS = auto()  # before the answer, or never: the share `applied` says how often
    PARTLY = auto()  # before the answer, every other field of it


class Body(Enum):
    """What comes with the status."""

    TEXT = auto()  # the reason, as text
    CLOUD = auto()  # the answer that there would have been
    CUT_OFF = auto()  # half of that, then the connection ends
    DRIPPING = auto()  # that, a byte every `drip_seconds`
    OTHER_ID = auto()  # that, of somebody else
    HTML = auto()  # a page for people
    RESET = auto()  # no answer at all: the connection is reset
    EMPTY = auto()
    REDIRECT = auto()  # to the same path


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong: its knob, what is answered, what becomes of an update."""

    name: str
    status: int
    says: str
    operations: tuple[str, ...] = OPERATIONS
    effect: Effect = Effect.NEVER
    body: Body = Body.TEXT
    waits: bool = False  # `timeout_seconds` before the answer


_UPDATE = ("update",)
_EACH = ("update", "snapshot")
_PERHAPS = Effect.PERHAPS
FAULTS = (
    Fault("timeout_before", 504, "504; the update is never applied", _UPDATE, waits=True),
    Fault(
        "timeout_after", 504, "504; the update was applied", _UPDATE, effect=Effect.BEFORE_ANSWER, waits=True
    ),
    Fault(
        "timeout_late",
        504,
        "504; the update is applied `late_seconds` after it",
        _UPDATE,
        effect=Effect.LATE,
        waits=True,
    ),
    Fault(
        "timeout_partly",
        504,
        "504; every other field of the update was applied",
        _UPDATE,
        effect=Effect.PARTLY,
        waits=True,
    ),
    Fault("timeout", 504, "504", READS, waits=True),
    Fault("reset_before", 0, "a reset; the update is never applied", _UPDATE, body=Body.RESET),
    Fault(
        "reset_after",
        0,
        "a reset; the update was applied",
        _UPDATE,
        effect=Effect.BEFORE_ANSWER,
        body=Body.RESET,
    ),
    Fault("reset", 0, "a reset", READS, body=Body.RESET),
    Fault("500", 500, "500 Internal Server Error", effect=_PERHAPS),
    Fault("502", 502, "502 Bad Gateway", effect=_PERHAPS),
    Fault("503", 503, "503 Service Unavailable", effect=_PERHAPS),
    Fault("401", 401, "401 Unauthorized"),
    Fault("423", 423, "423 Locked, as during a migration"),
    Fault("429", 429, "429 Too Many Requests"),
    Fault("202", 202, "202; the update is applied `late_seconds` after it", _UPDATE, effect=Effect.LATE),
    Fault("204", 204, "204 without a body", _EACH, effect=_PERHAPS, body=Body.EMPTY),
    Fault(
        "302",
        302,
        "302 to the same path: a client that follows it turns a POST into a GET",
        body=Body.REDIRECT,
    ),
    Fault(
        "307", 307, "307 to the same path: a client that follows it goes round in circles", body=Body.REDIRECT
    ),
    Fault(
        "partly",
        200,
        "200; every other field of the update was applied",
        _UPDATE,
        effect=Effect.PARTLY,
        body=Body.CLOUD,
    ),
    Fault("cut_off", 200, "200 whose body ends in the middle", effect=_PERHAPS, body=Body.CUT_OFF),
    Fault(
        "drip", 200, "200 whose body comes a byte every `drip_seconds`", effect=_PERHAPS, body=Body.DRIPPING
    ),
    Fault("html", 200, "200 with a page of HTML, as a proxy's login", effect=_PERHAPS, body=Body.HTML),
    Fault("wrong_id", 200, "200 with somebody else's id", _EACH, effect=_PERHAPS, body=Body.OTHER_ID),
)


@dataclass(frozen=True, slots=True)
class Knobs:
    """The knobs of one operation. Seconds are (least, most)."""

    shares: Mapping[Fault, float]
    seconds: Mapping[str, tuple[float, float]]
    retry_after: str | float | None = None  # a header's text, or an HTTP date in so many seconds
    applied: float = 0.5  # how often a fault that perhaps applies does
    ignores: tuple[str, ...] = ()  # fields of an update that are taken and not honoured
    omits: float = 0.0  # the share of clouds that a list lacks
    stale_seconds: float = 0.0  # a list may be as old as this


@dataclass(frozen=True, slots=True)
class Writer:
    """Another client, which changes a leaf of some cloud now and then; to None is back to what it was."""

    per_second: float
    field: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Phase:
    """All knobs, for a while; `body` is what was given."""

    body: Mapping[str, object]
    knobs: Mapping[str, Knobs]
    seed: int = 0
    writer: Writer | None = None
    ticks_per_second: float = 0.0  # how often `updated` of some cloud moves by itself
    seconds: float | None = None  # None: for ever


@dataclass(frozen=True, slots=True)
class Hit:
    """What befalls one request: at most one fault, and how long things take."""

    fault: Fault | None
    knobs: Knobs
    applied: bool
    latency_seconds: float
    timeout_seconds: float
    late_seconds: float
    drip_seconds: float

    @property
    def kind(self) -> str | None:
        """The fault's name."""
        return None if self.fault is None else self.fault.name

    @property
    def effect(self) -> Effect:
        """When the update is applied, the dice thrown."""
        if self.fault is None:
            return Effect.BEFORE_ANSWER
        if self.fault.effect is Effect.PERHAPS:
            return Effect.BEFORE_ANSWER if self.applied else Effect.NEVER
        return self.fault.effect


class Dice:
    """The dice of one phase, and what they have made fire."""

    def __init__(self, phase: Phase, fired: Counter[str]) -> None:
        self.phase = phase
        self._fired = fired
        root = random.Random(phase.seed)  # noqa: S311 - faults, not secrets
        self._dice = {
            name: random.Random(root.getrandbits(64))  # noqa: S311 - likewise
            for name in (*OPERATIONS, "writer", "ticks", "omits")
        }

    def throw(self, operation: str) -> Hit:
        """Throw the dice for one request."""
        knobs, dice = self.phase.knobs[operation], self._dice[operation]
        names = ("latency_seconds", "timeout_seconds", "late_seconds", "drip_seconds")
        seconds = {name: dice.uniform(*knobs.seconds.get(name, (0.0, 0.0))) for name in names}
        fault = _pick(knobs.shares, dice.random())
        if fault is not None:
            self._fired[f"{operation}.{fault.name}"] += 1
        if seconds["latency_seconds"] > 0:
            self._fired[f"{operation}.latency_seconds"] += 1
        return Hit(fault, knobs, dice.random() < knobs.applied, **seconds)

    def seconds_to_next(self, what: str, per_second: float) -> float:
        """In how many seconds the other writer strikes next, or `updated` ticks."""
        return self._dice[what].expovariate(per_second)

    def choose(self, what: str, count: int) -> int:
        """Which of so many clouds it takes, from 0."""
        return self._dice[what].randrange(count)

    def omitted(self) -> bool:
        """Whether a list lacks the next cloud."""
        share = self.phase.knobs["list"].omits
        if share <= 0 or self._dice["omits"].random() >= share:
            return False
        self._fired["list.omits"] += 1
        return True


def _pick(shares: Mapping[Fault, float], point: float) -> Fault | None:
    for fault, share in shares.items():
        if point < share:
            return fault
        point -= share
    return None
