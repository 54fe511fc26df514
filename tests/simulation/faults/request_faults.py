"""How the server responds to a single request, drawn from the seed, the allocation and the request's number.

The rule: once the schedule's faults have ended, no request fails, nothing is applied late, and responses take
well under a second.

Left out: responses that a test writes down (`scripted_faults`, and `script` of the engine).
"""

import random
from dataclasses import dataclass

from allocsync.api.responses import Response, interpret_update
from allocsync.model.api_answers import NotSent, OutcomeUnknown, Rejected, RejectionClass
from allocsync.model.ids import AllocationId
from tests.simulation.engine.schedule import (
    WHOLE_API,
    Allocation,
    FaultPeriod,
    Operation,
    Outage,
    OutageKind,
    RejectNextUpdate,
    Schedule,
)

NO_FAULT_PERIOD = FaultPeriod(0.0, 0.0, reads=0.0, updates=0.0, lists=0.0, late_seconds=0.0)
POST_TIMEOUT_SECONDS, GET_TIMEOUT_SECONDS, LIST_TIMEOUT_SECONDS = 75.0, 10.0, 120.0
LATE_SHARE = 0.2  # of the requests that hang, those that are answered before their deadline

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
    Rejected(429, "429 Too Many Requests", RejectionClass.NOT_NOW, retry_after_seconds=5.0),
    Rejected(429, "429 Too Many Requests", RejectionClass.NOT_NOW, retry_after_seconds=40.0),
    Rejected(423, "423 Locked", RejectionClass.NOT_NOW),
    Rejected(401, "401 Unauthorized", RejectionClass.OTHER),
    Rejected(422, "422 Unprocessable Entity", RejectionClass.BODY),
)
NOT_SENT = NotSent("connection refused")
ACCEPTED = "accepted"

Answer = OutcomeUnknown | Rejected | NotSent | str
READ_FAULTS = (
    ("504 Gateway Timeout", 504, None),
    ("500 Internal Server Error", 500, None),
    ("the connection was dropped before an answer", None, None),
    ("429 Too Many Requests", 429, 9.0),
    ("200 OK, but with the id of another allocation", 200, None),
)


ReadFault = tuple[str, int | None, float | None]
NOT_SENT_SECONDS = 0.01
UNREACHABLE = NotSent("connection refused", unreachable=True)


def rejected(rejection: RejectNextUpdate) -> Answer:
    """What allocsync makes of this 4xx: the product decides whether it blames the body."""
    response = Response(rejection.status, retry_after_seconds=rejection.retry_after_seconds)
    answer = interpret_update(response, AllocationId(""))
    if not isinstance(answer, Rejected):
        raise TypeError(f"{rejection.status} is {answer}")
    return answer


@dataclass(frozen=True, slots=True)
class UpdateResponse:
    """How the server handles one update. Times are seconds after the client sends it.

    `applied_seconds` is when it is applied, or None if it never is. `status` is the HTTP status if `answer`
    is `ACCEPTED`.
    """

    answer: Answer
    arrives_seconds: float
    applied_seconds: float | None
    answered_seconds: float
    status: int = 200


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """How the server handles one read or list. Times are seconds after the client sends it.

    `served_seconds` is when the truth is read. `fault` is the reason, HTTP status and Retry-After in seconds
    of the failure, if it fails; `refused` says that there was no connection.
    """

    served_seconds: float
    answered_seconds: float
    fault: ReadFault | None = None
    refused: bool = False


class RequestFaults:
    """Draws the responses of one run."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._numbers: dict[tuple[int, int], int] = {}
        self._rejections: list[RejectNextUpdate] = []
        self.fired: set[str] = set()  # kinds of faults that a request has met

    def reject_next_update(self, rejection: RejectNextUpdate) -> None:
        """Reject the next update in this way; several take turns."""
        self._rejections.append(rejection)

    def outage(self, operation: Operation, now: float) -> Outage | None:
        """The outage of this operation at `now`, in seconds of virtual time."""
        outages = (each for each in self._schedule.outages if each.begin <= now < each.end)
        return next((each for each in outages if operation in each.operations), None)

    def whole_outage(self, now: float) -> Outage | None:
        """The outage of the whole API at `now`, in seconds of virtual time."""
        outages = (each for each in self._schedule.outages if each.begin <= now < each.end)
        return next((each for each in outages if each.operations == WHOLE_API), None)

    def _read_in_outage(self, outage: Outage, rng: random.Random, deadline_seconds: float) -> ReadResponse:
        match outage.kind:
            case OutageKind.NO_CONNECTION:
                return ReadResponse(0.0, NOT_SENT_SECONDS, ("connection refused", None, None), refused=True)
            case OutageKind.UNAVAILABLE:
                return ReadResponse(0.0, rng.uniform(0.002, 0.1), ("503 Service Unavailable", 503, None))
        if rng.random() < LATE_SHARE:
            return ReadResponse(rng.uniform(0.001, 0.05), rng.uniform(0.1, 0.99) * deadline_seconds)
        return ReadResponse(0.0, deadline_seconds, (f"no answer within {deadline_seconds:.0f} s", None, None))

    def _update_in_outage(self, outage: Outage, rng: random.Random) -> UpdateResponse:
        match outage.kind:
            case OutageKind.NO_CONNECTION:
                return UpdateResponse(UNREACHABLE, 0.0, None, NOT_SENT_SECONDS)
            case OutageKind.UNAVAILABLE:
                answer = OutcomeUnknown("503 Service Unavailable", 503)
                return UpdateResponse(answer, 0.0, None, rng.uniform(0.002, 0.1))
        arrives = rng.uniform(0.001, 0.05)
        if rng.random() < LATE_SHARE:
            after = rng.uniform(0.1, 0.99) * POST_TIMEOUT_SECONDS
            return UpdateResponse(ACCEPTED, arrives, rng.choice((arrives, after)), after)
        applied = rng.choice((None, arrives, POST_TIMEOUT_SECONDS + rng.uniform(0.0, 30.0)))
        return UpdateResponse(TIMEOUT, arrives, applied, POST_TIMEOUT_SECONDS)

    def _fire(self, operation: Operation, outage: Outage) -> None:
        single = len(outage.operations) == 1
        self.fired.add(f"{operation} hangs" if single else f"outage: {outage.kind}")

    def period(self, now: float) -> FaultPeriod:
        """The fault period at `now`, in seconds of virtual time."""
        if now >= self._schedule.faults_end_at:
            return NO_FAULT_PERIOD
        return next(
            (period for period in self._schedule.fault_periods if period.begin <= now < period.end),
            NO_FAULT_PERIOD,
        )

    def _new_rng(self, kind: int, key: int) -> random.Random:
        number = self._numbers[kind, key] = self._numbers.get((kind, key), 0) + 1
        return random.Random(((self._schedule.seed * 31 + kind) * 1009 + key) * 100_003 + number)

    def read(self, key: int, now: float) -> ReadResponse:
        """Draw the response to a read of allocation number `key`, sent at `now`."""
        rng, period = self._new_rng(0, key), self.period(now)
        if (outage := self.outage(Operation.GET, now)) is not None:
            self._fire(Operation.GET, outage)
            return self._read_in_outage(outage, rng, GET_TIMEOUT_SECONDS)
        served = rng.uniform(0.001, 0.05)
        slow = self._schedule.slow and period is not NO_FAULT_PERIOD and rng.random() < 0.2
        answered = served + (rng.uniform(0.0, 6.0) if slow else rng.uniform(0.001, 0.05))
        if rng.random() >= period.reads:
            return ReadResponse(served, answered)
        if rng.random() < 0.1:
            return ReadResponse(served, GET_TIMEOUT_SECONDS, ("no answer within 10 s", None, None))
        return ReadResponse(served, answered, rng.choice(READ_FAULTS))

    def bulk(self, now: float) -> tuple[ReadResponse, random.Random]:
        """Draw the response to a list sent at `now`, and the randomness that leaves allocations out of it."""
        rng, period = self._new_rng(1, 0), self.period(now)
        if (outage := self.outage(Operation.LIST, now)) is not None:
            self._fire(Operation.LIST, outage)
            return self._read_in_outage(outage, rng, LIST_TIMEOUT_SECONDS), rng
        served = rng.uniform(0.001, 0.05)
        slow = self._schedule.slow and period is not NO_FAULT_PERIOD
        answered = served + (rng.uniform(0.0, 25.0) if slow else rng.uniform(0.01, 0.2))
        fault = ("504 Gateway Timeout", 504, None) if rng.random() < period.lists else None
        return ReadResponse(served, answered, fault), rng

    def update(self, allocation: Allocation, now: float) -> UpdateResponse:
        """Draw the response to an update of this allocation, sent at `now`."""
        rng, period = self._new_rng(2, allocation.key), self.period(now)
        arrives = rng.uniform(0.001, 0.05)
        answered = arrives + rng.uniform(0.001, 0.2)
        if (outage := self.outage(Operation.POST, now)) is not None:
            self._fire(Operation.POST, outage)
            return self._update_in_outage(outage, rng)
        if self._rejections and now < self._schedule.faults_end_at:
            rejection = self._rejections.pop(0)
            with_retry_after = "without" if rejection.retry_after_seconds is None else "with"
            self.fired |= {f"{rejection.status}", f"4xx {with_retry_after} Retry-After"}
            return UpdateResponse(rejected(rejection), arrives, None, answered)
        if allocation.pending and rng.random() < 0.7:
            return UpdateResponse(ACCEPTED, arrives, arrives + rng.uniform(0.5, 20.0), answered)
        if rng.random() >= period.updates:
            return UpdateResponse(ACCEPTED, arrives, arrives, answered)
        return _fault(rng, period, arrives, answered)


def _fault(rng: random.Random, period: FaultPeriod, arrives: float, answered: float) -> UpdateResponse:
    late = arrives + rng.uniform(0.0, 2.0) * period.late_seconds
    draw = rng.random()
    if draw < 0.6:
        took = answered + rng.choice((0.0, 0.0, 5.0, 30.0, 60.0)) * rng.random()
        applied = rng.choice((None, arrives, arrives, took + late, took + late))
        return UpdateResponse(rng.choice(UNKNOWN), arrives, applied, took)
    if draw < 0.66:
        applied = rng.choice((None, arrives, POST_TIMEOUT_SECONDS + late))
        return UpdateResponse(TIMEOUT, arrives, applied, POST_TIMEOUT_SECONDS)
    if draw < 0.78:
        return UpdateResponse(ACCEPTED, arrives, late, answered, rng.choice((200, 202)))
    if draw < 0.80:
        return UpdateResponse(ACCEPTED, arrives, None, answered)
    if draw < 0.95:
        return UpdateResponse(rng.choice(REJECTED), arrives, None, answered)
    return UpdateResponse(NOT_SENT, arrives, None, answered)
