"""The table of faults, and the random draws that decide which request meets which fault.

The rules:
- There is one draw for each request, in the order of arrival. Each operation has its own random generator,
  and all of them derive from one seed. Requests in the same order meet the same faults, and reads do not
  change what updates meet.
- A fault that fires is counted as `operation.fault` from the start of the server.
- A new fault is a new row of FAULTS. A new kind of effect or of response is also a new Effect or Body.

Left out: how faults are configured (`reference_server.fault_config`), how a fault responds
(`reference_server.fault_responses`) and what it does to the data (`reference_server.handlers`).
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

OPERATIONS = ("update", "snapshot", "list")
READS = ("snapshot", "list")


class Effect(Enum):
    """When an update that meets a fault is applied."""

    NEVER = auto()
    BEFORE_ANSWER = auto()
    LATE = auto()  # `late_seconds` after the answer
    PERHAPS = auto()  # before the answer with the probability `applied`, else never
    PARTLY = auto()  # before the answer, but only every other field


class Body(Enum):
    """The body of the response."""

    TEXT = auto()  # the reason phrase of the status
    CLOUD = auto()  # the response without the fault
    CUT_OFF = auto()  # half of that response, then the connection is closed
    DRIPPING = auto()  # that response, one byte every `drip_seconds`
    OTHER_ID = auto()  # that response with another id
    HTML = auto()  # a login page
    RESET = auto()  # no response: the connection is reset
    EMPTY = auto()
    REDIRECT = auto()  # to the same path


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault: its name in the configuration, its response, and its effect on an update."""

    name: str
    status: int
    description: str
    operations: tuple[str, ...] = OPERATIONS
    effect: Effect = Effect.NEVER
    body: Body = Body.TEXT
    is_timeout: bool = False  # the response comes after `timeout_seconds`


_UPDATE = ("update",)
_EACH = ("update", "snapshot")
_PERHAPS = Effect.PERHAPS
FAULTS = (
    Fault("timeout_before", 504, "504; the update is never applied", _UPDATE, is_timeout=True),
    Fault(
        "timeout_after",
        504,
        "504; the update was applied",
        _UPDATE,
        effect=Effect.BEFORE_ANSWER,
        is_timeout=True,
    ),
    Fault(
        "timeout_late",
        504,
        "504; the update is applied `late_seconds` after the answer",
        _UPDATE,
        effect=Effect.LATE,
        is_timeout=True,
    ),
    Fault(
        "timeout_partly",
        504,
        "504; only every other field of the update was applied",
        _UPDATE,
        effect=Effect.PARTLY,
        is_timeout=True,
    ),
    Fault("timeout", 504, "504", READS, is_timeout=True),
    Fault(
        "reset_before", 0, "the connection is reset; the update is never applied", _UPDATE, body=Body.RESET
    ),
    Fault(
        "reset_after",
        0,
        "the connection is reset; the update was applied",
        _UPDATE,
        effect=Effect.BEFORE_ANSWER,
        body=Body.RESET,
    ),
    Fault("reset", 0, "the connection is reset", READS, body=Body.RESET),
    Fault("500", 500, "500 Internal Server Error", effect=_PERHAPS),
    Fault("502", 502, "502 Bad Gateway", effect=_PERHAPS),
    Fault("503", 503, "503 Service Unavailable", effect=_PERHAPS),
    Fault("400", 400, "400 Bad Request"),
    Fault("401", 401, "401 Unauthorized"),
    Fault("409", 409, "409 Conflict, as while another update is under way", _UPDATE),
    Fault("422", 422, "422 Unprocessable Entity", _UPDATE),
    Fault("423", 423, "423 Locked, as during a migration"),
    Fault("425", 425, "425 Too Early", _UPDATE),
    Fault("429", 429, "429 Too Many Requests"),
    Fault(
        "202", 202, "202; the update is applied `late_seconds` after the answer", _UPDATE, effect=Effect.LATE
    ),
    Fault("204", 204, "204 without a body", _EACH, effect=_PERHAPS, body=Body.EMPTY),
    Fault(
        "302",
        302,
        "302 to the same path; a client that follows it sends a GET instead of a POST",
        body=Body.REDIRECT,
    ),
    Fault(
        "307",
        307,
        "307 to the same path; a client that follows it is redirected for ever",
        body=Body.REDIRECT,
    ),
    Fault(
        "partly",
        200,
        "200; only every other field of the update was applied",
        _UPDATE,
        effect=Effect.PARTLY,
        body=Body.CLOUD,
    ),
    Fault(
        "cut_off",
        200,
        "200; the connection is closed in the middle of the body",
        effect=_PERHAPS,
        body=Body.CUT_OFF,
    ),
    Fault(
        "drip",
        200,
        "200; the body is sent one byte every `drip_seconds`",
        effect=_PERHAPS,
        body=Body.DRIPPING,
    ),
    Fault(
        "html", 200, "200 with an HTML page, like the login page of a proxy", effect=_PERHAPS, body=Body.HTML
    ),
    Fault(
        "wrong_id", 200, "200 with the id of another allocation", _EACH, effect=_PERHAPS, body=Body.OTHER_ID
    ),
)


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """The fault settings of one operation.

    `shares` is the probability of each fault. `seconds` is the (minimum, maximum) of each duration, such as
    `latency_seconds`.
    """

    shares: Mapping[Fault, float]
    seconds: Mapping[str, tuple[float, float]]
    retry_after: str | float | None = None  # the header's text, or how many seconds from now its HTTP date is
    applied: float = 0.5  # the probability that an update is applied with Effect.PERHAPS
    ignores: tuple[str, ...] = ()  # fields that stay as they are, though the response shows the new value
    omits: float = 0.0  # the share of clouds that are missing from a list
    stale_seconds: float = 0.0  # the greatest age of the data in a list
    cache_seconds: float = 0.0  # how long an answer to a read is kept, and sent again with its Age


@dataclass(frozen=True, slots=True)
class Writer:
    """Another client that changes one field of a random cloud from time to time.

    With the value None it restores the value that the field had at the start.
    """

    per_second: float
    field: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Phase:
    """All fault settings for a period of time; `body` is the configuration as it was given."""

    body: Mapping[str, object]
    settings: Mapping[str, FaultSettings]
    seed: int = 0
    writer: Writer | None = None
    ticks_per_second: float = 0.0  # how often `updated` of a random cloud changes
    seconds: float | None = None  # the length of the phase; None: without end


@dataclass(frozen=True, slots=True)
class FaultDraw:
    """The draw for one request: at most one fault, and how long everything takes.

    `applied` is whether an update with Effect.PERHAPS is applied.
    """

    fault: Fault | None
    settings: FaultSettings
    applied: bool
    latency_seconds: float
    timeout_seconds: float
    late_seconds: float
    drip_seconds: float

    @property
    def fault_name(self) -> str | None:
        """The name of the fault, or None without one."""
        return None if self.fault is None else self.fault.name

    @property
    def effect(self) -> Effect:
        """When the update is applied. Never Effect.PERHAPS, which the draw has decided."""
        if self.fault is None:
            return Effect.BEFORE_ANSWER
        if self.fault.effect is Effect.PERHAPS:
            return Effect.BEFORE_ANSWER if self.applied else Effect.NEVER
        return self.fault.effect


class FaultSampler:
    """Draws the faults of one phase, and counts those that fire."""

    def __init__(self, phase: Phase, fired: Counter[str]) -> None:
        self.phase = phase
        self._fired = fired
        root = random.Random(phase.seed)  # noqa: S311 - faults, not secrets
        self._generators = {
            name: random.Random(root.getrandbits(64))  # noqa: S311 - likewise
            for name in (*OPERATIONS, "writer", "ticks", "omits")
        }

    def draw(self, operation: str) -> FaultDraw:
        """Draw what the next request of this operation meets."""
        settings, generator = self.phase.settings[operation], self._generators[operation]
        names = ("latency_seconds", "timeout_seconds", "late_seconds", "drip_seconds")
        seconds = {name: generator.uniform(*settings.seconds.get(name, (0.0, 0.0))) for name in names}
        fault = _pick_fault(settings.shares, generator.random())
        if fault is not None:
            self._fired[f"{operation}.{fault.name}"] += 1
        if seconds["latency_seconds"] > 0:
            self._fired[f"{operation}.latency_seconds"] += 1
        return FaultDraw(fault, settings, generator.random() < settings.applied, **seconds)

    def draw_interval_seconds(self, name: str, per_second: float) -> float:
        """Draw the seconds until the next event of this generator, at an average of `per_second`."""
        return self._generators[name].expovariate(per_second)

    def draw_index(self, name: str, count: int) -> int:
        """Draw an index below `count` with this generator."""
        return self._generators[name].randrange(count)

    def draw_omission(self) -> bool:
        """Draw whether the next cloud is missing from a list."""
        share = self.phase.settings["list"].omits
        if share <= 0 or self._generators["omits"].random() >= share:
            return False
        self._fired["list.omits"] += 1
        return True


def _pick_fault(shares: Mapping[Fault, float], point: float) -> Fault | None:
    for fault, share in shares.items():
        if point < share:
            return fault
        point -= share
    return None
