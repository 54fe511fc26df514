"""What a single request meets, drawn from the seed, the allocation and the number of the request.

The rule: after the calm begins nothing fails any more, nothing lands late, and answers come soon.
"""

import random
from dataclasses import dataclass

from allocsync.model.api_answers import NotSent, OutcomeUnknown, Rejected
from tests.simulation.engine.schedule import Allocation, Schedule, Spell

CALM = Spell(0.0, 0.0, reads=0.0, updates=0.0, lists=0.0, late_seconds=0.0)
POST_TIMEOUT_SECONDS, GET_TIMEOUT_SECONDS = 75.0, 10.0

UNKNOWN = (
    OutcomeUnknown("504 Gateway Timeout", 504),
    OutcomeUnknown("504 Gateway Timeout", 504),
    OutcomeUnknown("504 Gateway Timeout", 504, 7.0),
    OutcomeUnknown("500 Internal Server Error", 500),
    OutcomeUnknown("503 Service Unavailable", 503),
    OutcomeUnknown("the connection was dropped before an answer"),
    OutcomeUnknown("200 OK, but with the id of another allocation", 200),
    OutcomeUnknown("302 Found", 302),
)
TIMEOUT = OutcomeUnknown("no answer within 75 s")
REJECTED = (
    Rejected(429, "429 Too Many Requests", terminal=False, retry_after_seconds=5.0),
    Rejected(429, "429 Too Many Requests", terminal=False, retry_after_seconds=40.0),
    Rejected(423, "423 Locked", terminal=False),
    Rejected(401, "401 Unauthorized", terminal=False),
    Rejected(422, "422 Unprocessable Entity", terminal=True),
)
NOT_SENT = NotSent("connection refused")
ACCEPTED = "accepted"

Ending = OutcomeUnknown | Rejected | NotSent | str
READ_FAULTS = (
    ("504 Gateway Timeout", 504, None),
    ("500 Internal Server Error", 500, None),
    ("the connection was dropped before an answer", None, None),
    ("429 Too Many Requests", 429, 9.0),
    ("200 OK, but with the id of another allocation", 200, None),
)


@dataclass(frozen=True, slots=True)
class UpdateFate:
    """How an update ends for the client after so long, and when it is carried out (None: never)."""

    ending: Ending
    arrives_seconds: float
    lands_seconds: float | None
    answered_seconds: float
    status: int = 200


@dataclass(frozen=True, slots=True)
class ReadFate:
    """When a read is served and answered; `fault` is what is said instead of the truth."""

    served_seconds: float
    answered_seconds: float
    fault: tuple[str, int | None, float | None] | None = None


class Fates:
    """Draws them."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._numbers: dict[tuple[int, int], int] = {}

    def spell(self, now: float) -> Spell:
        """The weather now."""
        if now >= self._schedule.calm_at:
            return CALM
        return next((spell for spell in self._schedule.spells if spell.begin <= now < spell.end), CALM)

    def _chance(self, kind: int, key: int) -> random.Random:
        number = self._numbers[kind, key] = self._numbers.get((kind, key), 0) + 1
        return random.Random(((self._schedule.seed * 31 + kind) * 1009 + key) * 100_003 + number)

    def read(self, key: int, now: float) -> ReadFate:
        """A read of this allocation."""
        chance, spell = self._chance(0, key), self.spell(now)
        served = chance.uniform(0.001, 0.05)
        slow = self._schedule.slow and spell is not CALM and chance.random() < 0.2
        answered = served + (chance.uniform(0.0, 6.0) if slow else chance.uniform(0.001, 0.05))
        if chance.random() >= spell.reads:
            return ReadFate(served, answered)
        if chance.random() < 0.1:
            return ReadFate(served, GET_TIMEOUT_SECONDS, ("no answer within 10 s", None, None))
        return ReadFate(served, answered, chance.choice(READ_FAULTS))

    def bulk(self, now: float) -> tuple[ReadFate, random.Random]:
        """A read of everything, and the chance that some of it is left out."""
        chance, spell = self._chance(1, 0), self.spell(now)
        served = chance.uniform(0.001, 0.05)
        slow = self._schedule.slow and spell is not CALM
        answered = served + (chance.uniform(0.0, 25.0) if slow else chance.uniform(0.01, 0.2))
        fault = ("504 Gateway Timeout", 504, None) if chance.random() < spell.lists else None
        return ReadFate(served, answered, fault), chance

    def update(self, allocation: Allocation, now: float) -> UpdateFate:
        """An update of this allocation."""
        chance, spell = self._chance(2, allocation.key), self.spell(now)
        arrives = chance.uniform(0.001, 0.05)
        answered = arrives + chance.uniform(0.001, 0.2)
        if allocation.pending and chance.random() < 0.7:
            return UpdateFate(ACCEPTED, arrives, arrives + chance.uniform(0.5, 20.0), answered)
        if chance.random() >= spell.updates:
            return UpdateFate(ACCEPTED, arrives, arrives, answered)
        return _fault(chance, spell, arrives, answered)


def _fault(chance: random.Random, spell: Spell, arrives: float, answered: float) -> UpdateFate:
    late = arrives + chance.uniform(0.0, 2.0) * spell.late_seconds
    draw = chance.random()
    if draw < 0.6:
        took = answered + chance.choice((0.0, 0.0, 5.0, 30.0, 60.0)) * chance.random()
        lands = chance.choice((None, arrives, arrives, took + late, took + late))
        return UpdateFate(chance.choice(UNKNOWN), arrives, lands, took)
    if draw < 0.66:
        lands = chance.choice((None, arrives, POST_TIMEOUT_SECONDS + late))
        return UpdateFate(TIMEOUT, arrives, lands, POST_TIMEOUT_SECONDS)
    if draw < 0.78:
        return UpdateFate(ACCEPTED, arrives, late, answered, chance.choice((200, 202)))
    if draw < 0.80:
        return UpdateFate(ACCEPTED, arrives, None, answered)
    if draw < 0.95:
        return UpdateFate(chance.choice(REJECTED), arrives, None, answered)
    return UpdateFate(NOT_SENT, arrives, None, answered)
