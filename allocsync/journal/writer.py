"""Writes the journal: everything goes through one queue into group commits.

The rules: `intent` returns when its row is on the disk, together with everything that was queued before it.
Entries that are queued during a commit share the next one. If a commit fails, intents fail (so no update may
be sent), outcomes and checkpoint values wait, and the commit is retried every second until it succeeds. A
file that turns out to be damaged is set aside, and the process ends: what is lost is unknown, and the next
process waits as after any gap.

Left out: the file (`journal.database`).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from allocsync.errors import AllocsyncError, JournalUnavailable
from allocsync.journal.database import JournalFile
from allocsync.journal.entries import CheckpointValue, Entry, Intent, Outcome
from allocsync.journal.hash_chain import Head
from allocsync.journal.retention import prune
from allocsync.journal.sqlite_errors import READ_ERRORS, STATEMENT_ERRORS, is_corruption, message
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord
from allocsync.model.times import Monotonic, WallTime

RETRY_SECONDS = 1.0
T = TypeVar("T")


class Executor(Protocol):
    """Runs a blocking function: in a thread, or inline under virtual time."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Run the function, and return its result."""


@dataclass(slots=True)
class _Queued:
    entry: Entry
    written: asyncio.Future[int] | None = None


class Journal:
    """The journal for the controller. Its writer runs while the context of `Journal.running` is open."""

    def __init__(
        self,
        file: JournalFile,
        *,
        execute: Executor,
        now: Callable[[], Monotonic],
        wall: Callable[[], WallTime],
        on_change: Callable[[str | None], None] = lambda _problem: None,
    ) -> None:
        """`on_change` is called with the reason when writes begin to fail or fail for another reason.

        It is called with None when they work again.

        `now` is a monotonic clock and `wall` the wall clock (Unix seconds).
        """
        self._file = file
        self._execute = execute
        self._now = now
        self._wall = wall
        self._queue: list[_Queued] = []
        self._flushes: list[asyncio.Future[None]] = []
        self._wake_up = asyncio.Event()
        self._closing = False
        self.on_change = on_change
        self.problem: str | None = None
        self.damage = ""
        self.commit_seconds = 0.0  # duration of the last `intent`, with the wait for the commit before it

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        file: JournalFile,
        *,
        execute: Executor,
        now: Callable[[], Monotonic],
        wall: Callable[[], WallTime],
    ) -> AsyncIterator["Journal"]:
        """Write to this file while the context is open; at its end, one attempt is made to write the rest.

        What that attempt cannot write is lost: an intent without its outcome stays open. The file stays open.

        Raises:
            ExceptionGroup: a commit found the file damaged; it contains an `AllocsyncError`.
        """
        journal = cls(file, execute=execute, now=now, wall=wall)
        async with asyncio.TaskGroup() as group:
            group.create_task(journal._run(), name="journal")
            try:
                yield journal
            finally:
                journal._closing = True
                journal._wake_up.set()

    async def intent(self, allocation: AllocationId, record: IntentRecord) -> int:
        """Record durably that an update is about to be sent; returns the number of its row.

        Raises:
            JournalUnavailable: it could not be written, so the update may not be sent.
        """
        begun = self._now()
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add(_Queued(Intent(allocation, record), written))
        number = await written
        self.commit_seconds = self._now() - begun
        return number

    def outcome(self, allocation: AllocationId, intent: int, outcome: str, reason: str) -> None:
        """Queue the outcome of the update whose intent has the row number `intent`; returns at once."""
        self._add(_Queued(Outcome(allocation, intent, outcome, reason)))

    def remember(self, key: str, value: object | None) -> None:
        """Queue a checkpoint value, which replaces the one under the same key; None deletes it."""
        self._add(_Queued(CheckpointValue(key, value)))

    async def flush(self) -> None:
        """Return when everything that was queued before this call is on the disk.

        Raises:
            JournalUnavailable: it cannot be written now. It stays queued, and is written when possible.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append(written)
        self._wake_up.set()
        await written

    async def enforce_retention(self) -> Head | None:
        """Delete old rows; returns the last row of the chain, or None if that failed.

        If damage is found, `damage` says so from then on.
        """
        try:
            return await self._execute(self._prune_all)
        except STATEMENT_ERRORS:
            return None  # the next commit reports the reason; pruning is tried again later
        except READ_ERRORS as error:
            self.damage = message(error)  # in an old row; new rows can still be written
            return None

    def _prune_all(self) -> Head:
        while prune(self._file, wall=self._wall()):
            pass
        return self._file.head

    def _add(self, queued: _Queued) -> None:
        self._queue.append(queued)
        self._wake_up.set()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(None if self.problem is None else RETRY_SECONDS):
                    await self._wake_up.wait()
            except TimeoutError:
                pass  # retry after RETRY_SECONDS
            self._wake_up.clear()
            closing, batch, self._queue = self._closing, self._queue, []
            flushes, self._flushes = self._flushes, []
            await self._commit([each for each in batch if each.written is None or not each.written.done()])
            for flush in [each for each in flushes if not each.done()]:
                if self.problem is None:
                    flush.set_result(None)
                else:
                    flush.set_exception(JournalUnavailable(self.problem))
            if closing and (self.problem is not None or not self._queue):
                return

    async def _commit(self, batch: list[_Queued]) -> None:
        if not batch and self.problem is None:
            return
        # After a failure, an empty batch is replaced by a probe: committing nothing would prove nothing.
        entries = [each.entry for each in batch] or [
            CheckpointValue("probe", self._wall()),
            CheckpointValue("probe", None),
        ]
        try:
            numbers = await self._execute(lambda: self._file.write(entries, self._wall()))
        except sqlite3.IntegrityError:
            raise  # two open intents of one allocation: a bug, not a disk error
        except STATEMENT_ERRORS as error:
            if is_corruption(error):
                await self._set_aside_and_stop(message(error))
            self._failed(batch, message(error))
            return
        for each, number in zip(batch, numbers, strict=False):
            if each.written is not None and not each.written.done():
                each.written.set_result(number)
        if self.problem is not None:
            self.problem = None
            self.on_change(None)

    async def _set_aside_and_stop(self, reason: str) -> NoReturn:
        kept = await self._execute(lambda: self._file.set_aside(self._wall()))
        raise AllocsyncError(
            f"{self._file.path}: the journal is damaged: {reason}. It is kept as {kept.name}. After a "
            "restart allocsync creates a new one, and sends no updates for a while"
        )

    def _failed(self, batch: list[_Queued], reason: str) -> None:
        """Fail the intents; keep the rest queued, with only the newest value of each checkpoint key."""
        newest: dict[str, _Queued] = {}
        waiting: list[_Queued] = []
        for each in [*batch, *self._queue]:
            if isinstance(each.entry, CheckpointValue):
                newest[each.entry.key] = each
            elif each.written is None:
                waiting.append(each)
            elif not each.written.done():
                each.written.set_exception(JournalUnavailable(reason))
        self._queue = [*waiting, *newest.values()]
        if self.problem != reason:
            self.problem = reason
            self.on_change(reason)
