"""The loop that both peers of allocsync in the storm benchmark share: passes until nothing differs.

It is what a careful engineer writes without allocsync: asyncio and tenacity, as many concurrent requests as
allocsync allows itself (64 reads, 32 writes, no slot taken while waiting), tenacity's full jitter, and
another pass after each pass that found a difference. A pass reads each allocation, compares the declared
fields, sets those that differ in the object it read, and posts the whole object. A failure that may be
transient (5xx, 429, a timeout, a reset) is retried, five attempts in all; then the allocation is reported as
failed, and the next pass reads it again.

What is retried is a choice. By default it is the request, as with tenacity's decorator on an update; with
`--read-again` it is reading, comparing and posting, so that no update is repeated without a read.

It prints a JSON line for each failure and each pass, and exits with 0 once a pass finds no difference.

Left out: everything that only a daemon has, such as later edits, a journal and metrics.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

FieldRecords = Mapping[str, str]
Live = TypeVar("Live")
READS, WRITES, ATTEMPTS, MAX_SECONDS, PAUSE_SECONDS = 64, 32, 5, 60.0, 1.0
CONNECT_SECONDS, GET_SECONDS, POST_SECONDS = 3.0, 10.0, 75.0
TRANSIENT_STATUSES = (408, 425, 429)  # client errors that are transient


class TransientError(Exception):
    """Another attempt may help: 5xx, 408, 429, a timeout, a reset."""


class FinalError(Exception):
    """No attempt helps: another 4xx, or an unusable answer."""


class Api(Protocol[Live]):
    """The two operations, and the live object in whatever form the peer has it."""

    async def read(self, key: str) -> Live:
        """Read the live object.

        Raises:
            TransientError, FinalError: it cannot be read.
        """

    async def update(self, live: Live) -> None:
        """Send the whole object.

        Raises:
            TransientError, FinalError: it was not accepted.
        """

    def field_value(self, live: Live, path: str) -> str | None:
        """The value at a dotted path, or None."""

    def put(self, live: Live, path: str, value: str) -> None:
        """Set the value at a dotted path."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes over everything that is declared, with one API client."""

    api: Api[Any]
    desired: Mapping[str, FieldRecords]
    read_again: bool
    say: Callable[..., None]
    reads: asyncio.Semaphore
    writes: asyncio.Semaphore

    async def run(self) -> None:
        """Make passes until one finds no difference."""
        number = 0
        while True:
            number += 1
            found = await asyncio.gather(*(self._one(key, number) for key in self.desired))
            self.say("pass", number=number, checked=len(found), differed=sum(found))
            if not any(found):
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _one(self, key: str, number: int) -> bool:
        """Bring one allocation in line. Return whether it differed, or failed."""
        try:
            return await self._converge(key)
        except (TransientError, FinalError) as error:
            self.say("failed", id=key, number=number, reason=str(error))
            return True

    async def _converge(self, key: str) -> bool:
        if not self.read_again:
            live = await retry(self._read, key)
            return self._set_declared(key, live) and await retry(self._update, live)
        posted = False

        async def align(key: str) -> bool:
            nonlocal posted
            live = await self._read(key)
            if not self._set_declared(key, live):
                return posted
            posted = True
            return await self._update(live)

        return await retry(align, key)

    def _set_declared(self, key: str, live: Any) -> bool:  # noqa: ANN401 - the peer's own form
        """Set what differs. Return whether anything did."""
        differing = {
            path: value
            for path, value in self.desired[key].items()
            if self.api.field_value(live, path) != value
        }
        for path, value in differing.items():
            self.api.put(live, path, value)
        return bool(differing)

    async def _read(self, key: str) -> Any:  # noqa: ANN401 - the peer's own form
        async with self.reads:
            return await self.api.read(key)

    async def _update(self, live: Any) -> bool:  # noqa: ANN401 - the peer's own form
        async with self.writes:
            await self.api.update(live)
        return True


Answer = TypeVar("Answer")


async def retry(ask: Callable[[Any], Awaitable[Answer]], about: object) -> Answer:
    """Call `ask(about)` up to five times, with full jitter, while it raises TransientError."""
    retrying = AsyncRetrying(
        wait=wait_random_exponential(multiplier=1, max=MAX_SECONDS),
        stop=stop_after_attempt(ATTEMPTS),
        retry=retry_if_exception_type(TransientError),
        reraise=True,
    )
    return await retrying(ask, about)


def read_desired(directory: Path) -> dict[str, FieldRecords]:
    """The declared fields by id; every value is text, as in allocsync."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    desired: dict[str, FieldRecords] = {}
    for file in sorted(directory.glob("*.yaml")):
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - text only
        defaults = dict(_fields(document.get("defaults") or {}))
        for key, declared in (document.get("allocations") or {}).items():
            fields = defaults | dict(_fields(declared))
            if fields.pop("mode", "enforce") == "enforce":
                desired[key] = fields
    return desired


def _fields(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in tree.items():
        path = f"{above}{name}"
        found += _fields(value, f"{path}.") if isinstance(value, Mapping) else [(path, value)]
    return found


def say(event: str, **fields: object) -> None:
    """Print one JSON line to standard output."""
    sys.stdout.write(json.dumps({"at": time.time(), "event": event, **fields}) + "\n")
    sys.stdout.flush()


def main(open_api: Callable[[str], AbstractAsyncContextManager[Api[Any]]]) -> None:
    """Bring what the command line names in line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("desired", type=Path, help="a directory of *.yaml files")
    parser.add_argument("--read-again", action="store_true", help="read before each further attempt")
    given = parser.parse_args()

    async def converge() -> None:
        async with open_api(given.url) as api:
            await Passes(
                api,
                read_desired(given.desired),
                given.read_again,
                say,
                asyncio.Semaphore(READS),
                asyncio.Semaphore(WRITES),
            ).run()
        say("in_sync")

    asyncio.run(converge())
