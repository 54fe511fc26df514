"""How long to wait before asking again, and the one place where a read is simply tried again.

The rule: tenacity gives wait and stop, and only reads are ever inside its loop; an update never is. The queue
does its own retrying and asks only for seconds. Chance is an argument, because tenacity's own is global; so
is time: a stop is judged on the event loop's clock.

Full jitter: anything from nothing to the ceiling, which doubles with each failure, so that those who failed
together do not return together. Retry-After is a floor, and cannot ask for more than five minutes.

Left out: what counts as a failure (`reconcile`), and the load of all keys together (`reconcile.limiter`).
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential

from allocsync.model.api_answers import Failed, Snapshot
from allocsync.model.ids import AllocationId

BASE_SECONDS = 2.0
MAX_SECONDS = 300.0
RETRY_AFTER_MAX_SECONDS = 300.0
ATTEMPTS = 3
STOP_AFTER_SECONDS = 60.0

# The 4xx that mean "not now"; the others would say the same again.
_NOT_NOW = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.LOCKED,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)


class FullJitter(wait_base):
    """A wait for tenacity, and for whoever only wants the seconds.

    `uniform(low, high)` is the source of chance.
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
        """The seconds to wait after so many failures in a row (from 1) and what the server asked for."""
        state = RetryCallState(self._caller, None, (), {})
        state.attempt_number = max(failures, 1)
        floor = retry_after_seconds if retry_after_seconds and retry_after_seconds > 0 else 0.0
        return max(self._uniform(0.0, self._ceiling(state)), min(floor, RETRY_AFTER_MAX_SECONDS))

    def __call__(self, retry_state: RetryCallState) -> float:
        """The same inside tenacity's loop: the last outcome may carry a Retry-After."""
        outcome = retry_state.outcome
        found = outcome.result() if outcome is not None and not outcome.failed else None
        after = found.retry_after_seconds if isinstance(found, Failed) else None
        return self.delay_seconds(retry_state.attempt_number, after)


class Reads(Protocol):
    """What can be tried again: reads."""

    async def snapshot(self, allocation_id: AllocationId) -> Snapshot:
        """One read of one allocation."""


async def snapshot_with_retries(
    api: Reads,
    allocation_id: AllocationId,
    *,
    wait: wait_base,
    attempts: int = ATTEMPTS,
    stop_after_seconds: float = STOP_AFTER_SECONDS,
) -> Snapshot:
    """Read, and read again while that may help; gives the last answer.

    Ends after so many attempts, or when the next one would begin later than `stop_after_seconds` from now: a
    command does not wait out a Retry-After of five minutes.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + stop_after_seconds
    first: Snapshot | None = await api.snapshot(allocation_id)
    if first is not None and not _may_help(first):
        return first  # tenacity is entered after a failure only: it costs more than the success did

    async def look() -> Snapshot:
        nonlocal first
        if first is None:
            return await api.snapshot(allocation_id)
        found, first = first, None
        return found

    def too_late(state: RetryCallState) -> bool:
        return clock() + state.upcoming_sleep > deadline

    enough = stop_after_attempt(attempts)
    retrying = AsyncRetrying(
        sleep=asyncio.sleep,
        wait=wait,
        stop=lambda state: enough(state) or too_late(state),
        retry=retry_if_result(_may_help),
        retry_error_callback=_last,
    )
    return await retrying(look)


def _may_help(found: Snapshot) -> bool:
    """Whether asking again may bring more: a failure that is not a refusal of the question."""
    if not isinstance(found, Failed):
        return False
    status = found.status
    return (
        status is None
        or status == HTTPStatus.OK
        or status in _NOT_NOW
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _last(state: RetryCallState) -> Snapshot:
    if state.outcome is None:
        raise AssertionError("tenacity stops after an attempt only")
    found: Snapshot = state.outcome.result()
    return found
