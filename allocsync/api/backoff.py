"""Computes how long to wait before a retry, and retries reads for the commands.

The rules:
- Only reads are retried here. An update is never inside tenacity's retry loop.
- The controller's queue retries by itself and takes only the delay from here.
- The delay has full jitter: it is random between zero and a ceiling, and the ceiling doubles with each
  failure. Clients that failed at the same time therefore do not retry at the same time.
- Retry-After is a lower bound of the delay. A value above five minutes counts as five minutes.
- The source of randomness is an argument, because tenacity uses the global one. Deadlines are measured on the
  event loop's clock (monotonic).

Left out: what the controller counts as a failure, and where it obeys Retry-After. For one allocation see
`reconcile.allocation.managed_allocation` and `reconcile.allocation.write_backoff`, for a 429 that slows all
requests `reconcile.scheduling.concurrency`, and for the list `reconcile.resync`.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential

from allocsync.model.api_answers import Failed, Snapshot
from allocsync.model.ids import AllocationId
from allocsync.model.times import Monotonic

BASE_SECONDS = 2.0
MAX_SECONDS = 300.0
RETRY_AFTER_MAX_SECONDS = 300.0
ATTEMPTS = 3
STOP_AFTER_SECONDS = 60.0

# The 4xx statuses that mean "not now". A retry after any other 4xx would get the same response.
_RETRYABLE_CLIENT_ERRORS = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.LOCKED,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)


class FullJitter(wait_base):
    """Exponential backoff with full jitter, for tenacity or as a plain number of seconds.

    `uniform(low, high)` returns a random number between its arguments. The ceiling of the delay is
    `base_seconds` after the first failure and at most `max_seconds`.
    """

    def __init__(
        self,
        *,
        uniform: Callable[[float, float], float],
        base_seconds: float = BASE_SECONDS,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        self._uniform = uniform
        self._ceiling = wait_exponential(multiplier=base_seconds, max=max_seconds)
        self._caller = AsyncRetrying()

    def delay_seconds(self, failures: int, retry_after_seconds: float | None = None) -> float:
        """Return the seconds to wait after this number of consecutive failures (from 1).

        `retry_after_seconds` is the lower bound of the delay, up to RETRY_AFTER_MAX_SECONDS. It is ignored if
        it is not positive.
        """
        state = RetryCallState(self._caller, None, (), {})
        state.attempt_number = max(failures, 1)
        floor = retry_after_seconds if retry_after_seconds and retry_after_seconds > 0 else 0.0
        return max(self._uniform(0.0, self._ceiling(state)), min(floor, RETRY_AFTER_MAX_SECONDS))

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the seconds to wait, for tenacity. A failed read may carry a Retry-After."""
        outcome = retry_state.outcome
        snapshot = outcome.result() if outcome is not None and not outcome.failed else None
        after = snapshot.retry_after_seconds if isinstance(snapshot, Failed) else None
        return self.delay_seconds(retry_state.attempt_number, after)


class SnapshotReader(Protocol):
    """The part of a client that may be retried."""

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """Read one allocation once."""


async def read_with_retries(
    api: SnapshotReader,
    allocation_id: AllocationId,
    *,
    wait: wait_base,
    attempts: int = ATTEMPTS,
    stop_after_seconds: float = STOP_AFTER_SECONDS,
) -> Snapshot:
    """Read an allocation, retry while a retry may help, and return the last result.

    Stops after `attempts` reads, or when the next read would begin later than `stop_after_seconds` from now
    (on the event loop's clock). A command therefore does not wait for a Retry-After of five minutes.
    """
    loop = asyncio.get_running_loop()
    deadline = Monotonic(loop.time()) + stop_after_seconds
    first: Snapshot | None = await api.snapshot(allocation_id)
    if first is not None and not _is_retryable(first):
        return first  # tenacity costs more than a successful read does, so it is used only after a failure

    async def attempt() -> Snapshot:
        nonlocal first
        if first is None:
            return await api.snapshot(allocation_id)
        snapshot, first = first, None
        return snapshot

    def is_past_deadline(state: RetryCallState) -> bool:
        return Monotonic(loop.time()) + state.upcoming_sleep > deadline

    enough_attempts = stop_after_attempt(attempts)
    retrying = AsyncRetrying(
        sleep=asyncio.sleep,
        wait=wait,
        stop=lambda state: enough_attempts(state) or is_past_deadline(state),
        retry=retry_if_result(_is_retryable),
        retry_error_callback=_last_result,
    )
    return await retrying(attempt)


def _is_retryable(snapshot: Snapshot) -> bool:
    """Whether a retry may give another result.

    True after no response, an unusable 200, a 5xx and the 4xx of _RETRYABLE_CLIENT_ERRORS.
    """
    if not isinstance(snapshot, Failed):
        return False
    status = snapshot.status
    return (
        status is None
        or status == HTTPStatus.OK
        or status in _RETRYABLE_CLIENT_ERRORS
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _last_result(state: RetryCallState) -> Snapshot:
    if state.outcome is None:
        raise AssertionError("tenacity stops only after an attempt")
    snapshot: Snapshot = state.outcome.result()
    return snapshot
