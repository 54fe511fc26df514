"""A peer of allocsync in the storm benchmark: the API's official SDK, with tenacity.

    python -m tests.benchmarks.peers.sdk_loop URL DIRECTORY [--read-again]

The SDK blocks, so its calls run in threads, one per concurrent request; waiting takes none. Its pool keeps as
many connections. The loop is `converge`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import urllib3
from pieces_os_client.api.allocation_api import AllocationApi
from pieces_os_client.api_client import ApiClient
from pieces_os_client.configuration import Configuration
from pieces_os_client.exceptions import ApiException
from pydantic import ValidationError

from tests.benchmarks.peers.converge import (
    CONNECT_SECONDS,
    GET_SECONDS,
    POST_SECONDS,
    READS,
    TRANSIENT_STATUSES,
    WRITES,
    FinalError,
    TransientError,
    main,
)

T = TypeVar("T")


class Sdk:
    """Both operations by the SDK, in threads of its own."""

    def __init__(self, api: Any, threads: ThreadPoolExecutor) -> None:  # noqa: ANN401 - the SDK has no types
        self._api = api
        self._threads = threads

    async def read(self, key: str) -> Any:  # noqa: ANN401 - the SDK has no types
        """Read the live object, as the SDK's model."""
        timeout = (CONNECT_SECONDS, GET_SECONDS)
        return await self._call(lambda: self._api.allocation_snapshot(key, _request_timeout=timeout))

    async def update(self, live: Any) -> None:  # noqa: ANN401 - the SDK has no types
        """Send the whole model back."""
        timeout = (CONNECT_SECONDS, POST_SECONDS)
        await self._call(lambda: self._api.allocation_update(live, _request_timeout=timeout))

    def field_value(self, live: Any, path: str) -> str | None:  # noqa: ANN401 - the SDK has no types
        """The value at a dotted path, or None."""
        value = live
        for name in path.split("."):
            value = getattr(value, name, None)
        return value if value is None else str(getattr(value, "value", value))

    def put(self, live: Any, path: str, value: str) -> None:  # noqa: ANN401 - the SDK has no types
        """Set the value at a dotted path; the model checks it."""
        *parents, last = path.split(".")
        for name in parents:
            live = getattr(live, name)
            if live is None:
                raise FinalError(f"{path} cannot be set: there is no {name}")
        try:
            setattr(live, last, value)
        except ValidationError as error:
            raise FinalError(f"{path} cannot be {value}: {error}") from error

    async def _call(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except ApiException as error:
            status = error.status or 0
            if status >= 500 or status in TRANSIENT_STATUSES:
                raise TransientError(f"{status}: {error.body!r:.80}") from error
            raise FinalError(f"{status}: {error.body!r:.80}") from error
        except urllib3.exceptions.HTTPError as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error
        except (ValidationError, ValueError) as error:
            raise TransientError(f"not an allocation: {error}") from error


@asynccontextmanager
async def open_sdk(url: str) -> AsyncIterator[Sdk]:
    """The SDK's client, with a large enough pool and enough threads."""
    configuration = Configuration(host=url)
    configuration.connection_pool_maxsize = READS + WRITES
    with ThreadPoolExecutor(READS + WRITES) as threads, ApiClient(configuration) as client:
        try:
            yield Sdk(AllocationApi(client), threads)
        finally:
            client.rest_client.pool_manager.clear()


if __name__ == "__main__":
    main(open_sdk)
