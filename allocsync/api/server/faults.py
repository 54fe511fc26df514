"""What can be made to go wrong: knobs for each operation, seeded, changeable while the server runs.

The rule: a dice is thrown once for each request, from one seeded source, so that a serial run repeats; each
fault that fires is counted under its name. A body of knobs that holds a mistake changes nothing.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from allocsync.planning.model import DECLARABLE

# For each operation the faults of which at most one hits a request; their shares add up to at most 1.
KINDS = {
    "update": ("timeout_before", "timeout_after", "timeout_late", "reset_before", "reset_after"),
    "snapshot": ("timeout", "reset"),
    "list": ("timeout", "reset"),
}
SECONDS = {
    "update": ("late_seconds", "timeout_seconds"),
    "snapshot": ("timeout_seconds",),
    "list": ("timeout_seconds",),
}
Span: TypeAlias = tuple[float, float]


class FaultsError(ValueError):
    """The knobs are wrong; says which and what would do."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """The knobs of one operation."""

    shares: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    latency_seconds: Span = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Writer:
    """Another client, which changes a leaf of some cloud now and then."""

    per_second: float
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Hit:
    """What befalls one request: at most one fault, and how long its answer takes before that."""

    kind: str | None
    latency_seconds: float
    knobs: Knobs


class Faults:
    """The knobs in force and what has fired."""

    def __init__(self, given: object | None = None) -> None:
        self.given: Mapping[str, object] = {}
        self.fired: dict[str, int] = {}
        self.writer: Writer | None = None
        self._knobs: dict[str, Knobs] = {}
        self._random = random.Random(0)  # noqa: S311 - faults, not secrets
        self.replace({} if given is None else given)

    def replace(self, given: object) -> None:
        """Put these knobs in force in place of all others.

        Raises:
            FaultsError: one is unknown or out of range; nothing changes.
        """
        body = _object(given, "the faults", (*KINDS, "seed", "writer"))
        knobs = {name: _knobs(name, body.get(name, {})) for name in KINDS}
        writer = _writer(body["writer"]) if body.get("writer") is not None else None
        seed = body.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise FaultsError("seed: a whole number is needed")
        self.given, self._knobs, self.writer = body, knobs, writer
        self._random = random.Random(seed)  # noqa: S311 - likewise

    def throw(self, operation: str) -> Hit:
        """Throw the dice for one request."""
        knobs = self._knobs[operation]
        latency = self._random.uniform(*knobs.latency_seconds)
        point = self._random.random()
        for kind in KINDS[operation]:
            share = knobs.shares.get(kind, 0.0)
            if point < share:
                name = f"{operation}.{kind}"
                self.fired[name] = self.fired.get(name, 0) + 1
                return Hit(kind, latency, knobs)
            point -= share
        return Hit(None, latency, knobs)

    def next_write(self, ids: list[str]) -> tuple[float, str, Writer] | None:
        """In how many seconds the other writer strikes, which cloud, and how; None where there is none."""
        if self.writer is None or not ids:
            return None
        return self._random.expovariate(self.writer.per_second), self._random.choice(ids), self.writer


def _knobs(operation: str, given: object) -> Knobs:
    allowed = (*KINDS[operation], *SECONDS[operation], "latency_seconds")
    body = _object(given, operation, allowed)
    shares = {
        kind: _number(f"{operation}.{kind}", body[kind], 1.0) for kind in KINDS[operation] if kind in body
    }
    if sum(shares.values()) > 1 + 1e-9:
        raise FaultsError(f"{operation}: the shares add up to more than 1")
    seconds = {
        name: _number(f"{operation}.{name}", body[name], 86_400.0)
        for name in SECONDS[operation]
        if name in body
    }
    return Knobs(shares, seconds, _span(f"{operation}.latency_seconds", body.get("latency_seconds", 0)))


def _writer(given: object) -> Writer:
    body = _object(given, "writer", ("per_second", "field", "value"))
    name, value = body.get("field", "urls.vanity.url"), body.get("value", "null.pieces.cloud")
    if not isinstance(name, str) or name not in DECLARABLE:
        raise FaultsError(f"writer.field: one of {' '.join(DECLARABLE)}")
    if not isinstance(value, str):
        raise FaultsError("writer.value: a text is needed")
    per_second = _number("writer.per_second", body.get("per_second", 0), 1_000.0)
    if per_second == 0:
        raise FaultsError("writer.per_second: more than 0; leave the writer out to have none")
    return Writer(per_second, name, value)


def _object(given: object, name: str, allowed: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        raise FaultsError(f"{name}: an object is needed")
    for key in given:
        if key not in allowed:
            raise FaultsError(f"{name}: unknown key {key!r}; allowed are {', '.join(allowed)}")
    return given


def _number(name: str, given: object, most: float) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise FaultsError(f"{name}: a number from 0 to {most:g} is needed")
    return float(given)


def _span(name: str, given: object) -> Span:
    if isinstance(given, list | tuple):
        if len(given) != 2:  # noqa: PLR2004 - a span has two ends
            raise FaultsError(f"{name}: a number or [least, most]")
        low, high = (_number(name, end, 86_400.0) for end in given)
        if low > high:
            raise FaultsError(f"{name}: the least is above the most")
        return low, high
    exact = _number(name, given, 86_400.0)
    return exact, exact
