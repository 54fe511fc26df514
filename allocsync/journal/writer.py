"""Who writes the journal: everything that is to be written goes through one queue into group commits.

The rules: `intent` returns when its row is on the disk, and what was queued before it is there too. Whatever
comes while a commit is under way goes into the next one together. When a commit fails, intents are refused
(nothing may be sent), outcomes and memories wait, and it is tried again every second until it works. A file
that turns out to be damaged is set aside and ends the process: nobody can tell what of it is lost, and the
next process waits as after any gap.

Left out: the file (`file`).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from allocsync.errors import AllocsyncError, JournalUnavailable
from allocsync.journal.database import JournalFile
from allocsync.journal.entries import Entry, Intent, Memory, Outcome
from allocsync.journal.hash_chain import Head
from allocsync.journal.retention import prune
from allocsync.journal.sqlite_errors import DAMAGE, ERRORS, is_damage, message
from allocsync.model.ids import AllocationId
from allocsync.model.intent_record import IntentRecord

RETRY_SECONDS = 1.0
T = TypeVar("T")


class Executor(Protocol):
    """Runs what blocks: in a thread of its own, or inline where time is virtual."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Run it, and give what it gives."""


@dataclass(slots=True)
class _Queued:
    entry: Entry
    written: asyncio.Future[int] | None = None


class Journal:
    """The journal as the loop sees it. Its writer runs while the context of `Journal.open` is open."""

    def __init__(
        self,
        file: JournalFile,
        *,
        execute: Executor,
        now: Callable[[], float],
        wall: Callable[[], float],
        on_change: Callable[[str | None], None] = lambda _problem: None,
    ) -> None:
        """`on_change` is told when it stops to work, with the reason, and when it works again, with None."""
        self._file = file
        self._execute = execute
        self._now = now
        self._wall = wall
        self._queue: list[_Queued] = []
        self._wanted = asyncio.Event()
        self._closing = False
        self.on_change = on_change
        self.problem: str | None = None
        self.damage = ""
        self.commit_seconds = 0.0  # how long the last intent took, the commit before it included

    @classmethod
    @asynccontextmanager
    async def running(
        cls, file: JournalFile, *, execute: Executor, now: Callable[[], float], wall: Callable[[], float]
    ) -> AsyncIterator["Journal"]:
        """Write to this file until the context ends; what is still queued then is written, if that works."""
        journal = cls(file, execute=execute, now=now, wall=wall)
        async with asyncio.TaskGroup() as group:
            group.create_task(journal._run(), name="journal")
            try:
                yield journal
            finally:
                journal._closing = True
                journal._wanted.set()

    async def intent(self, allocation: AllocationId, record: IntentRecord) -> int:
        """Record durably that an update is about to leave; returns the number of its row.

        Raises:
            JournalUnavailable: it could not be written, so nothing may be sent.
        """
        begun = self._now()
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add(_Queued(Intent(allocation, record), written))
        number = await written
        self.commit_seconds = self._now() - begun
        return number

    def outcome(self, allocation: AllocationId, intent: int, outcome: str, reason: str) -> None:
        """Record how that update ended; written before any later intent."""
        self._add(_Queued(Outcome(allocation, intent, outcome, reason)))

    def remember(self, key: str, value: object | None) -> None:
        """Keep this over a restart in place of what was kept under the key; None forgets it."""
        self._add(_Queued(Memory(key, value)))

    async def tend(self) -> Head | None:
        """Cut off what is too old or too much; returns the head, None while that does not work.

        Damage that is met is in `damage` from then on, and nothing is cut.
        """
        try:
            return await self._execute(self._tended)
        except ERRORS:
            return None  # the next commit tells what is wrong, and it is tried again
        except DAMAGE as error:
            self.damage = message(error)  # an old row; what is new can be written all the same
            return None

    def _tended(self) -> Head:
        while prune(self._file, wall=self._wall()):
            pass
        return self._file.head

    def _add(self, queued: _Queued) -> None:
        self._queue.append(queued)
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(None if self.problem is None else RETRY_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                pass  # it did not work a second ago: now again
            self._wanted.clear()
            closing, batch, self._queue = self._closing, self._queue, []
            await self._commit([each for each in batch if each.written is None or not each.written.done()])
            if closing and (self.problem is not None or not self._queue):
                return

    async def _commit(self, batch: list[_Queued]) -> None:
        if not batch and self.problem is None:
            return
        # After a failure there has to be something to write, or else success would say nothing.
        entries = [each.entry for each in batch] or [Memory("probe", self._wall()), Memory("probe", None)]
        try:
            numbers = await self._execute(lambda: self._file.write(entries, self._wall()))
        except sqlite3.IntegrityError:
            raise  # two open intents for one allocation: a bug of ours, and no trouble of the disk
        except ERRORS as error:
            if is_damage(error):
                await self._damaged(message(error))
            self._failed(batch, message(error))
            return
        for each, number in zip(batch, numbers, strict=False):
            if each.written is not None and not each.written.done():
                each.written.set_result(number)
        if self.problem is not None:
            self.problem = None
            self.on_change(None)

    async def _damaged(self, reason: str) -> NoReturn:
        kept = await self._execute(lambda: self._file.set_aside(self._wall()))
        raise AllocsyncError(
            f"{self._file.path}: the journal is damaged: {reason}. It is kept as {kept.name}. Started again, "
            "allocsync begins a new one, and sends nothing for a while"
        )

    def _failed(self, batch: list[_Queued], reason: str) -> None:
        """Refuse the intents; all else waits, of each memory only the newest."""
        newest: dict[str, _Queued] = {}
        waiting: list[_Queued] = []
        for each in [*batch, *self._queue]:
            if isinstance(each.entry, Memory):
                newest[each.entry.key] = each
            elif each.written is None:
                waiting.append(each)
            elif not each.written.done():
                each.written.set_exception(JournalUnavailable(reason))
        self._queue = [*waiting, *newest.values()]
        if self.problem != reason:
            self.problem = reason
            self.on_change(reason)
